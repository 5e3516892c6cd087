// A chain of residual dense blocks over a whole image, as a wavefront of tile rows.
//
// A dense block's five convolutions all read the block's input and what the earlier ones gave.
// Each of these feature maps is transformed once ("V", the Winograd tiles) and read by all later
// convolutions of the block, so no concatenation exists. V is 2.25 times the size of the pixels,
// too much to keep for the whole image, so the layers run staggered: layer L works one or two
// groups of tile rows behind layer L - 1, and each map's V lives in a ring of as many groups as lie
// between the layer that makes it and the last one that reads it (and in a thread's own scratch
// where these are one). The rings run on from one block into the next, so no thread ever idles
// between blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"
#include "packing.h"
#include "schedule.h"
#include "tiling.h"

namespace esrgan {

constexpr int kLayers = 5;

struct PackedConvolution {
  const float* weights;
  const float* bias;
};

struct TrunkShape {
  int nf, gc;
  int blocks;                 // dense blocks
  bool residual_in_residual;  // every third block closes an RRDB
  float negative_slope, residual_scale;
};

// How the layers follow each other down the image.
struct Stagger {
  int lag[kLayers];    // groups behind the first layer
  int order[kLayers];  // of the layers' tasks within a step, in which each layer does one group
};

class Trunk {
 public:
  // `layers`: five a block. Tiles are cut for `threads` threads (no influence on the result).
  Trunk(const TrunkShape& shape, int height, int width, int threads, const Kernels& kernels,
        std::vector<PackedConvolution> layers);

  // The trunk's input, to be written by whoever feeds the trunk; with RRDBs also its output.
  // The margins of both maps are the feeder's business too.
  FeatureMap& image() { return image_; }
  // What blocks within an RRDB work on; free once the trunk has finished.
  FeatureMap& inner() { return inner_; }
  const Tiling& tiling() const { return tiling_; }
  std::size_t scratch_v_floats() const;
  std::size_t scratch_m_floats() const;

  // Writes the last block's output to channels-last pixels without padding.
  void write_to(float* out) { out_ = out; }

  // `source`: the stage that writes image(), in groups of this trunk's tiling.
  void append_to(Schedule& schedule, int source);
  // Stage whose groups are the trunk's output.
  int last_stage() const { return first_stage_ + shape_.blocks * kLayers - 1; }
  bool owns(int stage) const { return stage >= first_stage_ && stage <= last_stage(); }

  Waits waits(int stage, int group) const;
  void work(const Task& task, Scratch& scratch) const;
  std::int64_t cost(const Task& task) const;

 private:
  struct Position {
    int block, layer;
  };
  Position position(int stage) const {
    return {(stage - first_stage_) / kLayers, (stage - first_stage_) % kLayers};
  }
  int stage(int block, int layer) const { return first_stage_ + block * kLayers + layer; }
  // Adds waits for the groups that come `from` to `to` before (block, group), counted through
  // all blocks.
  void wait_back(Waits& waits, int block, int layer, int group, int from, int to) const;
  // V of the map that `layer` transforms, which is what it adds to the input of the layer before.
  TilesView tiles_of(const Task& task, Position at, int layer, const Scratch& scratch) const;
  int segments_of(int layer) const {
    return (layer == 0 ? shape_.nf : shape_.gc) / kernels_.segment_channels;
  }
  const FeatureMap& source_of(int block, int layer) const;
  // Row y of growth map `layer` during `block`.
  float* growth_row(int block, int layer, int y) const;
  void transform_input(const Task& task, Position at, const Scratch& scratch) const;
  void transform_output(const Task& task, Position at, const float* m) const;

  TrunkShape shape_;
  const Kernels& kernels_;
  std::vector<PackedConvolution> layers_;
  Tiling tiling_;
  FeatureMap image_, inner_;
  FeatureMap growth_[kLayers - 1];
  float* out_ = nullptr;
  int source_ = -1, first_stage_ = 0;

  const Stagger* stagger_;
  int growth_groups_[kLayers - 1] = {};  // that a growth map keeps
  struct Ring {
    int slots;
    std::ptrdiff_t offset, slot_stride, part_stride;
  };
  Ring rings_[kLayers - 1] = {};  // of what each layer but the last transforms
  std::ptrdiff_t point_stride_ = 0, segment_stride_ = 0, product_stride_ = 0;
  Buffer tiles_;
};

}  // namespace esrgan

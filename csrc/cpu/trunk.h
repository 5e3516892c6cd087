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
//
// In a wide image the rings would not fit the cores' share of the last-level cache. A block then
// works through the image in stripes of tile columns, one after the other, each as a wavefront from
// top to bottom. A layer cannot go quite as far to the right as the one before it, since it reads
// one pixel further, so every layer's stripe ends one tile further left than the layer before, and
// begins as much further left where the next one takes up. Nothing is computed twice but the
// transforms of those few tiles; what the next stripe reads of this one's growth maps is a seam,
// kept from top to bottom.
#pragma once

#include <cstdint>
#include <vector>

#include "layout.h"
#include "memory.h"
#include "schedule.h"
#include "tiling.h"

namespace esrgan {

constexpr int kLayers = 5;

struct TrunkShape {
  int nf, gc;
  int blocks;                 // dense blocks
  bool residual_in_residual;  // every third block closes an RRDB; without, there is one block
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
  FeatureMap& image() { return image_; }
  // Of all maps as large as the image, by the feeder too, before it writes these rows.
  void clear_margins(int first_row, int last_row);
  // What blocks within an RRDB work on; free once the trunk has finished.
  FeatureMap& inner() { return inner_; }
  // The groups of image(), for whoever writes and reads it: stripes are the trunk's own.
  const Tiling& tiling() const { return tiling_; }
  // That groups are cut into, for threads to keep to.
  int parts() const { return stripes_[0].tiling.parts; }
  std::size_t scratch_v_floats() const;
  std::size_t scratch_m_floats() const;

  // Writes the last block's output to channels-last pixels without padding.
  void write_to(float* out) { out_ = out; }

  // `source`: the stage that writes image(), in groups of this trunk's tiling.
  void append_to(Schedule& schedule, int source);
  bool owns(int stage) const {
    return stage >= first_stage_ && stage < this->stage(shape_.blocks, 0, 0);
  }
  // Waits for groups first..last of the trunk's output.
  void wait_for_output(Waits& waits, int first, int last) const;

  Waits waits(int stage, int group) const;
  void work(const Task& task, Scratch& scratch) const;
  std::int64_t cost(const Task& task) const;

 private:
  // Tile columns, from the first one that any layer reads.
  struct Stripe {
    int first_column;  // in the image
    Tiling tiling;
    int begin[kLayers], end[kLayers];  // columns that each layer gives
  };
  struct Position {
    int block, stripe, layer;
  };
  int stripes() const { return static_cast<int>(stripes_.size()); }
  Position position(int stage) const {
    const int i = stage - first_stage_;
    return {i / kLayers / stripes(), i / kLayers % stripes(), i % kLayers};
  }
  int stage(int block, int stripe, int layer) const {
    return first_stage_ + (block * stripes() + stripe) * kLayers + layer;
  }
  // Counts the groups that a layer does, through all stripes and blocks: rings run over these.
  int turn(Position at, int group) const {
    return (at.block * stripes() + at.stripe) * tiling_.groups() + group;
  }
  // The tiles of a task's part that its layer gives.
  struct Outputs {
    int offset, tiles;
  };
  Outputs outputs_of(const Task& task, Position at) const;
  void cut_stripes(int height, int width, int threads);
  void balance_parts(Stripe& stripe) const;
  // Waits for the groups of `layer` that come `from` to `to` turns before this one.
  void wait_back(Waits& waits, Position at, int layer, int group, int from, int to) const;
  // Waits for groups first..last of a block's output as far as a stripe of the next block reads it.
  void wait_for_block(Waits& waits, int block, int stripe, int first, int last) const;
  // V of the map that `layer` transforms, which is what it adds to the input of the layer before.
  TilesView tiles_of(const Task& task, Position at, int layer, const Scratch& scratch) const;
  int segments_of(int layer) const {
    return (layer == 0 ? shape_.nf : shape_.gc) / kernels_.segment_channels;
  }
  // Multiplications at each tap of a layer's filter.
  std::int64_t products_of(int layer) const {
    return std::int64_t{shape_.nf + layer * shape_.gc} *
           (layer == kLayers - 1 ? shape_.nf : shape_.gc);
  }
  const FeatureMap& input_of_block(int block) const;
  const FeatureMap& output_of_block(int block) const;
  bool in_place(int block) const;
  // Row y of a growth map while this stripe of this block is worked on.
  float* growth_row(Position at, int layer, int y) const;
  void transform_input(const Task& task, Position at, const Scratch& scratch) const;
  // A block that works in place overwrites one column of pixels that the next stripe still reads:
  // puts it aside, and transforms the tile that it belongs to.
  void keep_overwritten(const Task& task, Position at) const;
  void transform_overwritten(int tile_row, int stripe, TilesView out) const;
  // Calls visit(OutputTransform) for each run of tiles that the task's layer gives.
  template <class Visit>
  void for_each_output(const Task& task, Position at, const float* m, const Visit& visit) const;
  // Lets the last layer's product fetch the pixels that the first layer transforms next. They were
  // last touched a block ago, so they come from far away.
  void fetch_next_input(const Task& task, Position at, Multiply& m) const;
  // Completes growth map rows beside the stripe, and keeps what the next stripe needs of them.
  void join_stripes(const Task& task, Position at) const;

  TrunkShape shape_;
  const Kernels& kernels_;
  std::vector<PackedConvolution> layers_;
  Tiling tiling_;
  std::vector<Stripe> stripes_;
  FeatureMap image_, inner_;
  std::vector<Buffer> overwritten_;             // a column of pixels between neighbouring stripes
  FeatureMap growth_[kLayers - 1];              // as wide as a stripe
  std::vector<FeatureMap> seams_[kLayers - 1];  // of the growth maps, between neighbouring stripes
  float* out_ = nullptr;
  int source_ = -1, first_stage_ = 0;

  const Stagger* stagger_;
  int growth_groups_[kLayers - 1] = {};  // that a growth map keeps
  struct Ring {
    int slots;
    std::ptrdiff_t offset, slot_stride;  // offset from the part's begin
  };
  Ring rings_[kLayers - 1] = {};  // of what each layer but the last transforms
  std::ptrdiff_t point_stride_ = 0, segment_stride_ = 0, product_stride_ = 0, part_stride_ = 0;
  Buffer tiles_;
};

}  // namespace esrgan

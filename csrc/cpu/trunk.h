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
// In a wide image the rings would not fit the cores' share of the last-level cache, so it is worked
// through in stripes (trunk_plan.h). What a stripe reads of the growth maps of the one before is a
// seam, kept from top to bottom.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"
#include "packed_layout.h"
#include "tiling.h"
#include "trunk_plan.h"

namespace esrgan::cpu {

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
  // The groups of image(), for whoever writes and reads it.
  const Tiling& tiling() const { return plan_.tiling(); }
  // That groups are cut into, for threads to keep to.
  int parts() const { return plan_.stripe(0).tiling.parts; }
  std::size_t scratch_v_floats() const;
  std::size_t scratch_m_floats() const;

  // Writes the last block's output to channels-last pixels without padding.
  void write_to(float* out) { out_ = out; }

  // `source`: the stage that writes image(), in groups of this trunk's tiling.
  void append_to(Schedule& schedule, int source) { plan_.append_to(schedule, source); }
  bool owns(int stage) const { return plan_.owns(stage); }
  void wait_for_output(Waits& waits, int first, int last) const {
    plan_.wait_for_output(waits, first, last);
  }
  Waits waits(int stage, int group) const { return plan_.waits(stage, group); }
  std::int64_t cost(const Task& task) const { return plan_.cost(task); }
  void work(const Task& task, Scratch& scratch) const;

 private:
  using Position = TrunkPlan::Position;
  using Stripe = TrunkPlan::Stripe;
  // V of the map that `layer` transforms, which is what it adds to the input of the layer before.
  TilesView tiles_of(const Task& task, Position at, int layer, const Scratch& scratch) const;
  int segments_of(int layer) const {
    return (layer == 0 ? shape_.nf : shape_.gc) / kernels_.segment_channels;
  }
  const FeatureMap& input_of_block(int block) const;
  const FeatureMap& output_of_block(int block) const;
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
  TrunkPlan plan_;
  const Kernels& kernels_;
  std::vector<PackedConvolution> layers_;
  FeatureMap image_, inner_;
  std::vector<Buffer> overwritten_;             // a column of pixels between neighbouring stripes
  FeatureMap growth_[kLayers - 1];              // as wide as a stripe
  std::vector<FeatureMap> seams_[kLayers - 1];  // of the growth maps, between neighbouring stripes
  float* out_ = nullptr;

  struct Ring {
    int slots;
    std::ptrdiff_t offset, slot_stride;  // offset from the part's begin
  };
  Ring rings_[kLayers - 1] = {};  // of what each layer but the last transforms
  std::ptrdiff_t point_stride_ = 0, segment_stride_ = 0, product_stride_ = 0, part_stride_ = 0;
  Buffer tiles_;
};

}  // namespace esrgan::cpu

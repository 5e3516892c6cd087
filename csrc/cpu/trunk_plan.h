// How the trunk's work is cut and in which order it may be done: policy, no pixels.
//
// The layers of a chain of residual dense blocks run staggered down the image: layer L works one or
// two groups of tile rows behind layer L - 1, through all blocks without a pause. Which rows and
// columns each task gives, what it waits for and how long its output has to stay are here.
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

#include "schedule.h"
#include "tiling.h"

namespace esrgan::cpu {

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

class TrunkPlan {
 public:
  // Tile columns, from the first one that any layer reads.
  struct Stripe {
    int first_column;  // in the image
    Tiling tiling;
    int begin[kLayers], end[kLayers];  // columns that each layer gives
  };
  struct Position {
    int block, stripe, layer;
  };
  // Tiles of a task's part.
  struct Tiles {
    int offset, tiles;
  };
  // Groups of tile rows of one stripe of one block.
  struct Place {
    int block, stripe, group;
  };

  // Tiles are cut for `threads` threads (no influence on the result).
  TrunkPlan(const TrunkShape& shape, int height, int width, int threads);

  // The groups of the trunk's input and output: stripes are its own.
  const Tiling& tiling() const { return tiling_; }
  int stripes() const { return static_cast<int>(stripes_.size()); }
  const Stripe& stripe(int i) const { return stripes_[i]; }
  int rows_per_group() const { return tiling_.rows_per_group * kTileOutput; }  // of pixels
  // The largest of any stripe.
  int most_columns() const;
  int most_part_tiles() const;
  int most_parts() const;

  // Adds the trunk's stages and tasks. `source`: the stage that gives its input, in groups of
  // `tiling`.
  void append_to(Schedule& schedule, int source);
  bool owns(int stage) const {
    return stage >= first_stage_ && stage < this->stage(shape_.blocks, 0, 0);
  }
  Position position(int stage) const {
    const int i = stage - first_stage_;
    return {i / kLayers / stripes(), i / kLayers % stripes(), i % kLayers};
  }
  // Counts the groups that a layer does, through all stripes and blocks: rings run over these.
  int turn(Position at, int group) const {
    return (at.block * stripes() + at.stripe) * tiling_.groups() + group;
  }
  Waits waits(int stage, int group) const;
  // Waits for groups first..last of the trunk's output.
  void wait_for_output(Waits& waits, int first, int last) const;
  std::int64_t cost(const Task& task) const;
  // The tiles of a task's part that its layer gives.
  Tiles outputs_of(const Task& task, Position at) const;

  // Of V of what a layer but the last transforms: how many groups of it are kept.
  int ring_slots(int layer) const;
  // The same of a growth map's pixels.
  int growth_groups(int layer) const { return stagger_->lag[layer + 1] - stagger_->lag[layer] + 3; }
  // A block that reads and writes the same map.
  bool in_place(int block) const { return shape_.residual_in_residual && block % 3 == 1; }
  // What the first layer transforms in the step after this task of the last layer; false where
  // that layer is through.
  bool next_input(const Task& task, Position at, Place& place) const;

 private:
  int stage(int block, int stripe, int layer) const {
    return first_stage_ + (block * stripes() + stripe) * kLayers + layer;
  }
  void cut_stripes(int height, int width, int threads);
  void balance_parts(Stripe& stripe) const;
  // Waits for the groups of `layer` that come `from` to `to` turns before this one.
  void wait_back(Waits& waits, Position at, int layer, int group, int from, int to) const;
  // Waits for groups first..last of a block's output as far as a stripe of the next block reads it.
  void wait_for_block(Waits& waits, int block, int stripe, int first, int last) const;
  // Multiplications at each tap of a layer's filter.
  std::int64_t products_of(int layer) const {
    return std::int64_t{shape_.nf + layer * shape_.gc} *
           (layer == kLayers - 1 ? shape_.nf : shape_.gc);
  }

  TrunkShape shape_;
  Tiling tiling_;
  std::vector<Stripe> stripes_;
  const Stagger* stagger_;
  int source_ = -1, first_stage_ = 0;
};

}  // namespace esrgan::cpu

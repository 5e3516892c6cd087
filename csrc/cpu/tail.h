// Everything after the trunk: upsampling convolutions, conv_hr, conv_last.
//
// The activations here have up to 64 times the pixels of the trunk's, so no layer's whole output
// ever exists: the layers follow each other down the image, each a few tile rows behind the one
// before, and keep only the rows that the next one still reads.
#pragma once

#include <vector>

#include "network.h"
#include "tiling.h"
#include "trunk.h"

namespace esrgan::cpu {

class Tail {
 public:
  // `queues`: that tasks are dealt to. `layers`: the upsampling convolutions, conv_hr, conv_last.
  Tail(const NetworkShape& shape, int height, int width, int queues, const Kernels& kernels,
       std::vector<PackedConvolution> layers, const ImageView& out);

  // `source` writes `in` in groups of `source_rows` rows.
  void append_to(Schedule& schedule, const FeatureMap& in, int source, int source_rows);
  bool owns(int stage) const { return stage >= first_stage_; }
  int last_stage() const { return first_stage_ + static_cast<int>(steps_.size()) - 1; }
  std::size_t scratch_v_floats() const;
  std::size_t scratch_m_floats() const;

  Waits waits(int stage, int group) const;
  void work(const Task& task, Scratch& scratch) const;
  std::int64_t cost(const Task& task) const;
  // Output rows that are finished when the first `groups` groups of the last stage are.
  int rows_of(int groups) const;

 private:
  enum class Kind { kUpsample, kConvolution, kLast };
  struct Step {
    Kind kind;
    PackedConvolution layer;
    Tiling tiling;
    const FeatureMap* in = nullptr;
    FeatureMap out;  // none for kLast
    // Pixels of `in` from one tile to the next.
    int pixels() const { return kind == Kind::kUpsample ? kUpsampleTileOutput : kTileOutput; }
  };
  struct Rows {
    int first, last;  // inclusive
  };
  Rows reads(const Step& step, int group) const;
  // Groups of step i (or of the source, -1) that write these rows.
  Rows writers(int i, Rows rows) const;
  void append_through(Schedule& schedule, std::vector<int>& appended, int step, int group) const;
  void upsample(const Step& step, const Task& task, Scratch& scratch) const;
  void convolve(const Step& step, const Task& task, Scratch& scratch) const;
  void finish(const Step& step, const Task& task) const;
  void transform_input(const Step& step, const Task& task, Scratch& scratch) const;
  // Lets the product fetch the pixels of the next part, if that comes next in the same queue.
  void fetch_next_input(const Step& step, const Task& task, Multiply& m) const;
  Multiply product(const Step& step, const Task& task, const Scratch& scratch) const;

  NetworkShape shape_;
  int queues_;
  const Kernels& kernels_;
  ImageView out_;
  std::vector<Step> steps_;
  int source_ = -1, source_rows_ = 1, first_stage_ = 0;
  std::ptrdiff_t point_stride_ = 0, segment_stride_ = 0, product_stride_ = 0;
};

}  // namespace esrgan::cpu

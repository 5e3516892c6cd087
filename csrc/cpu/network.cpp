#include "network.h"

#include <algorithm>
#include <vector>

#include "packed_layout.h"
#include "planes.h"
#include "tail.h"
#include "trunk.h"

namespace esrgan::cpu {
namespace {

const Kernels& kernels_of(int gc) { return kernels_for(gc == 16 ? 16 : 32); }

bool supported_width(int nf, int gc) { return (nf == 32 || nf == 64) && (gc == 16 || gc == 32); }

void add_dense_block(PackedLayout& layout, int nf, int gc) {
  for (int layer = 0; layer < kLayers; ++layer)
    layout.add(Form::kWinograd, nf + layer * gc, layer < kLayers - 1 ? gc : nf);
}

PackedLayout layout_of(const NetworkShape& s) {
  PackedLayout layout;
  layout.add(Form::kFirst, s.in_channels, s.nf);
  for (int i = 0; i < 3 * s.rrdbs; ++i) add_dense_block(layout, s.nf, s.gc);
  layout.add(Form::kWinograd, s.nf, s.nf);
  for (int i = 0; i < s.upsamplings; ++i) layout.add(Form::kUpsample, s.nf, s.nf);
  layout.add(Form::kWinograd, s.nf, s.nf);
  layout.add(Form::kLast, s.nf, s.out_channels);
  return layout;
}

PackedLayout layout_of(const DenseBlockShape& s) {
  PackedLayout layout;
  add_dense_block(layout, s.nf, s.gc);
  return layout;
}

// conv_first, the trunk, conv_body, the tail.
class NetworkWork : public ScheduledWork {
 public:
  NetworkWork(const NetworkShape& shape, const float* packed, const ImageView& in,
              const ImageView& out, int threads)
      : shape_(shape),
        kernels_(kernels_of(shape.gc)),
        layout_(layout_of(shape)),
        first_(layout_.at(0, packed)),
        body_(layout_.at(1 + 15 * shape.rrdbs, packed)),
        planes_(in, shape.in_channels),
        trunk_({shape.nf, shape.gc, 3 * shape.rrdbs, true, kNegativeSlope, kResidualScale},
               in.height, in.width, threads, kernels_,
               layout_.range(1, 1 + 15 * shape.rrdbs, packed)),
        tail_(shape, in.height, in.width, std::min(threads, trunk_.parts()), kernels_,
              layout_.range(2 + 15 * shape.rrdbs, layout_.count(), packed), out),
        tiling_(trunk_.tiling()),
        scratch_(static_cast<std::size_t>(threads)) {
    const int tiles = tiling_.max_part_tiles();
    point_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * kernels_.segment_channels);
    segment_stride_ = kPoints * point_stride_ + kLineFloats;
    product_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * shape.nf);
    const int segments = shape.nf / kernels_.segment_channels;
    const std::size_t v = static_cast<std::size_t>(segments * segment_stride_ + point_stride_);
    const std::size_t m = static_cast<std::size_t>(kPoints * product_stride_);
    for (Scratch& scratch : scratch_) {
      scratch.v = Buffer(std::max({v, trunk_.scratch_v_floats(), tail_.scratch_v_floats()}));
      scratch.m = Buffer(std::max({m, trunk_.scratch_m_floats(), tail_.scratch_m_floats()}));
    }

    first_stage_ = schedule_.add_stage(tiling_.groups(), tiling_.parts);
    for (int group = 0; group < tiling_.groups(); ++group) schedule_.append(first_stage_, group);
    trunk_.append_to(schedule_, first_stage_);
    body_stage_ = schedule_.add_stage(tiling_.groups(), tiling_.parts);
    for (int group = 0; group < tiling_.groups(); ++group) schedule_.append(body_stage_, group);
    tail_.append_to(schedule_, trunk_.inner(), body_stage_, tiling_.rows_per_group * kTileOutput);
    schedule_.announce(tail_.last_stage());
    schedule_.split(trunk_.parts());
  }

  Schedule& schedule() { return schedule_; }

  Waits waits(int stage, int group) const override {
    if (trunk_.owns(stage)) return trunk_.waits(stage, group);
    if (tail_.owns(stage)) return tail_.waits(stage, group);
    Waits waits;
    if (stage == body_stage_) trunk_.wait_for_output(waits, group - 1, group + 1);
    return waits;
  }

  void run(const Task& task, int thread) override {
    Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
    if (trunk_.owns(task.stage)) trunk_.work(task, scratch);
    else if (tail_.owns(task.stage)) tail_.work(task, scratch);
    else if (task.stage == first_stage_) start(task);
    else convolve_body(task, scratch);
  }

  std::int64_t cost(const Task& task) const override {
    if (trunk_.owns(task.stage)) return trunk_.cost(task);
    if (tail_.owns(task.stage)) return tail_.cost(task);
    const std::int64_t inputs = task.stage == first_stage_ ? shape_.in_channels : shape_.nf;
    return tiling_.part_tiles(task.group, task.part) * std::int64_t{kTileOutput * kTileOutput * 9} *
           inputs * shape_.nf;
  }

  void finished(int, int groups, const Control& control) override {
    if (control.rows) control.rows->store(tail_.rows_of(groups), std::memory_order_release);
  }

 private:
  void start(const Task& task) {
    if (task.part == 0) {
      const int rows = tiling_.rows_per_group * kTileOutput;
      const int last = std::min((task.group + 1) * rows, trunk_.image().height()) - 1;
      trunk_.clear_margins(task.group * rows, last);
    }
    convolve_first(task, trunk_.image());
  }

  void convolve_first(const Task& task, FeatureMap& out) const {
    std::vector<const float*> rows;
    FirstConvolution f;
    f.in_channels = shape_.in_channels;
    f.out_channels = shape_.nf;
    f.weights = first_.weights;
    f.bias = first_.bias;
    f.slopes = nullptr;
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      const int column = run.first * kTileOutput;
      f.columns = std::min(run.tiles * kTileOutput, out.width() - column);
      const int end = std::min((run.tile_row + 1) * kTileOutput, out.height());
      for (int y = run.tile_row * kTileOutput; y < end; ++y) {
        planes_.rows(y, column, rows);
        f.rows = rows.data();
        f.out = out.row(y) + static_cast<std::ptrdiff_t>(column) * shape_.nf;
        kernels_.first_convolution(f);
      }
    });
  }

  // conv_body + conv_first's output, which is computed again: keeping it through the trunk would
  // take 256 bytes a pixel, computing it takes 0.1 % of the time.
  void convolve_body(const Task& task, Scratch& scratch) {
    const FeatureMap& in = trunk_.image();
    FeatureMap& out = trunk_.inner();
    convolve_first(task, out);
    const int channels = kernels_.segment_channels;
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      const TilesView tiles = {scratch.v.get() + static_cast<std::ptrdiff_t>(run.offset) * channels,
                               segment_stride_, point_stride_};
      kernels_.transform_input(input_of(in, run, kTileOutput, tiles));
    });
    Multiply m = {};
    m.add_input({scratch.v.get(), segment_stride_, point_stride_}, shape_.nf / channels);
    m.tiles = tiling_.part_tiles(task.group, task.part);
    if (m.tiles == 0) return;
    m.weights = body_.weights;
    m.outputs = shape_.nf;
    m.out = scratch.m.get();
    m.out_point_stride = product_stride_;
    kernels_.multiply(m);
    OutputTransform o = {};
    o.point_stride = product_stride_;
    o.in_channels = o.out_channels = shape_.nf;
    o.tile_output = kTileOutput;
    o.bias = body_.bias;
    o.scale = 1;
    o.columns = out.width();
    o.pixel_stride = o.residual_stride = shape_.nf;
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      o.in = scratch.m.get() + static_cast<std::ptrdiff_t>(run.offset) * shape_.nf;
      o.tiles = run.tiles;
      o.first_column = run.first * kTileOutput;
      for (int i = 0; i < kTileOutput; ++i) {
        const int y = run.tile_row * kTileOutput + i;
        o.rows[i] = y < out.height() ? out.row(y) : nullptr;
        o.inner[i] = o.rows[i];
      }
      kernels_.transform_output(o);
    });
  }

  NetworkShape shape_;
  const Kernels& kernels_;
  PackedLayout layout_;
  PackedConvolution first_, body_;
  Planes planes_;
  Trunk trunk_;
  Tail tail_;
  Tiling tiling_;
  std::vector<Scratch> scratch_;
  std::ptrdiff_t point_stride_, segment_stride_, product_stride_;
  Schedule schedule_;
  int first_stage_, body_stage_;
};

class DenseBlockWork : public ScheduledWork {
 public:
  DenseBlockWork(const DenseBlockShape& shape, const float* packed, const float* x, float* out,
                 int height, int width, int threads)
      : x_(x),
        trunk_({shape.nf, shape.gc, 1, false, shape.negative_slope, shape.residual_scale}, height,
               width, threads, kernels_of(shape.gc), layout_of(shape).range(0, kLayers, packed)),
        scratch_(static_cast<std::size_t>(threads)) {
    for (Scratch& scratch : scratch_) {
      scratch.v = Buffer(trunk_.scratch_v_floats());
      scratch.m = Buffer(trunk_.scratch_m_floats());
    }
    trunk_.write_to(out);
    const int groups = trunk_.tiling().groups();
    copy_stage_ = schedule_.add_stage(groups, 1);
    for (int group = 0; group < groups; ++group) schedule_.append(copy_stage_, group);
    trunk_.append_to(schedule_, copy_stage_);
    schedule_.split(trunk_.parts());
  }

  Schedule& schedule() { return schedule_; }

  Waits waits(int stage, int group) const override {
    return stage == copy_stage_ ? Waits{} : trunk_.waits(stage, group);
  }
  void run(const Task& task, int thread) override {
    if (task.stage != copy_stage_)
      return trunk_.work(task, scratch_[static_cast<std::size_t>(thread)]);
    FeatureMap& image = trunk_.image();
    const int rows = trunk_.tiling().rows_per_group * kTileOutput;
    const std::ptrdiff_t floats = static_cast<std::ptrdiff_t>(image.width()) * image.channels();
    const int end = std::min((task.group + 1) * rows, image.height());
    trunk_.clear_margins(task.group * rows, end - 1);
    for (int y = task.group * rows; y < end; ++y)
      std::copy(x_ + y * floats, x_ + (y + 1) * floats, image.row(y));
  }
  std::int64_t cost(const Task&) const override { return 0; }

 private:
  const float* x_;
  Trunk trunk_;
  std::vector<Scratch> scratch_;
  Schedule schedule_;
  int copy_stage_;
};

}  // namespace

const char* unsupported(const NetworkShape& s) {
  if (!supported_width(s.nf, s.gc)) return "nf must be 32 or 64 and gc 16 or 32";
  if (s.out_channels < 1 || s.out_channels > kMaxLastOutputs) return "more than 4 output channels";
  if (s.in_channels < 1 || s.in_channels > 64) return "more than 64 input channels";
  if (s.rrdbs < 0 || s.upsamplings < 0 || s.upsamplings > 5) return "more than 5 upsamplings";
  return nullptr;
}

const char* unsupported(const DenseBlockShape& s) {
  return supported_width(s.nf, s.gc) ? nullptr : "nf must be 32 or 64 and gc 16 or 32";
}

int convolution_count(const NetworkShape& s) { return 4 + 3 * kLayers * s.rrdbs + s.upsamplings; }

Channels convolution_channels(const NetworkShape& shape, int convolution) {
  const PackedLayout layout = layout_of(shape);
  return {layout[convolution].in_channels, layout[convolution].out_channels};
}

std::size_t packed_floats(const NetworkShape& shape) { return layout_of(shape).end(); }
std::size_t packed_floats(const DenseBlockShape& shape) { return layout_of(shape).end(); }

void pack(const NetworkShape& shape, const Convolution* convolutions, int threads, float* packed) {
  pack(layout_of(shape), kernels_of(shape.gc), convolutions, threads, packed);
}
void pack(const DenseBlockShape& shape, const Convolution* convolutions, int threads,
          float* packed) {
  pack(layout_of(shape), kernels_of(shape.gc), convolutions, threads, packed);
}

bool run(const NetworkShape& shape, const float* packed, const ImageView& in, const ImageView& out,
         int threads, const Control& control) {
  NetworkWork work(shape, packed, in, out, threads);
  return work.schedule().run(work, threads, control);
}

void run(const DenseBlockShape& shape, const float* packed, const float* x, float* out, int height,
         int width, int threads) {
  DenseBlockWork work(shape, packed, x, out, height, width, threads);
  work.schedule().run(work, threads, Control{});
}

}  // namespace esrgan::cpu

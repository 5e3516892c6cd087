#include "tail.h"

#include <algorithm>

namespace esrgan::cpu {
namespace {

// Rows of the large image that one tile row of an upsampling convolution writes: phase 0 gives
// rows 10t, 10t + 2, ..., 10t + 8, phase 1 rows 10t - 1, ..., 10t + 7.
constexpr int kUpsampleRows = 2 * kUpsampleTileOutput;

// conv_last takes as many rows a task as conv_hr gives.
constexpr int kLastRows = kTileOutput;
constexpr int kLastColumns = 256;  // pixels of a part: 64 KB of input, with its rows above in L2

// Rows kept of a map: a tile row's worth that is read (7), three that are written (10 each).
constexpr int kRowsKept = 7 + 3 * kUpsampleRows;

}  // namespace

Tail::Tail(const NetworkShape& shape, int height, int width, int queues, const Kernels& kernels,
           std::vector<PackedConvolution> layers, const ImageView& out)
    : shape_(shape), queues_(queues), kernels_(kernels), out_(out) {
  steps_.reserve(layers.size());  // steps point into each other
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Step step;
    step.layer = layers[i];
    if (i + 2 < layers.size()) {
      step.kind = Kind::kUpsample;
      // Phase 1 in front of the first and phase 0 behind the last: one output more than pixels.
      step.tiling = Tiling::of(height + 1, width + 1, kUpsampleTileOutput, 1, kTaskTiles);
      height *= 2;
      width *= 2;
    } else if (i + 1 < layers.size()) {
      step.kind = Kind::kConvolution;
      step.tiling = Tiling::of(height, width, kTileOutput, 1, kTaskTiles);
    } else {
      step.kind = Kind::kLast;
      step.tiling = Tiling::of(height, width, kLastRows, 1, kLastColumns / kLastRows);
    }
    if (step.kind != Kind::kLast) {
      step.out = FeatureMap(height, width, shape.nf, std::min(height, kRowsKept));
      step.out.clear_margins(0, step.out.rows_kept() - 1);
    }
    steps_.push_back(std::move(step));
    if (i > 0) steps_[i].in = &steps_[i - 1].out;
  }
  int tiles = 0;
  for (const Step& step : steps_)
    if (step.kind != Kind::kLast) tiles = std::max(tiles, step.tiling.max_part_tiles());
  point_stride_ = plane_stride(std::ptrdiff_t{tiles} * kernels.segment_channels);
  segment_stride_ = kPoints * point_stride_ + kLineFloats;
  product_stride_ = plane_stride(std::ptrdiff_t{tiles} * shape.nf);
}

std::size_t Tail::scratch_v_floats() const {
  const int segments = shape_.nf / kernels_.segment_channels;
  return static_cast<std::size_t>(segments * segment_stride_ + point_stride_);
}
std::size_t Tail::scratch_m_floats() const {
  return static_cast<std::size_t>(kPoints * product_stride_);
}

Tail::Rows Tail::reads(const Step& step, int group) const {
  const int height = step.in->height();
  return {std::max(0, group * step.pixels() - 1),
          std::min(height - 1, (group + 1) * step.pixels())};
}

Tail::Rows Tail::writers(int i, Rows rows) const {
  if (i < 0) return {rows.first / source_rows_, rows.last / source_rows_};
  if (steps_[i].kind == Kind::kUpsample)
    return {(rows.first + 1) / kUpsampleRows, (rows.last + 1) / kUpsampleRows};
  return {rows.first / kTileOutput, rows.last / kTileOutput};
}

void Tail::append_to(Schedule& schedule, const FeatureMap& in, int source, int source_rows) {
  steps_[0].in = &in;
  source_ = source;
  source_rows_ = source_rows;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const int stage = schedule.add_stage(steps_[i].tiling.groups(), steps_[i].tiling.parts);
    if (i == 0) first_stage_ = stage;
  }
  std::vector<int> appended(steps_.size(), 0);
  const int last = static_cast<int>(steps_.size()) - 1;
  append_through(schedule, appended, last, steps_[last].tiling.groups() - 1);
}

// Each group comes after those that it reads, and after one more, so that a thread need not wait
// for a task that was handed out just before.
void Tail::append_through(Schedule& schedule, std::vector<int>& appended, int i, int group) const {
  for (; appended[i] <= group; ++appended[i]) {
    if (i > 0) {
      const int needed = writers(i - 1, reads(steps_[i], appended[i])).last;
      append_through(schedule, appended, i - 1,
                     std::min(needed + 1, steps_[i - 1].tiling.groups() - 1));
    }
    schedule.append(first_stage_ + i, appended[i]);
  }
}

Waits Tail::waits(int stage, int group) const {
  const int i = stage - first_stage_;
  const Step& step = steps_[i];
  Waits waits;
  const Rows inputs = writers(i - 1, reads(step, group));
  waits.add(i == 0 ? source_ : stage - 1, inputs.first, inputs.last);
  if (step.kind == Kind::kLast) return waits;
  // The rows this group overwrites must have been read: by all groups of the next step whose own
  // rows (one more on each side of the tile) meet them.
  const int kept = step.out.rows_kept();
  const int rows = step.kind == Kind::kUpsample ? kUpsampleRows : kTileOutput;
  const int end = std::min((group + 1) * rows, step.out.height()) - 1 - kept;
  if (end < 0) return waits;
  const Step& reader = steps_[i + 1];
  waits.add(stage + 1, (end - rows) / reader.pixels() - 1, (end + 1) / reader.pixels());
  return waits;
}

void Tail::transform_input(const Step& step, const Task& task, Scratch& scratch) const {
  step.tiling.for_each_run(task.group, task.part, [&](const Run& run) {
    const TilesView out = {
        scratch.v.get() + static_cast<std::ptrdiff_t>(run.offset) * kernels_.segment_channels,
        segment_stride_, point_stride_};
    kernels_.transform_input(input_of(*step.in, run, step.pixels(), out));
  });
}

void Tail::fetch_next_input(const Step& step, const Task& task, Multiply& m) const {
  const int parts = step.tiling.parts, next = task.part + 1;
  if (next == parts || queue_of(next, parts, queues_) != queue_of(task.part, parts, queues_))
    return;
  step.tiling.for_each_run(
      task.group, next, [&](const Run& run) { fetch_input_of(*step.in, run, step.pixels(), m); });
}

Multiply Tail::product(const Step& step, const Task& task, const Scratch& scratch) const {
  Multiply m = {};
  m.add_input({scratch.v.get(), segment_stride_, point_stride_},
              shape_.nf / kernels_.segment_channels);
  m.tiles = step.tiling.part_tiles(task.group, task.part);
  m.weights = step.layer.weights;
  m.outputs = shape_.nf;
  m.out = scratch.m.get();
  m.out_point_stride = product_stride_;
  return m;
}

void Tail::upsample(const Step& step, const Task& task, Scratch& scratch) const {
  transform_input(step, task, scratch);
  Multiply m = product(step, task, scratch);
  OutputTransform o = {};
  o.point_stride = product_stride_;
  o.in_channels = o.out_channels = shape_.nf;
  o.tile_output = kUpsampleTileOutput;
  o.bias = step.layer.bias;
  o.activate = true;
  o.negative_slope = kNegativeSlope;
  o.columns = step.in->width();
  o.pixel_stride = 2 * static_cast<std::ptrdiff_t>(shape_.nf);
  for (int phase = 0; phase < 4; ++phase) {
    const int phase_y = phase / 2, phase_x = phase % 2;
    if (phase == 3) fetch_next_input(step, task, m);
    kernels_.multiply(m);
    m.weights += winograd_floats(shape_.nf, shape_.nf);
    step.tiling.for_each_run(task.group, task.part, [&](const Run& run) {
      o.in = scratch.m.get() + static_cast<std::ptrdiff_t>(run.offset) * shape_.nf;
      o.tiles = run.tiles;
      o.first_column = run.first * kUpsampleTileOutput - phase_x;
      for (int i = 0; i < kUpsampleTileOutput; ++i) {
        const int y = run.tile_row * kUpsampleTileOutput - phase_y + i;
        const bool inside = y >= 0 && y < step.in->height();
        o.rows[i] = inside ? step.out.row(2 * y + phase_y) + phase_x * shape_.nf : nullptr;
      }
      kernels_.transform_output(o);
    });
  }
}

void Tail::convolve(const Step& step, const Task& task, Scratch& scratch) const {
  transform_input(step, task, scratch);
  Multiply m = product(step, task, scratch);
  fetch_next_input(step, task, m);
  kernels_.multiply(m);
  OutputTransform o = {};
  o.point_stride = product_stride_;
  o.in_channels = o.out_channels = shape_.nf;
  o.tile_output = kTileOutput;
  o.bias = step.layer.bias;
  o.activate = true;
  o.negative_slope = kNegativeSlope;
  o.columns = step.out.width();
  o.pixel_stride = shape_.nf;
  step.tiling.for_each_run(task.group, task.part, [&](const Run& run) {
    o.in = scratch.m.get() + static_cast<std::ptrdiff_t>(run.offset) * shape_.nf;
    o.tiles = run.tiles;
    o.first_column = run.first * kTileOutput;
    for (int i = 0; i < kTileOutput; ++i) {
      const int y = run.tile_row * kTileOutput + i;
      o.rows[i] = y < step.out.height() ? step.out.row(y) : nullptr;
    }
    kernels_.transform_output(o);
  });
}

void Tail::finish(const Step& step, const Task& task) const {
  LastConvolution l;
  l.in_channels = shape_.nf;
  l.out_channels = shape_.out_channels;
  l.weights = step.layer.weights;
  l.bias = step.layer.bias;
  l.channel_stride = out_.channel_stride;
  l.column_stride = out_.column_stride;
  step.tiling.for_each_run(task.group, task.part, [&](const Run& run) {
    const int column = run.first * kLastRows;
    l.columns = std::min(run.tiles * kLastRows, out_.width - column);
    const int end = std::min((run.tile_row + 1) * kLastRows, out_.height);
    for (int y = run.tile_row * kLastRows; y < end; ++y) {
      for (int i = 0; i < 3; ++i)
        l.rows[i] =
            step.in->row_or_zeros(y - 1 + i) + static_cast<std::ptrdiff_t>(column) * shape_.nf;
      l.out = out_.data + y * out_.row_stride + column * out_.column_stride;
      kernels_.last_convolution(l);
    }
  });
}

void Tail::work(const Task& task, Scratch& scratch) const {
  const Step& step = steps_[task.stage - first_stage_];
  if (step.tiling.part_tiles(task.group, task.part) == 0) return;
  switch (step.kind) {
    case Kind::kUpsample:
      return upsample(step, task, scratch);
    case Kind::kConvolution:
      return convolve(step, task, scratch);
    case Kind::kLast:
      return finish(step, task);
  }
}

std::int64_t Tail::cost(const Task& task) const {
  const Step& step = steps_[task.stage - first_stage_];
  const std::int64_t tiles = step.tiling.part_tiles(task.group, task.part);
  const std::int64_t nf = shape_.nf;
  switch (step.kind) {
    case Kind::kUpsample:
      return tiles * kUpsampleRows * kUpsampleRows * 9 * nf * nf;
    case Kind::kConvolution:
      return tiles * kTileOutput * kTileOutput * 9 * nf * nf;
    case Kind::kLast:
      return tiles * kLastRows * kLastRows * 9 * nf * shape_.out_channels;
  }
  return 0;
}

int Tail::rows_of(int groups) const { return std::min(groups * kLastRows, out_.height); }

}  // namespace esrgan::cpu

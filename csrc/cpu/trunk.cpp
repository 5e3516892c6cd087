#include "trunk.h"

#include <algorithm>

namespace esrgan {
namespace {

// Groups between a layer and the next one: one for the filter's reach and, where a group has fewer
// tasks than there are threads, one more so that no thread waits for a task handed out just before.
int lag_of(const Tiling& tiling, int threads) { return tiling.parts >= threads ? 1 : 2; }

// Every layer has a group in work at once; with more threads than layers the groups have to be
// larger, so that there are at least two tasks a thread.
int group_tiles(int threads) {
  return kTaskTiles * std::max(1, (2 * threads + kLayers - 1) / kLayers);
}

}  // namespace

Trunk::Trunk(const TrunkShape& shape, int height, int width, int threads, const Kernels& kernels,
             std::vector<PackedConvolution> layers)
    : shape_(shape), kernels_(kernels), layers_(std::move(layers)) {
  const int columns = (width + kTileOutput - 1) / kTileOutput;
  const int rows = std::max(1, (group_tiles(threads) + columns / 2) / columns);
  tiling_ = Tiling::of(height, width, kTileOutput, rows, kTaskTiles);
  lag_ = lag_of(tiling_, threads);
  image_ = FeatureMap(height, width, shape.nf, height);
  if (shape.residual_in_residual) inner_ = FeatureMap(height, width, shape.nf, height);
  if (shape.blocks == 0) return;

  // A growth map's rows are read one group up and down, `lag_` groups later.
  growth_groups_ = lag_ + 3;
  const int growth_rows = growth_groups_ * tiling_.rows_per_group * kTileOutput;
  for (FeatureMap& map : growth_) {
    map = FeatureMap(height, width, shape.gc, growth_rows);
    map.clear_margins(0, growth_rows - 1);
  }

  const int channels = shape.nf + (kLayers - 1) * shape.gc;
  const int segments = channels / kernels.segment_channels;
  const int tiles = tiling_.max_part_tiles();
  // A group's V is made by layer 0 and read until layer 4 is done, 4 lags later; one more group so
  // that the writer need not wait for a reader that runs beside it.
  slots_ = std::min((kLayers - 1) * lag_ + 2, shape.blocks * tiling_.groups());
  point_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * kernels.segment_channels);
  segment_stride_ = kPoints * point_stride_ + kLineFloats;
  part_stride_ = segments * segment_stride_;
  slot_stride_ = tiling_.parts * part_stride_;
  // The prefetches of the last plane reach one plane further.
  tiles_ = Buffer(static_cast<std::size_t>(slots_ * slot_stride_ + point_stride_));
  product_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * shape.nf);
}

std::size_t Trunk::scratch_floats() const {
  return static_cast<std::size_t>(kPoints * product_stride_);
}

void Trunk::append_to(Schedule& schedule, int source) {
  source_ = source;
  const int groups = tiling_.groups();
  for (int i = 0; i < shape_.blocks * kLayers; ++i) {
    const int added = schedule.add_stage(groups, tiling_.parts);
    if (i == 0) first_stage_ = added;
  }
  // The next block's first layer reads what the last layer of this one wrote up to one group
  // further down, so a block lasts at least this many steps even in an image of fewer groups.
  const int steps = std::max(groups, (kLayers - 1) * lag_ + 2);
  const int all = shape_.blocks * steps + (kLayers - 1) * lag_;
  for (int step = 0; step < all; ++step) {
    for (int layer = 0; layer < kLayers; ++layer) {
      const int at = step - lag_ * layer;
      if (at < 0 || at >= shape_.blocks * steps || at % steps >= groups) continue;
      schedule.append(stage(at / steps, layer), at % steps);
    }
  }
}

void Trunk::wait_back(Waits& waits, int block, int layer, int group, int from, int to) const {
  const int groups = tiling_.groups();
  const int here = block * groups + group;
  for (int at = std::max(0, here - from); at <= here - to;) {
    const int first = at % groups;
    const int last = std::min(groups - 1, first + here - to - at);
    waits.add(stage(at / groups, layer), first, last);
    at += last - first + 1;
  }
}

Waits Trunk::waits(int stage_number, int group) const {
  const Position at = position(stage_number);
  Waits waits;
  const int before = stage_number == first_stage_ ? source_ : stage_number - 1;
  waits.add(before, group - 1, group + 1);
  // A slot of the ring is free when its last reader is done, which has itself waited for the
  // others; rows of a growth map when the next layer is done with the groups on both sides too.
  // image() and inner() are written in place: whatever reads their old rows is done, because
  // this layer's input depends on it.
  if (at.layer == 0) wait_back(waits, at.block, kLayers - 1, group, slots_, slots_);
  if (at.layer < kLayers - 1)
    wait_back(waits, at.block, at.layer + 1, group, growth_groups_ + 1, growth_groups_ - 1);
  return waits;
}

TilesView Trunk::tiles_of(int block, int group, int part, int segment) const {
  const int slot = (block * tiling_.groups() + group) % slots_;
  return {tiles_.get() + slot * slot_stride_ + part * part_stride_ + segment * segment_stride_,
          segment_stride_, point_stride_};
}

// The three blocks of an RRDB: image -> inner, inner -> inner, inner -> image (+ image).
const FeatureMap& Trunk::source_of(int block, int layer) const {
  if (layer > 0) return growth_[layer - 1];
  return block % 3 == 0 || !shape_.residual_in_residual ? image_ : inner_;
}

float* Trunk::growth_row(int block, int layer, int y) const {
  const std::int64_t rows =
      static_cast<std::int64_t>(tiling_.groups()) * tiling_.rows_per_group * kTileOutput;
  return growth_[layer].row(block * rows + y);
}

void Trunk::transform_input(const Task& task, Position at) const {
  const FeatureMap& map = source_of(at.block, at.layer);
  const int channels = kernels_.segment_channels;
  const int segment = at.layer == 0 ? 0 : (shape_.nf + (at.layer - 1) * shape_.gc) / channels;
  const TilesView tiles = tiles_of(at.block, task.group, task.part, segment);
  tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
    TilesView out = tiles;
    out.data += static_cast<std::ptrdiff_t>(run.offset) * channels;
    InputTransform in = input_of(map, run, kTileOutput, out);
    if (at.layer > 0) {
      for (int i = 0; i < kTileInput; ++i) {
        const int y = run.tile_row * kTileOutput - 1 + i;
        const float* row =
            y < 0 || y >= map.height() ? map.zeros() : growth_row(at.block, at.layer - 1, y);
        in.rows[i] =
            row + (static_cast<std::ptrdiff_t>(run.first) * kTileOutput - 1) * map.channels();
      }
    }
    kernels_.transform_input(in);
  });
}

void Trunk::transform_output(const Task& task, Position at, const float* m) const {
  const bool last = at.layer == kLayers - 1;
  OutputTransform o = {};
  o.point_stride = product_stride_;
  o.in_channels = o.out_channels = last ? shape_.nf : shape_.gc;
  o.tile_output = kTileOutput;
  o.bias = layers_[at.block * kLayers + at.layer].bias;
  o.activate = !last;
  o.negative_slope = shape_.negative_slope;
  o.scale = o.outer_scale = shape_.residual_scale;
  o.columns = image_.width();
  o.pixel_stride = o.residual_stride = last ? shape_.nf : shape_.gc;
  const bool rrdb = shape_.residual_in_residual;
  const bool closes = last && rrdb && at.block % 3 == 2;
  const FeatureMap& source = source_of(at.block, 0);
  const FeatureMap& target = closes || !rrdb ? image_ : inner_;
  tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
    o.in = m + static_cast<std::ptrdiff_t>(run.offset) * o.in_channels;
    o.tiles = run.tiles;
    o.first_column = run.first * kTileOutput;
    for (int i = 0; i < kTileOutput; ++i) {
      const int y = run.tile_row * kTileOutput + i;
      const bool inside = y < image_.height();
      o.inner[i] = last && inside ? source.row(y) : nullptr;
      o.outer[i] = closes && inside ? image_.row(y) : nullptr;
      if (!inside) o.rows[i] = nullptr;
      else if (!last) o.rows[i] = growth_row(at.block, at.layer, y);
      else if (out_ && at.block == shape_.blocks - 1)
        o.rows[i] = out_ + static_cast<std::ptrdiff_t>(y) * image_.width() * shape_.nf;
      else o.rows[i] = target.row(y);
    }
    kernels_.transform_output(o);
  });
}

void Trunk::work(const Task& task, Scratch& scratch) const {
  const Position at = position(task.stage);
  const int tiles = tiling_.part_tiles(task.group, task.part);
  if (tiles == 0) return;
  transform_input(task, at);
  Multiply m;
  m.in = tiles_of(at.block, task.group, task.part, 0);
  m.tiles = tiles;
  m.segments = (shape_.nf + at.layer * shape_.gc) / kernels_.segment_channels;
  m.weights = layers_[at.block * kLayers + at.layer].weights;
  m.outputs = at.layer == kLayers - 1 ? shape_.nf : shape_.gc;
  m.out = scratch.m.get();
  m.out_point_stride = product_stride_;
  kernels_.multiply(m);
  transform_output(task, at, scratch.m.get());
}

std::int64_t Trunk::cost(const Task& task) const {
  const int layer = position(task.stage).layer;
  const std::int64_t outputs = layer == kLayers - 1 ? shape_.nf : shape_.gc;
  return tiling_.part_tiles(task.group, task.part) * std::int64_t{kTileOutput * kTileOutput * 9} *
         (shape_.nf + layer * shape_.gc) * outputs;
}

}  // namespace esrgan

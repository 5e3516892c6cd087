#include "trunk.h"

#include <algorithm>

namespace esrgan {
namespace {

// A layer reads one group further down than it writes, so it lags at least one group behind the
// layer before it. What it needs is then handed out in the same step, and a thread should not have
// to wait for a task handed out just before: in this order another layer's tasks lie between any
// two layers that depend on each other.
constexpr Stagger kClose = {{0, 1, 2, 4, 5}, {0, 3, 1, 4, 2}};
// Two groups between all layers, which leaves most of a step.
constexpr Stagger kWide = {{0, 2, 4, 6, 8}, {0, 1, 2, 3, 4}};

// Close is enough where the tasks of two layers occupy all threads and a block has no fewer groups
// than its layers span, and is then better: the rings are smaller, and images of few groups wait
// less (64 x 64 with 2 threads: 3 % of the time and not 20 %, measured; 128 x 128 with 8: 1 % and
// not 20 %, simulated). In the layers' own order with lags of one, 2 threads waited 2 to 6 % at
// 256 x 256.
const Stagger& stagger_of(const Tiling& tiling, int threads) {
  const bool close =
      2 * tiling.parts >= threads && tiling.groups() >= kClose.lag[kLayers - 1] + 2;
  return close ? kClose : kWide;
}

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
  stagger_ = &stagger_of(tiling_, threads);
  const int* lag = stagger_->lag;
  image_ = FeatureMap(height, width, shape.nf, height);
  if (shape.residual_in_residual) inner_ = FeatureMap(height, width, shape.nf, height);
  if (shape.blocks == 0) return;

  // A growth map's rows are read one group up and down, when the next layer gets there.
  for (int layer = 0; layer < kLayers - 1; ++layer) {
    growth_groups_[layer] = lag[layer + 1] - lag[layer] + 3;
    const int kept = growth_groups_[layer] * tiling_.rows_per_group * kTileOutput;
    growth_[layer] = FeatureMap(height, width, shape.gc, kept);
    growth_[layer].clear_margins(0, kept - 1);
  }

  const int tiles = tiling_.max_part_tiles();
  point_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * kernels.segment_channels);
  segment_stride_ = kPoints * point_stride_ + kLineFloats;
  std::ptrdiff_t end = 0;
  for (int layer = 0; layer < kLayers - 1; ++layer) {
    Ring& ring = rings_[layer];
    // Read until the last layer is done with the group; one more, so that the writer need not wait
    // for a reader that runs beside it.
    ring.slots = std::min(lag[kLayers - 1] - lag[layer] + 2, shape.blocks * tiling_.groups());
    ring.offset = end;
    ring.part_stride = segments_of(layer) * segment_stride_;
    ring.slot_stride = tiling_.parts * ring.part_stride;
    end += ring.slots * ring.slot_stride;
  }
  // The prefetches of the last plane reach one plane further.
  tiles_ = Buffer(static_cast<std::size_t>(end + point_stride_));
  product_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * shape.nf);
}

// Only the last layer reads what it transforms itself: one segment.
std::size_t Trunk::scratch_v_floats() const {
  return static_cast<std::size_t>(segment_stride_ + point_stride_);
}
std::size_t Trunk::scratch_m_floats() const {
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
  const int last_lag = stagger_->lag[kLayers - 1];
  const int steps = std::max(groups, last_lag + 2);
  const int all = shape_.blocks * steps + last_lag;
  for (int step = 0; step < all; ++step) {
    for (const int layer : stagger_->order) {
      const int at = step - stagger_->lag[layer];
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
  if (at.layer < kLayers - 1) {
    const int slots = rings_[at.layer].slots, kept = growth_groups_[at.layer];
    wait_back(waits, at.block, kLayers - 1, group, slots, slots);
    wait_back(waits, at.block, at.layer + 1, group, kept + 1, kept - 1);
  }
  return waits;
}

TilesView Trunk::tiles_of(const Task& task, Position at, int layer, const Scratch& scratch) const {
  if (layer == kLayers - 1) return {scratch.v.get(), segment_stride_, point_stride_};
  const Ring& ring = rings_[layer];
  const int slot = (at.block * tiling_.groups() + task.group) % ring.slots;
  return {tiles_.get() + ring.offset + slot * ring.slot_stride + task.part * ring.part_stride,
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

void Trunk::transform_input(const Task& task, Position at, const Scratch& scratch) const {
  const FeatureMap& map = source_of(at.block, at.layer);
  const int channels = kernels_.segment_channels;
  const TilesView tiles = tiles_of(task, at, at.layer, scratch);
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
  transform_input(task, at, scratch);
  Multiply m = {};
  for (int layer = 0; layer <= at.layer; ++layer)
    m.add_input(tiles_of(task, at, layer, scratch), segments_of(layer));
  m.tiles = tiles;
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

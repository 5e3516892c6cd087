#include "trunk.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace esrgan {
namespace {

// A layer reads one group further down than it writes, so it lags at least one group behind the
// layer before it. What it needs is then handed out in the same step, and a thread should not have
// to wait for a task handed out just before: in this order another layer's tasks lie between any
// two layers that depend on each other.
constexpr Stagger kClose = {{0, 1, 2, 4, 5}, {0, 3, 1, 4, 2}};
// A block that the layers are spread over from end to end, and one group for the next to begin in.
constexpr int kFewestGroups = kClose.lag[kLayers - 1] + 2;
// From here on stripes pay (48 x 256 pixels are 3 % slower in stripes, 64 x 256 4 % faster), and so
// does a wide stagger: of what was measured, images of 8 groups are 6 % slower with it, 24 no more.
constexpr int kManyGroups = 16;
// Two groups between all layers, which leaves most of a step.
constexpr Stagger kWide = {{0, 2, 4, 6, 8}, {0, 1, 2, 3, 4}};

// Wide lets threads be most of a step apart before one waits for the other's tasks or takes them:
// they take half as many. Close rings are a quarter smaller, but that is worth nothing where cores
// share an L3, and where they do not wide is 4 % faster (256 x 256, Zen 4, 2 cores).
// With few groups threads wait at the ends of blocks: close is then better (with all threads on
// one queue: 64 x 64 with 2 threads waited 3 % of the time and not 20 %, measured; 128 x 128 with 8
// 1 % and not 20 %, simulated), where the tasks of two layers occupy all threads and a block has no
// fewer groups than its layers span.
const Stagger& stagger_of(const Tiling& tiling, int threads) {
  const int groups = tiling.groups();
  const bool few = groups >= kFewestGroups && groups < kManyGroups;
  return few && 2 * tiling.parts >= threads ? kClose : kWide;
}

// Every layer has a group in work at once; with more threads than layers the groups have to be
// larger, so that there are at least two tasks a thread. Where one row of tiles has more, the image
// is cut into stripes.
int group_tiles(int threads) {
  return kTaskTiles * std::max(1, (2 * threads + kLayers - 1) / kLayers);
}

// Parts of a group: equally many for each thread that has a part of its own.
int parts_of(int tiles, int threads) {
  if (threads == 1) return nearest_parts(tiles, kTaskTiles);
  const int owners = std::min(threads, nearest_parts(group_tiles(threads), kSharedTaskTiles));
  return std::min(tiles, owners * nearest_parts(tiles, owners * kSharedTaskTiles));
}

// Pixels at the left end of a stripe of a growth map that the stripe before has computed, beside
// the one that only the filter reaches.
int seam_pixels(int layer) { return (kLayers - 1 - layer) * kTileOutput; }

}  // namespace

Trunk::Trunk(const TrunkShape& shape, int height, int width, int threads, const Kernels& kernels,
             std::vector<PackedConvolution> layers)
    : shape_(shape), kernels_(kernels), layers_(std::move(layers)) {
  cut_stripes(height, width, threads);
  stagger_ = &stagger_of(stripes_[0].tiling, threads);
  const int* lag = stagger_->lag;
  image_ = FeatureMap(height, width, shape.nf, height);
  if (shape.residual_in_residual) {
    inner_ = FeatureMap(height, width, shape.nf, height);
    for (int seam = 1; seam < stripes(); ++seam)
      overwritten_.emplace_back(static_cast<std::size_t>(height) * shape.nf);
  }
  if (shape.blocks == 0) return;

  int columns = 0, tiles = 0, parts = 0;
  for (const Stripe& stripe : stripes_) {
    columns = std::max(columns, stripe.tiling.tile_columns);
    tiles = std::max(tiles, stripe.tiling.max_part_tiles());
    parts = std::max(parts, stripe.tiling.parts);
  }
  // A growth map's rows are read one group up and down, when the next layer gets there.
  for (int layer = 0; layer < kLayers - 1; ++layer) {
    growth_groups_[layer] = lag[layer + 1] - lag[layer] + 3;
    const int kept = growth_groups_[layer] * tiling_.rows_per_group * kTileOutput;
    growth_[layer] = FeatureMap(height, columns * kTileOutput, shape.gc, kept);
    for (int seam = 1; seam < stripes(); ++seam)
      seams_[layer].emplace_back(height, seam_pixels(layer), shape.gc, height);
  }

  point_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * kernels.segment_channels);
  segment_stride_ = kPoints * point_stride_ + kLineFloats;
  std::ptrdiff_t end = 0;
  for (int layer = 0; layer < kLayers - 1; ++layer) {
    Ring& ring = rings_[layer];
    // Read until the last layer is done with the group; one more, so that the writer need not wait
    // for a reader that runs beside it.
    ring.slots =
        std::min(lag[kLayers - 1] - lag[layer] + 2, shape.blocks * stripes() * tiling_.groups());
    ring.offset = end;
    ring.slot_stride = segments_of(layer) * segment_stride_;
    end += ring.slots * ring.slot_stride;
  }
  // The rings of one part, then those of the next. The hardware prefetches beyond the 36 equally
  // spaced stores of the transform as if more followed, and so do the product's own prefetches from
  // the last plane: what they reach must not be tiles that another core works on, so as many planes
  // lie between. (With the parts side by side in each slot, cores without a common L3 took 1.1
  // times as long; a distance of 3 planes was not enough.)
  part_stride_ = end + kPoints * point_stride_;
  tiles_ = Buffer(static_cast<std::size_t>(parts * part_stride_));
  product_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * shape.nf);
}

void Trunk::cut_stripes(int height, int width, int threads) {
  const int columns = (width + kTileOutput - 1) / kTileOutput;
  const int wanted = group_tiles(threads);
  const auto tiling_of = [&](int columns, int rows) {
    Tiling tiling = Tiling::of(height, columns * kTileOutput, kTileOutput, rows, kTaskTiles);
    tiling.parts = parts_of(tiling.rows_per_group * columns, threads);
    return tiling;
  };
  const int rows = std::max(1, (wanted + columns / 2) / columns);
  tiling_ = tiling_of(columns, rows);
  const int count =
      tiling_.groups() < kManyGroups ? 1 : std::max(1, (columns + wanted / 2) / wanted);
  // A stripe's layers begin 0 to 4 tiles to the left of the cut, which takes from the first
  // stripe and gives to the last: the cuts are half as much further right.
  const auto cut = [&](int i) {
    const auto middle = static_cast<int>(static_cast<std::int64_t>(columns) * i / count);
    return i == 0 ? 0 : i == count ? columns : middle + (kLayers - 1) / 2;
  };
  for (int i = 0; i < count; ++i) {
    Stripe stripe;
    stripe.first_column = i == 0 ? 0 : cut(i) - (kLayers - 1);
    const int tiles = cut(i + 1) - stripe.first_column;
    stripe.tiling = tiling_of(tiles, rows);
    for (int layer = 0; layer < kLayers; ++layer) {
      stripe.begin[layer] = i == 0 ? 0 : kLayers - 1 - layer;
      stripe.end[layer] = i == count - 1 ? tiles : tiles - layer;
    }
    if (count > 1) balance_parts(stripe);
    stripes_.push_back(stripe);
  }
}

// Columns at the ends of a stripe are given by some of its layers only: equally many columns a part
// would be 17 % less work for the one with most of these (256 x 256, 2 threads).
void Trunk::balance_parts(Stripe& stripe) const {
  Tiling& tiling = stripe.tiling;
  assert(tiling.rows_per_group == 1);
  std::vector<std::int64_t> work = {0};  // of the columns before each
  for (int column = 0; column < tiling.tile_columns; ++column) {
    work.push_back(work.back());
    for (int layer = 0; layer < kLayers; ++layer)
      if (stripe.begin[layer] <= column && column < stripe.end[layer])
        work.back() += products_of(layer);
  }
  for (int part = 0; part <= tiling.parts; ++part) {
    const std::int64_t share = work.back() * part / tiling.parts;
    const auto after = std::lower_bound(work.begin(), work.end(), share);
    const bool before_is_nearer = after != work.begin() && share - after[-1] < *after - share;
    tiling.cuts.push_back(static_cast<int>(after - work.begin()) - before_is_nearer);
  }
}

void Trunk::clear_margins(int first_row, int last_row) {
  image_.clear_margins(first_row, last_row);
  if (inner_.height()) inner_.clear_margins(first_row, last_row);
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
  const int groups = tiling_.groups(), passes = shape_.blocks * stripes();
  for (int i = 0; i < passes * kLayers; ++i) {
    const int added = schedule.add_stage(groups, stripes_[i / kLayers % stripes()].tiling.parts);
    if (i == 0) first_stage_ = added;
  }
  // The next pass's first layer may read what the last layer of this one wrote up to one group
  // further down, so a pass lasts at least this many steps even in an image of fewer groups.
  const int last_lag = stagger_->lag[kLayers - 1];
  const int steps = std::max(groups, last_lag + 2);
  const int all = passes * steps + last_lag;
  for (int step = 0; step < all; ++step) {
    for (const int layer : stagger_->order) {
      const int at = step - stagger_->lag[layer];
      if (at < 0 || at >= passes * steps || at % steps >= groups) continue;
      schedule.append(first_stage_ + at / steps * kLayers + layer, at % steps);
    }
  }
}

void Trunk::wait_back(Waits& waits, Position at, int layer, int group, int from, int to) const {
  const int groups = tiling_.groups();
  const int here = turn(at, group);
  for (int then = std::max(0, here - from); then <= here - to;) {
    const int first = then % groups;
    const int last = std::min(groups - 1, first + here - to - then);
    waits.add(first_stage_ + then / groups * kLayers + layer, first, last);
    then += last - first + 1;
  }
}

void Trunk::wait_for_block(Waits& waits, int block, int stripe, int first, int last) const {
  const int left = std::max(0, stripe - 1), right = std::min(stripes() - 1, stripe + 1);
  waits.add(stage(block, left, kLayers - 1), first, last, right - left + 1, kLayers);
}

void Trunk::wait_for_output(Waits& waits, int first, int last) const {
  if (shape_.blocks == 0) waits.add(source_, first, last);
  else waits.add(stage(shape_.blocks - 1, 0, kLayers - 1), first, last, stripes(), kLayers);
}

Waits Trunk::waits(int stage_number, int group) const {
  const Position at = position(stage_number);
  Waits waits;
  if (at.layer > 0) waits.add(stage_number - 1, group - 1, group + 1);
  else if (at.block > 0) wait_for_block(waits, at.block - 1, at.stripe, group - 1, group + 1);
  else waits.add(source_, group - 1, group + 1);
  // The pixels that it puts aside.
  if (at.layer == 0 && at.stripe > 0 && in_place(at.block))
    waits.add(stage(at.block, at.stripe - 1, kLayers - 1), group - 1, group + 1);
  if (at.layer == kLayers - 1) return waits;
  // A slot of the ring is free when its last reader is done, which has itself waited for the
  // others; rows of a growth map when the next layer is done with the groups on both sides too.
  // The maps as large as the image need no more: whatever reads their old rows is done, because
  // this layer's input depends on it (keep_overwritten sees to the exception). So are the readers
  // of the seam that this task may write: the next stripe of the block before.
  const int slots = rings_[at.layer].slots, kept = growth_groups_[at.layer];
  wait_back(waits, at, kLayers - 1, group, slots, slots);
  wait_back(waits, at, at.layer + 1, group, kept + 1, kept - 1);
  if (at.stripe > 0) waits.add(stage(at.block, at.stripe - 1, at.layer), group, group);
  return waits;
}

TilesView Trunk::tiles_of(const Task& task, Position at, int layer, const Scratch& scratch) const {
  if (layer == kLayers - 1) return {scratch.v.get(), segment_stride_, point_stride_};
  const Ring& ring = rings_[layer];
  const int slot = turn(at, task.group) % ring.slots;
  return {tiles_.get() + task.part * part_stride_ + ring.offset + slot * ring.slot_stride,
          segment_stride_, point_stride_};
}

// The three blocks of an RRDB: image -> inner, inner -> inner, inner -> image (+ image).
const FeatureMap& Trunk::input_of_block(int block) const {
  return block % 3 == 0 ? image_ : inner_;
}
const FeatureMap& Trunk::output_of_block(int block) const {
  return block % 3 == 2 || !shape_.residual_in_residual ? image_ : inner_;
}
bool Trunk::in_place(int block) const { return shape_.residual_in_residual && block % 3 == 1; }

float* Trunk::growth_row(Position at, int layer, int y) const {
  const std::int64_t rows = tiling_.rows_per_group * kTileOutput;
  return growth_[layer].row(turn(at, 0) * rows + y);
}

Trunk::Outputs Trunk::outputs_of(const Task& task, Position at) const {
  const Stripe& stripe = stripes_[at.stripe];
  Outputs outputs = {-1, 0};
  stripe.tiling.for_each_run(task.group, task.part, stripe.begin[at.layer], stripe.end[at.layer],
                             [&](const Run& run) {
                               if (outputs.tiles == 0) outputs.offset = run.offset;
                               outputs.tiles += run.tiles;
                             });
  return outputs;
}

void Trunk::transform_input(const Task& task, Position at, const Scratch& scratch) const {
  const Stripe& stripe = stripes_[at.stripe];
  const int channels = kernels_.segment_channels;
  const TilesView tiles = tiles_of(task, at, at.layer, scratch);
  // From the first tile that a later layer reads on.
  const int begin = at.layer == kLayers - 1 ? stripe.begin[at.layer] : 0;
  stripe.tiling.for_each_run(task.group, task.part, begin, stripe.end[at.layer], [&](Run run) {
    TilesView out = tiles;
    out.data += static_cast<std::ptrdiff_t>(run.offset) * channels;
    if (at.layer == 0 && at.stripe > 0 && run.first == 0 && in_place(at.block)) {
      transform_overwritten(run.tile_row, at.stripe, out);
      out.data += channels;
      ++run.first;
      --run.tiles;
    }
    Run in_map = run;
    if (at.layer == 0) in_map.first += stripe.first_column;
    const FeatureMap& map = at.layer == 0 ? input_of_block(at.block) : growth_[at.layer - 1];
    InputTransform in = input_of(map, in_map, kTileOutput, out);
    if (at.layer > 0) {
      for (int i = 0; i < kTileInput; ++i) {
        const int y = run.tile_row * kTileOutput - 1 + i;
        const float* row =
            y < 0 || y >= map.height() ? map.zeros() : growth_row(at, at.layer - 1, y);
        in.rows[i] =
            row + (static_cast<std::ptrdiff_t>(run.first) * kTileOutput - 1) * map.channels();
      }
    }
    kernels_.transform_input(in);
  });
}

template <class Visit>
void Trunk::for_each_output(const Task& task, Position at, const float* m,
                            const Visit& visit) const {
  const Stripe& stripe = stripes_[at.stripe];
  const bool last = at.layer == kLayers - 1;
  OutputTransform o = {};
  o.point_stride = product_stride_;
  o.in_channels = o.out_channels = last ? shape_.nf : shape_.gc;
  o.tile_output = kTileOutput;
  o.bias = layers_[at.block * kLayers + at.layer].bias;
  o.activate = !last;
  o.negative_slope = shape_.negative_slope;
  o.scale = o.outer_scale = shape_.residual_scale;
  const int first_pixel = stripe.first_column * kTileOutput;
  o.columns = image_.width() - first_pixel;
  o.pixel_stride = o.residual_stride = last ? shape_.nf : shape_.gc;
  const bool closes = last && shape_.residual_in_residual && at.block % 3 == 2;
  const FeatureMap& source = input_of_block(at.block);
  const FeatureMap& target = output_of_block(at.block);
  const std::ptrdiff_t first_float = static_cast<std::ptrdiff_t>(first_pixel) * shape_.nf;
  const int skipped = outputs_of(task, at).offset;
  const auto visit_run = [&](const Run& run) {
    o.in = m + static_cast<std::ptrdiff_t>(run.offset - skipped) * o.in_channels;
    o.tiles = run.tiles;
    o.first_column = run.first * kTileOutput;
    for (int i = 0; i < kTileOutput; ++i) {
      const int y = run.tile_row * kTileOutput + i;
      const bool inside = y < image_.height();
      o.inner[i] = last && inside ? source.row(y) + first_float : nullptr;
      o.outer[i] = closes && inside ? image_.row(y) + first_float : nullptr;
      if (!inside) o.rows[i] = nullptr;
      else if (!last) o.rows[i] = growth_row(at, at.layer, y);
      else if (out_ && at.block == shape_.blocks - 1)
        o.rows[i] =
            out_ + static_cast<std::ptrdiff_t>(y) * image_.width() * shape_.nf + first_float;
      else o.rows[i] = target.row(y) + first_float;
    }
    visit(o);
  };
  stripe.tiling.for_each_run(task.group, task.part, stripe.begin[at.layer], stripe.end[at.layer],
                             visit_run);
}

void Trunk::keep_overwritten(const Task& task, Position at) const {
  if (at.stripe == stripes() - 1 || task.part != stripes_[at.stripe].tiling.parts - 1) return;
  const int column = stripes_[at.stripe + 1].first_column * kTileOutput - 1;
  const int rows = tiling_.rows_per_group * kTileOutput, first = task.group * rows;
  const std::ptrdiff_t nf = shape_.nf;
  for (int y = first; y < std::min(first + rows, inner_.height()); ++y)
    std::memcpy(overwritten_[at.stripe].get() + y * nf, inner_.row(y) + column * nf,
                sizeof(float) * shape_.nf);
}

void Trunk::transform_overwritten(int tile_row, int stripe, TilesView out) const {
  constexpr int kMaxChannels = 64;
  float pixels[kTileInput][kTileInput * kMaxChannels];
  const std::ptrdiff_t nf = shape_.nf, column = stripes_[stripe].first_column * kTileOutput;
  InputTransform in;
  for (int i = 0; i < kTileInput; ++i) {
    const int y = tile_row * kTileOutput - 1 + i;
    const bool inside = y >= 0 && y < inner_.height();
    const float* before = inside ? overwritten_[stripe - 1].get() + y * nf : inner_.zeros();
    std::memcpy(pixels[i], before, sizeof(float) * nf);
    std::memcpy(pixels[i] + nf, inner_.row_or_zeros(y) + column * nf,
                sizeof(float) * nf * (kTileInput - 1));
    in.rows[i] = pixels[i];
  }
  in.channels = shape_.nf;
  in.step = kTileOutput;
  in.tiles = 1;
  in.out = out;
  kernels_.transform_input(in);
}

// What lies beside the rows: zeros at the image's edges, the stripe before's pixels elsewhere.
void Trunk::join_stripes(const Task& task, Position at) const {
  const int rows = tiling_.rows_per_group * kTileOutput;
  const int first = task.group * rows, end = std::min(first + rows, image_.height());
  const std::size_t pixel = sizeof(float) * static_cast<std::size_t>(shape_.gc);
  const std::size_t seam_bytes = (1 + seam_pixels(at.layer)) * pixel;
  const auto column = [&](float* row, int x) { return row + std::ptrdiff_t{x} * shape_.gc; };
  const bool leftmost = at.stripe == 0, rightmost = at.stripe == stripes() - 1;
  if (task.part == 0) {
    for (int y = first; y < end; ++y) {
      float* left = column(growth_row(at, at.layer, y), -1);
      if (leftmost) std::memset(left, 0, pixel);
      else std::memcpy(left, column(seams_[at.layer][at.stripe - 1].row(y), -1), seam_bytes);
    }
  }
  if (task.part == stripes_[at.stripe].tiling.parts - 1) {
    const int here = stripes_[at.stripe].first_column * kTileOutput;
    const int right = rightmost ? image_.width() - here
                                : stripes_[at.stripe + 1].first_column * kTileOutput - here - 1;
    for (int y = first; y < end; ++y) {
      float* from = column(growth_row(at, at.layer, y), right);
      if (rightmost) std::memset(from, 0, FeatureMap::kRight * pixel);
      else std::memcpy(column(seams_[at.layer][at.stripe].row(y), -1), from, seam_bytes);
    }
  }
}

void Trunk::fetch_next_input(const Task& task, Position at, Multiply& m) const {
  // The first layer is ahead by the last one's lag, and its next group comes in the next step.
  const int next = turn(at, task.group) + stagger_->lag[kLayers - 1] + 1;
  const int pass = next / tiling_.groups(), group = next % tiling_.groups();
  if (pass >= shape_.blocks * stripes()) return;
  const Stripe& stripe = stripes_[pass % stripes()];
  if (task.part >= stripe.tiling.parts) return;
  const FeatureMap& map = input_of_block(pass / stripes());
  stripe.tiling.for_each_run(group, task.part, 0, stripe.end[0], [&](Run run) {
    run.first += stripe.first_column;
    fetch_input_of(map, run, kTileOutput, m);
  });
}

void Trunk::work(const Task& task, Scratch& scratch) const {
  const Position at = position(task.stage);
  transform_input(task, at, scratch);
  const Outputs outputs = outputs_of(task, at);
  if (outputs.tiles > 0) {
    Multiply m = {};
    for (int layer = 0; layer <= at.layer; ++layer) {
      TilesView tiles = tiles_of(task, at, layer, scratch);
      tiles.data += static_cast<std::ptrdiff_t>(outputs.offset) * kernels_.segment_channels;
      m.add_input(tiles, segments_of(layer));
    }
    m.tiles = outputs.tiles;
    m.weights = layers_[at.block * kLayers + at.layer].weights;
    m.outputs = at.layer == kLayers - 1 ? shape_.nf : shape_.gc;
    m.out = scratch.m.get();
    m.out_point_stride = product_stride_;
    // The growth maps are still in the cache.
    if (at.layer == kLayers - 1) {
      for_each_output(task, at, m.out, [&](const OutputTransform& o) {
        const std::ptrdiff_t first = std::ptrdiff_t{o.first_column} * shape_.nf;
        const std::ptrdiff_t floats = std::ptrdiff_t{o.tiles} * kTileOutput * shape_.nf;
        for (int i = 0; i < kTileOutput && o.rows[i]; ++i) {
          m.add_next(o.inner[i] + first, floats);
          m.add_next(o.rows[i] + first, floats);
        }
      });
      fetch_next_input(task, at, m);
    }
    kernels_.multiply(m);
    if (at.layer == kLayers - 1 && in_place(at.block)) keep_overwritten(task, at);
    for_each_output(task, at, m.out, kernels_.transform_output);
  }
  if (at.layer < kLayers - 1) join_stripes(task, at);
}

std::int64_t Trunk::cost(const Task& task) const {
  const Position at = position(task.stage);
  return outputs_of(task, at).tiles * std::int64_t{kTileOutput * kTileOutput * 9} *
         products_of(at.layer);
}

}  // namespace esrgan

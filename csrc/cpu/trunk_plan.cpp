#include "trunk_plan.h"

#include <algorithm>
#include <cassert>

namespace esrgan::cpu {
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

}  // namespace

TrunkPlan::TrunkPlan(const TrunkShape& shape, int height, int width, int threads) : shape_(shape) {
  cut_stripes(height, width, threads);
  stagger_ = &stagger_of(stripes_[0].tiling, threads);
}

void TrunkPlan::cut_stripes(int height, int width, int threads) {
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
void TrunkPlan::balance_parts(Stripe& stripe) const {
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

int TrunkPlan::most_columns() const {
  int most = 0;
  for (const Stripe& stripe : stripes_) most = std::max(most, stripe.tiling.tile_columns);
  return most;
}
int TrunkPlan::most_part_tiles() const {
  int most = 0;
  for (const Stripe& stripe : stripes_) most = std::max(most, stripe.tiling.max_part_tiles());
  return most;
}
int TrunkPlan::most_parts() const {
  int most = 0;
  for (const Stripe& stripe : stripes_) most = std::max(most, stripe.tiling.parts);
  return most;
}

// Read until the last layer is done with the group; one more, so that the writer need not wait for
// a reader that runs beside it.
int TrunkPlan::ring_slots(int layer) const {
  const int* lag = stagger_->lag;
  return std::min(lag[kLayers - 1] - lag[layer] + 2, shape_.blocks * stripes() * tiling_.groups());
}

void TrunkPlan::append_to(Schedule& schedule, int source) {
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

void TrunkPlan::wait_back(Waits& waits, Position at, int layer, int group, int from, int to) const {
  const int groups = tiling_.groups();
  const int here = turn(at, group);
  for (int then = std::max(0, here - from); then <= here - to;) {
    const int first = then % groups;
    const int last = std::min(groups - 1, first + here - to - then);
    waits.add(first_stage_ + then / groups * kLayers + layer, first, last);
    then += last - first + 1;
  }
}

void TrunkPlan::wait_for_block(Waits& waits, int block, int stripe, int first, int last) const {
  const int left = std::max(0, stripe - 1), right = std::min(stripes() - 1, stripe + 1);
  waits.add(stage(block, left, kLayers - 1), first, last, right - left + 1, kLayers);
}

void TrunkPlan::wait_for_output(Waits& waits, int first, int last) const {
  if (shape_.blocks == 0) waits.add(source_, first, last);
  else waits.add(stage(shape_.blocks - 1, 0, kLayers - 1), first, last, stripes(), kLayers);
}

Waits TrunkPlan::waits(int stage_number, int group) const {
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
  // this layer's input depends on it (Trunk::keep_overwritten sees to the exception). So are the
  // readers of the seam that this task may write: the next stripe of the block before.
  const int slots = ring_slots(at.layer), kept = growth_groups(at.layer);
  wait_back(waits, at, kLayers - 1, group, slots, slots);
  wait_back(waits, at, at.layer + 1, group, kept + 1, kept - 1);
  if (at.stripe > 0) waits.add(stage(at.block, at.stripe - 1, at.layer), group, group);
  return waits;
}

TrunkPlan::Tiles TrunkPlan::outputs_of(const Task& task, Position at) const {
  const Stripe& stripe = stripes_[at.stripe];
  Tiles outputs = {-1, 0};
  stripe.tiling.for_each_run(task.group, task.part, stripe.begin[at.layer], stripe.end[at.layer],
                             [&](const Run& run) {
                               if (outputs.tiles == 0) outputs.offset = run.offset;
                               outputs.tiles += run.tiles;
                             });
  return outputs;
}

bool TrunkPlan::next_input(const Task& task, Position at, Place& place) const {
  // The first layer is ahead by the last one's lag, and its next group comes in the next step.
  const int next = turn(at, task.group) + stagger_->lag[kLayers - 1] + 1;
  const int pass = next / tiling_.groups();
  place = {pass / stripes(), pass % stripes(), next % tiling_.groups()};
  return place.block < shape_.blocks && task.part < stripes_[place.stripe].tiling.parts;
}

std::int64_t TrunkPlan::cost(const Task& task) const {
  const Position at = position(task.stage);
  return outputs_of(task, at).tiles * std::int64_t{kTileOutput * kTileOutput * 9} *
         products_of(at.layer);
}

}  // namespace esrgan::cpu

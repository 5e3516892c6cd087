#include "trunk.h"

#include <algorithm>
#include <cstring>

namespace esrgan::cpu {
namespace {

// Pixels at the left end of a stripe of a growth map that the stripe before has computed, beside
// the one that only the filter reaches.
int seam_pixels(int layer) { return (kLayers - 1 - layer) * kTileOutput; }

}  // namespace

Trunk::Trunk(const TrunkShape& shape, int height, int width, int threads, const Kernels& kernels,
             std::vector<PackedConvolution> layers)
    : shape_(shape),
      plan_(shape, height, width, threads),
      kernels_(kernels),
      layers_(std::move(layers)) {
  image_ = FeatureMap(height, width, shape.nf, height);
  if (shape.residual_in_residual) {
    inner_ = FeatureMap(height, width, shape.nf, height);
    for (int seam = 1; seam < plan_.stripes(); ++seam)
      overwritten_.emplace_back(static_cast<std::size_t>(height) * shape.nf);
  }
  if (shape.blocks == 0) return;

  const int columns = plan_.most_columns(), tiles = plan_.most_part_tiles();
  // A growth map's rows are read one group up and down, when the next layer gets there.
  for (int layer = 0; layer < kLayers - 1; ++layer) {
    const int kept = plan_.growth_groups(layer) * plan_.rows_per_group();
    growth_[layer] = FeatureMap(height, columns * kTileOutput, shape.gc, kept);
    for (int seam = 1; seam < plan_.stripes(); ++seam)
      seams_[layer].emplace_back(height, seam_pixels(layer), shape.gc, height);
  }

  point_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * kernels.segment_channels);
  segment_stride_ = kPoints * point_stride_ + kLineFloats;
  std::ptrdiff_t end = 0;
  for (int layer = 0; layer < kLayers - 1; ++layer) {
    Ring& ring = rings_[layer];
    ring.slots = plan_.ring_slots(layer);
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
  tiles_ = Buffer(static_cast<std::size_t>(plan_.most_parts() * part_stride_));
  product_stride_ = plane_stride(static_cast<std::ptrdiff_t>(tiles) * shape.nf);
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

TilesView Trunk::tiles_of(const Task& task, Position at, int layer, const Scratch& scratch) const {
  if (layer == kLayers - 1) return {scratch.v.get(), segment_stride_, point_stride_};
  const Ring& ring = rings_[layer];
  const int slot = plan_.turn(at, task.group) % ring.slots;
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

float* Trunk::growth_row(Position at, int layer, int y) const {
  const std::int64_t rows = plan_.rows_per_group();
  return growth_[layer].row(plan_.turn(at, 0) * rows + y);
}

void Trunk::transform_input(const Task& task, Position at, const Scratch& scratch) const {
  const Stripe& stripe = plan_.stripe(at.stripe);
  const int channels = kernels_.segment_channels;
  const TilesView tiles = tiles_of(task, at, at.layer, scratch);
  // From the first tile that a later layer reads on.
  const int begin = at.layer == kLayers - 1 ? stripe.begin[at.layer] : 0;
  stripe.tiling.for_each_run(task.group, task.part, begin, stripe.end[at.layer], [&](Run run) {
    TilesView out = tiles;
    out.data += static_cast<std::ptrdiff_t>(run.offset) * channels;
    if (at.layer == 0 && at.stripe > 0 && run.first == 0 && plan_.in_place(at.block)) {
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
  const Stripe& stripe = plan_.stripe(at.stripe);
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
  const int skipped = plan_.outputs_of(task, at).offset;
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
  if (at.stripe == plan_.stripes() - 1 || task.part != plan_.stripe(at.stripe).tiling.parts - 1)
    return;
  const int column = plan_.stripe(at.stripe + 1).first_column * kTileOutput - 1;
  const int rows = plan_.rows_per_group(), first = task.group * rows;
  const std::ptrdiff_t nf = shape_.nf;
  for (int y = first; y < std::min(first + rows, inner_.height()); ++y)
    std::memcpy(overwritten_[at.stripe].get() + y * nf, inner_.row(y) + column * nf,
                sizeof(float) * shape_.nf);
}

void Trunk::transform_overwritten(int tile_row, int stripe, TilesView out) const {
  constexpr int kMaxChannels = 64;
  float pixels[kTileInput][kTileInput * kMaxChannels];
  const std::ptrdiff_t nf = shape_.nf, column = plan_.stripe(stripe).first_column * kTileOutput;
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
  const int rows = plan_.rows_per_group();
  const int first = task.group * rows, end = std::min(first + rows, image_.height());
  const std::size_t pixel = sizeof(float) * static_cast<std::size_t>(shape_.gc);
  const std::size_t seam_bytes = (1 + seam_pixels(at.layer)) * pixel;
  const auto column = [&](float* row, int x) { return row + std::ptrdiff_t{x} * shape_.gc; };
  const bool leftmost = at.stripe == 0, rightmost = at.stripe == plan_.stripes() - 1;
  if (task.part == 0) {
    for (int y = first; y < end; ++y) {
      float* left = column(growth_row(at, at.layer, y), -1);
      if (leftmost) std::memset(left, 0, pixel);
      else std::memcpy(left, column(seams_[at.layer][at.stripe - 1].row(y), -1), seam_bytes);
    }
  }
  if (task.part == plan_.stripe(at.stripe).tiling.parts - 1) {
    const int here = plan_.stripe(at.stripe).first_column * kTileOutput;
    const int right = rightmost ? image_.width() - here
                                : plan_.stripe(at.stripe + 1).first_column * kTileOutput - here - 1;
    for (int y = first; y < end; ++y) {
      float* from = column(growth_row(at, at.layer, y), right);
      if (rightmost) std::memset(from, 0, FeatureMap::kRight * pixel);
      else std::memcpy(column(seams_[at.layer][at.stripe].row(y), -1), from, seam_bytes);
    }
  }
}

void Trunk::fetch_next_input(const Task& task, Position at, Multiply& m) const {
  TrunkPlan::Place next;
  if (!plan_.next_input(task, at, next)) return;
  const Stripe& stripe = plan_.stripe(next.stripe);
  const FeatureMap& map = input_of_block(next.block);
  stripe.tiling.for_each_run(next.group, task.part, 0, stripe.end[0], [&](Run run) {
    run.first += stripe.first_column;
    fetch_input_of(map, run, kTileOutput, m);
  });
}

void Trunk::work(const Task& task, Scratch& scratch) const {
  const Position at = plan_.position(task.stage);
  transform_input(task, at, scratch);
  const TrunkPlan::Tiles outputs = plan_.outputs_of(task, at);
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
    if (at.layer == kLayers - 1 && plan_.in_place(at.block)) keep_overwritten(task, at);
    for_each_output(task, at, m.out, kernels_.transform_output);
  }
  if (at.layer < kLayers - 1) join_stripes(task, at);
}

}  // namespace esrgan::cpu

#include "compact.h"

#include <algorithm>
#include <vector>

#include "enlarge.h"
#include "packed_layout.h"
#include "planes.h"
#include "tiling.h"

namespace esrgan::cpu {
namespace {

constexpr int kSegment = 32;  // channels; widths are multiples
constexpr int kReduced = 4;   // the upsampling that can be reduced
constexpr int kWidest = 128;  // features

// A layer reads one group further down than it writes. Two groups behind the layer before, what it
// reads was all handed out a step earlier, so a thread hardly ever waits for a task just begun.
constexpr int kLag = 2;
// Groups that a map keeps: those between writer and reader, the one on either side that is read
// too, and one more, so that the writer need not wait for a reader that runs beside it.
constexpr int kGroupsKept = kLag + 3;

const Kernels& kernels_of(const CompactShape& s) {
  return s.nf % 64 == 0 ? kernels_for_wide_outputs() : kernels_for(kSegment);
}

// The last convolution's outputs, with zeros up to whole panels of the product.
int padded_outputs(const CompactShape& s) {
  const int panel = kernels_of(s).panel_outputs;
  return (s.in_channels * s.upsampling * s.upsampling + panel - 1) / panel * panel;
}

PackedLayout layout_of(const CompactShape& s) {
  PackedLayout layout;
  layout.add(Form::kFirst, s.in_channels, s.nf, true);
  for (int i = 0; i < s.convolutions; ++i) layout.add(Form::kWinograd, s.nf, s.nf, true);
  layout.add(Form::kWinograd, s.nf, padded_outputs(s));
  return layout;
}

// Equally many parts for each thread, of about as many tiles as are best for a task.
Tiling tiling_of(int height, int width, int threads) {
  const int columns = (width + kTileOutput - 1) / kTileOutput;
  const int wanted = threads == 1 ? kTaskTiles : threads * kSharedTaskTiles;
  Tiling tiling =
      Tiling::of(height, width, kTileOutput, (wanted + columns / 2) / columns, kTaskTiles);
  const int tiles = tiling.rows_per_group * columns;
  const int owners = std::max(1, std::min(threads, tiles / (kSharedTaskTiles / 2)));
  tiling.parts = owners * nearest_parts(tiles, owners * kTaskTiles);
  return tiling;
}

// Rows of the pixel shuffle's result before it is reduced, with one value more on either side.
class WideRows {
 public:
  WideRows() = default;
  WideRows(int channels, int height, int width, int rows_kept)
      : channels_(channels),
        height_(height),
        width_(width),
        rows_kept_(rows_kept),
        data_(static_cast<std::size_t>(channels) * rows_kept * stride()) {}
  std::ptrdiff_t stride() const { return width_ + 2; }
  int height() const { return height_; }
  float* row(int channel, int y) const {
    return data_.get() + (std::ptrdiff_t{channel} * rows_kept_ + y % rows_kept_) * stride() + 1;
  }
  // Edges are repeated.
  const float* clamped_row(int channel, int y) const {
    return row(channel, std::max(0, std::min(height_ - 1, y)));
  }
  void repeat_edges(int channel, int y, bool left, bool right) const {
    float* pixels = row(channel, y);
    if (left) pixels[-1] = pixels[0];
    if (right) pixels[width_] = pixels[width_ - 1];
  }

 private:
  int channels_ = 0, height_ = 0, width_ = 0, rows_kept_ = 1;
  Buffer data_;
};

class CompactWork : public ScheduledWork {
 public:
  CompactWork(const CompactShape& shape, const float* packed, const ImageView& in,
              const ImageView& out, int threads)
      : shape_(shape),
        kernels_(kernels_of(shape)),
        outputs_(padded_outputs(shape)),
        layers_(layout_of(shape).range(0, shape.convolutions + 2, packed)),
        planes_(in, shape.in_channels),
        out_(out),
        height_(in.height),
        width_(in.width),
        tiling_(tiling_of(in.height, in.width, threads)),
        scratch_(static_cast<std::size_t>(threads)) {
    const int rows = tiling_.rows_per_group * kTileOutput;
    const int kept = std::min(tiling_.groups(), kGroupsKept) * rows;
    maps_.reserve(static_cast<std::size_t>(shape.convolutions) + 1);
    for (int i = 0; i <= shape.convolutions; ++i) {
      maps_.emplace_back(height_, width_, shape.nf, kept);
      maps_.back().clear_margins(0, kept - 1);
    }
    if (reduces())
      wide_ = WideRows(shape.in_channels, kReduced * height_, kReduced * width_, kReduced * kept);

    const int tiles = tiling_.max_part_tiles(), segments = shape.nf / kSegment;
    point_stride_ = plane_stride(std::ptrdiff_t{tiles} * kSegment);
    segment_stride_ = kPoints * point_stride_ + kLineFloats;
    product_stride_ = plane_stride(std::ptrdiff_t{tiles} * std::max(shape.nf, outputs_));
    const std::ptrdiff_t products = kPoints * product_stride_;
    // The last layer's pixels, or a row that is being reduced.
    const std::ptrdiff_t pixels = std::max(
        std::ptrdiff_t{tiles} * kTileOutput * kTileOutput * outputs_,
        reduces() ? std::ptrdiff_t{kReduced} * tiles * kTileOutput + 2 : std::ptrdiff_t{0});
    for (Scratch& scratch : scratch_) {
      scratch.v = Buffer(static_cast<std::size_t>(segments * segment_stride_ + point_stride_));
      scratch.m = Buffer(static_cast<std::size_t>(products + pixels));
    }
    pixels_offset_ = products;
    make_schedule();
  }

  Schedule& schedule() { return schedule_; }

  Waits waits(int stage, int group) const override {
    Waits waits;
    if (stage > 0) waits.add(stage - 1, group - 1, group + 1);
    // Whoever reads the rows that this group overwrites.
    if (stage < stages() - 1)
      waits.add(stage + 1, group - kGroupsKept - 1, group - kGroupsKept + 1);
    return waits;
  }

  void run(const Task& task, int thread) override {
    if (tiling_.part_tiles(task.group, task.part) == 0) return;
    const Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
    if (task.stage == 0) begin(task);
    else if (task.stage <= shape_.convolutions) convolve(task, scratch);
    else if (task.stage == shape_.convolutions + 1) finish(task, scratch);
    else reduce(task, scratch);
  }

  std::int64_t cost(const Task& task) const override {
    const std::int64_t tiles = tiling_.part_tiles(task.group, task.part), nf = shape_.nf;
    const std::int64_t pixels = tiles * kTileOutput * kTileOutput * 9;
    const int square = shape_.upsampling * shape_.upsampling;
    if (task.stage == 0) return pixels * shape_.in_channels * nf;
    if (task.stage <= shape_.convolutions) return pixels * nf * nf;
    if (task.stage == shape_.convolutions + 1) return pixels * nf * shape_.in_channels * square;
    return 0;
  }

  void finished(int, int groups, const Control& control) override {
    const int rows = std::min(groups * tiling_.rows_per_group * kTileOutput, height_);
    if (control.rows) control.rows->store(rows * shape_.scale, std::memory_order_release);
  }

 private:
  bool reduces() const { return shape_.scale != shape_.upsampling; }
  // The first convolution, those from nf to nf, the last one, the reduction.
  int stages() const { return shape_.convolutions + 2 + static_cast<int>(reduces()); }

  void make_schedule() {
    const int groups = tiling_.groups();
    for (int stage = 0; stage < stages(); ++stage) schedule_.add_stage(groups, tiling_.parts);
    for (int step = 0; step < groups + kLag * (stages() - 1); ++step)
      for (int stage = 0; stage < stages(); ++stage) {
        const int group = step - kLag * stage;
        if (group >= 0 && group < groups) schedule_.append(stage, group);
      }
    schedule_.announce(stages() - 1);
    schedule_.split(tiling_.parts);
  }

  // Pixels of a run of tiles that lie inside the image.
  int columns_of(const Run& run) const {
    return std::min(run.tiles * kTileOutput, width_ - run.first * kTileOutput);
  }
  int end_row_of(const Run& run) const {
    return std::min((run.tile_row + 1) * kTileOutput, height_);
  }

  void begin(const Task& task) const {
    std::vector<const float*> rows;
    FirstConvolution f;
    f.in_channels = shape_.in_channels;
    f.out_channels = shape_.nf;
    f.weights = layers_[0].weights;
    f.bias = layers_[0].bias;
    f.slopes = layers_[0].slopes;
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      const int column = run.first * kTileOutput;
      f.columns = columns_of(run);
      for (int y = run.tile_row * kTileOutput; y < end_row_of(run); ++y) {
        planes_.rows(y, column, rows);
        f.rows = rows.data();
        f.out = maps_[0].row(y) + std::ptrdiff_t{column} * shape_.nf;
        kernels_.first_convolution(f);
      }
    });
  }

  // M of the layer that a stage is, from the map before it.
  Multiply product(const Task& task, const Scratch& scratch, int outputs) const {
    const FeatureMap& in = maps_[static_cast<std::size_t>(task.stage) - 1];
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      const TilesView tiles = {scratch.v.get() + std::ptrdiff_t{run.offset} * kSegment,
                               segment_stride_, point_stride_};
      kernels_.transform_input(input_of(in, run, kTileOutput, tiles));
    });
    Multiply m = {};
    m.add_input({scratch.v.get(), segment_stride_, point_stride_}, shape_.nf / kSegment);
    m.tiles = tiling_.part_tiles(task.group, task.part);
    m.weights = layers_[static_cast<std::size_t>(task.stage)].weights;
    m.outputs = outputs;
    m.out = scratch.m.get();
    m.out_point_stride = product_stride_;
    return m;
  }

  // What the thread most likely does next is the same part of the next layer, kLag groups up: its
  // pixels were written a step ago.
  void fetch_next_input(const Task& task, Multiply& m) const {
    const int group = task.group - kLag;
    if (group < 0 || task.stage > shape_.convolutions) return;
    tiling_.for_each_run(group, task.part, [&](const Run& run) {
      fetch_input_of(maps_[static_cast<std::size_t>(task.stage)], run, kTileOutput, m);
    });
  }

  OutputTransform output_of(const Task& task, int outputs) const {
    const PackedConvolution& layer = layers_[static_cast<std::size_t>(task.stage)];
    OutputTransform o = {};
    o.point_stride = product_stride_;
    o.in_channels = o.out_channels = outputs;
    o.tile_output = kTileOutput;
    o.bias = layer.bias;
    o.slopes = layer.slopes;
    o.scale = 1;
    o.pixel_stride = outputs;
    return o;
  }

  void convolve(const Task& task, const Scratch& scratch) const {
    Multiply m = product(task, scratch, shape_.nf);
    const FeatureMap& out = maps_[static_cast<std::size_t>(task.stage)];
    // What it writes to was last touched several groups ago.
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      for (int y = run.tile_row * kTileOutput; y < end_row_of(run); ++y)
        m.add_next(out.row(y) + std::ptrdiff_t{run.first} * kTileOutput * shape_.nf,
                   std::ptrdiff_t{columns_of(run)} * shape_.nf);
    });
    fetch_next_input(task, m);
    kernels_.multiply(m);
    OutputTransform o = output_of(task, shape_.nf);
    o.columns = width_;
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      o.in = scratch.m.get() + std::ptrdiff_t{run.offset} * shape_.nf;
      o.tiles = run.tiles;
      o.first_column = run.first * kTileOutput;
      for (int i = 0; i < kTileOutput; ++i) {
        const int y = run.tile_row * kTileOutput + i;
        o.rows[i] = y < height_ ? out.row(y) : nullptr;
      }
      kernels_.transform_output(o);
    });
  }

  // The last convolution's pixels stay in the cache on their way to the result.
  void finish(const Task& task, const Scratch& scratch) const {
    kernels_.multiply(product(task, scratch, outputs_));
    OutputTransform o = output_of(task, outputs_);
    const int wanted = shape_.in_channels * shape_.upsampling * shape_.upsampling;
    o.out_channels = (wanted + kernels_.lanes - 1) / kernels_.lanes * kernels_.lanes;
    float* const pixels = scratch.m.get() + pixels_offset_;
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      const std::ptrdiff_t row_floats = std::ptrdiff_t{run.tiles} * kTileOutput * outputs_;
      o.in = scratch.m.get() + std::ptrdiff_t{run.offset} * outputs_;
      o.tiles = run.tiles;
      o.first_column = 0;
      o.columns = columns_of(run);
      for (int i = 0; i < kTileOutput; ++i) o.rows[i] = pixels + i * row_floats;
      kernels_.transform_output(o);
      for (int y = run.tile_row * kTileOutput; y < end_row_of(run); ++y)
        enlarge(run, y, pixels + (y - run.tile_row * kTileOutput) * row_floats);
    });
  }

  void enlarge(const Run& run, int y, const float* pixels) const {
    const int factor = shape_.upsampling, column = run.first * kTileOutput;
    Shuffle s;
    s.pixel_stride = outputs_;
    s.columns = columns_of(run);
    s.factor = factor;
    for (int c = 0; c < shape_.in_channels; ++c) {
      s.features = pixels + c * factor * factor;
      s.input = planes_.row(c, y) + column;
      if (!reduces()) {
        s.out = out_.data + c * out_.channel_stride + std::ptrdiff_t{factor} * y * out_.row_stride +
                factor * column;
        s.row_stride = out_.row_stride;
        shuffle(s);
        continue;
      }
      s.out = wide_.row(c, factor * y) + factor * column;
      s.row_stride = wide_.stride();  // groups are whole, so their rows follow each other
      shuffle(s);
      for (int i = 0; i < factor; ++i)
        wide_.repeat_edges(c, factor * y + i, run.first == 0, column + s.columns == width_);
    }
  }

  void reduce(const Task& task, const Scratch& scratch) const {
    if (shape_.scale == 2) reduce_by<2>(task, scratch);
    else reduce_by<3>(task, scratch);
  }

  template <int Scale>
  void reduce_by(const Task& task, const Scratch& scratch) const {
    static const Reduction<Scale> reduction;
    float* const work = scratch.m.get() + pixels_offset_;
    tiling_.for_each_run(task.group, task.part, [&](const Run& run) {
      const std::ptrdiff_t column = std::ptrdiff_t{run.first} * kTileOutput;
      for (int c = 0; c < shape_.in_channels; ++c)
        for (int y = run.tile_row * kTileOutput; y < end_row_of(run); ++y)
          for (int phase = 0; phase < Scale; ++phase) {
            const Taps& taps = reduction.taps[phase];
            const float* rows[4];
            for (int k = 0; k < 4; ++k)
              rows[k] = wide_.clamped_row(c, kReduced * y + taps.first + k) + kReduced * column;
            float* out = out_.data + c * out_.channel_stride +
                         (std::ptrdiff_t{Scale} * y + phase) * out_.row_stride + Scale * column;
            reduce_row<Scale>(rows, taps.weights, columns_of(run), work, out);
          }
    });
  }

  CompactShape shape_;
  const Kernels& kernels_;
  int outputs_;
  std::vector<PackedConvolution> layers_;
  Planes planes_;
  ImageView out_;
  int height_, width_;
  Tiling tiling_;
  std::vector<FeatureMap> maps_;  // what each convolution but the last gives
  WideRows wide_;
  std::vector<Scratch> scratch_;
  std::ptrdiff_t point_stride_, segment_stride_, product_stride_, pixels_offset_;
  Schedule schedule_;
};

}  // namespace

const char* unsupported(const CompactShape& s) {
  if (s.nf < kSegment || s.nf > kWidest || s.nf % kSegment)
    return "the features must be 32, 64, 96 or 128 channels";
  if (s.in_channels < 1 || s.in_channels > 4) return "the image must have 1 to 4 channels";
  if (s.upsampling < 1 || s.upsampling > 8) return "the upsampling must be by 1 to 8";
  if (s.convolutions < 0 || s.convolutions > 1024) return "too many convolutions";
  const bool reduces = s.upsampling == kReduced && (s.scale == 2 || s.scale == 3);
  if (s.scale != s.upsampling && !reduces) return "no such reduction of the result";
  return nullptr;
}

int convolution_count(const CompactShape& s) { return s.convolutions + 2; }

Channels convolution_channels(const CompactShape& s, int convolution) {
  if (convolution == 0) return {s.in_channels, s.nf};
  const bool last = convolution == s.convolutions + 1;
  return {s.nf, last ? s.in_channels * s.upsampling * s.upsampling : s.nf};
}

std::size_t packed_floats(const CompactShape& s) { return layout_of(s).end(); }

void pack(const CompactShape& s, const Convolution* convolutions, int threads, float* packed) {
  std::vector<Convolution> all(convolutions, convolutions + convolution_count(s));
  const int padded = padded_outputs(s);
  Convolution& last = all.back();
  std::vector<float> weights(std::size_t{9} * s.nf * padded),
      bias(static_cast<std::size_t>(padded));
  std::copy(last.weights, last.weights + std::ptrdiff_t{9} * s.nf * last.out_channels,
            weights.begin());
  std::copy(last.bias, last.bias + last.out_channels, bias.begin());
  last = {weights.data(), bias.data(), s.nf, padded};
  pack(layout_of(s), kernels_of(s), all.data(), threads, packed);
}

bool run(const CompactShape& shape, const float* packed, const ImageView& in, const ImageView& out,
         int threads, const Control& control) {
  CompactWork work(shape, packed, in, out, threads);
  return work.schedule().run(work, threads, control);
}

}  // namespace esrgan::cpu

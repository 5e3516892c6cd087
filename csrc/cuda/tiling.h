// Index arithmetic of the CUDA kernels: how activations, weights and tiles are laid out and in
// which order work is done. No instruction is issued here; everything is constexpr and runs on the
// host as well, where it is tested.
//
// Activations are kept as [image][channel unit][row][column][16 bytes]: a unit is 8 channels of
// 16-bit numbers or 4 of 32-bit ones, 16 bytes because that is one row of an ldmatrix or wgmma core
// matrix, one cp.async, and the granularity of a TMA box. Unlike plain NHWC, any 8 pixels that
// follow each other in a row are 128 contiguous bytes in shared memory, all 32 banks once, wherever
// they start: a convolution's nine taps read shifted pixels without bank conflicts, swizzles or
// copies. Channel slices of a dense block are whole units, so each convolution still writes its
// slice of one buffer and nothing is concatenated.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define ESRGAN_HOST_DEVICE __host__ __device__
#else
#define ESRGAN_HOST_DEVICE
#endif

namespace esrgan::cuda {

constexpr int kUnitBytes = 16;
// Channels of a pixel that are staged at a time: two k-steps of one mma each. 64 bytes keep two
// stages of a 16x32 tile within the 99 KB a block may use on compute capability 8.6, 8.9, 12.0.
constexpr int kUnitsPerChunk = 4;
constexpr int kStepsPerChunk = 2;
constexpr int kUnitsPerStep = kUnitsPerChunk / kStepsPerChunk;

ESRGAN_HOST_DEVICE constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
ESRGAN_HOST_DEVICE constexpr int round_up(int a, int b) { return ceil_div(a, b) * b; }

constexpr int unit_channels(int element_bytes) { return kUnitBytes / element_bytes; }

// Output channels that one work item of a convolution computes. A dense block's first four
// convolutions have no more; 64 outputs are two items that read the same pixels one after the
// other, the second time from L2.
constexpr int kSlice = 32;
constexpr int kMmaPixels = 16;  // M of mma.m16n8k16 and m16n8k8
constexpr int kMmaOutputs = 8;  // N

// How a block of threads covers a tile: kWarpRows x kWarpColumns x kWarpOutputs warps, each with 4
// rows of 16 pixels and kOutputTiles x 8 outputs. Four rows, because a fragment of pixels is then
// read from shared memory once for the up to three taps of a column: 6 rows read for 12 uses. With
// 32 outputs that is 64 accumulators a thread, half the registers two resident blocks leave it.
// Shared memory read a tap column, k-step and warp: 6 x 512 bytes of pixels and 3 x 1 KB of weights
// for 48 mma: 197 kFLOP over 6144 bytes, 32 FLOP a byte. Compute capability 8.0 needs 16 (2048 FLOP
// and 128 bytes a cycle), 9.0 with mma.sync about 20, 8.6 and later 8.
template <int WarpRows, int WarpColumns, int WarpOutputs, int OutputTiles, int TapRows,
          int TapColumns>
struct Tile {
  static constexpr int kWarpRows = WarpRows, kWarpColumns = WarpColumns;
  static constexpr int kWarpOutputs = WarpOutputs, kOutputTiles = OutputTiles;
  static constexpr int kTapRows = TapRows, kTapColumns = TapColumns;
  static constexpr int kRowsPerWarp = 4;
  static constexpr int kRows = WarpRows * kRowsPerWarp;
  static constexpr int kColumns = WarpColumns * kMmaPixels;
  static constexpr int kOutputs = WarpOutputs * OutputTiles * kMmaOutputs;
  static constexpr int kThreads = 32 * WarpRows * WarpColumns * WarpOutputs;
  // The tile and the pixel on each side of it that 3x3 taps reach.
  static constexpr int kHaloRows = kRows + 2, kHaloColumns = kColumns + 2;
  static constexpr int kHaloPixels = kHaloRows * kHaloColumns;

  // Shared memory: two chunks of pixels, one used and one on its way, and three tap columns of
  // weights, because each is a third of a chunk's work and two must be on their way.
  static constexpr int kPixelStages = 2, kWeightStages = 3;
  static constexpr int kPixelStageBytes = kHaloPixels * kUnitsPerChunk * kUnitBytes;
  static constexpr int kWeightStageBytes =
      kStepsPerChunk * TapRows * kOutputs / kMmaOutputs * 32 * 8;
  static constexpr int kWeightsOffset = kPixelStages * kPixelStageBytes;
  static constexpr int kSharedBytes = kWeightsOffset + kWeightStages * kWeightStageBytes;
};

// 512 pixels: the smallest tile whose pixels and weights (57 KB a chunk for 9.4 MFLOP, 164 FLOP a
// byte) stay below what L2 delivers to every SM at once on compute capability 8.0 (47 bytes a
// cycle for 2048 FLOP).
using LargeTile = Tile<4, 2, 1, 4, 3, 3>;
// 128 pixels, each warp half the outputs, for images that would leave SMs without a large tile.
using SmallTile = Tile<2, 1, 2, 2, 3, 3>;
// One phase of nearest x2 + convolution: 2x2 taps.
using UpsampleTile = Tile<4, 2, 1, 4, 2, 2>;
// conv_hr on 16x16 pixels, all 64 outputs, of which conv_last needs one pixel on each side.
using HeadTile = Tile<4, 1, 2, 4, 3, 3>;
constexpr int kHeadBorder = 1;
constexpr int kHeadStride = HeadTile::kRows - 2 * kHeadBorder;
static_assert(HeadTile::kRows == HeadTile::kColumns, "the head's tile is square");

// Compute capability 8.6, 8.9 and 12.0 let a block have 99 KB.
constexpr int kSharedLimit = 99 * 1024;
static_assert(LargeTile::kSharedBytes <= kSharedLimit, "");
static_assert(UpsampleTile::kSharedBytes <= kSharedLimit, "");
static_assert(HeadTile::kSharedBytes <= kSharedLimit, "");

// ---- Work items ----

struct Item {
  int image, row, column;  // of the tile's first output pixel (before upsampling)
  int phase, slice;
};

// Items in order: slices and phases of a tile follow each other, so that its pixels are in L2.
struct Items {
  int batch, tiles_y, tiles_x, phases, slices;
  int row_stride, column_stride, origin;

  ESRGAN_HOST_DEVICE constexpr std::int64_t count() const {
    return std::int64_t{batch} * tiles_y * tiles_x * phases * slices;
  }
  ESRGAN_HOST_DEVICE constexpr Item at(int index) const {
    const int slice = index % slices;
    index /= slices;
    const int phase = index % phases;
    index /= phases;
    const int x = index % tiles_x;
    index /= tiles_x;
    const int y = index % tiles_y;
    return {index / tiles_y, y * row_stride + origin, x * column_stride + origin, phase, slice};
  }
};

template <class T>
constexpr Items items_of(int batch, int height, int width, int phases, int out_channels) {
  return {batch,
          ceil_div(height, T::kRows),
          ceil_div(width, T::kColumns),
          phases,
          ceil_div(out_channels, T::kOutputs),
          T::kRows,
          T::kColumns,
          0};
}

constexpr Items head_items(int batch, int height, int width) {
  return {batch,
          ceil_div(height, kHeadStride),
          ceil_div(width, kHeadStride),
          1,
          1,
          kHeadStride,
          kHeadStride,
          -kHeadBorder};
}

// Every block gets the same number of items, or one less, in as few rounds as `resident` allows.
constexpr int persistent_blocks(std::int64_t items, int resident) {
  const std::int64_t at_once = resident > 0 ? resident : 1;
  const std::int64_t rounds = (items + at_once - 1) / at_once;
  return static_cast<int>((items + rounds - 1) / rounds);
}

// Large tiles need a quarter less traffic; small ones leave fewer SMs idle. In the time of a small
// tile on one SM: rounds x 4 against rounds x 1.25.
constexpr bool prefers_large_tiles(int batch, int height, int width, int out_channels,
                                   int processors) {
  const std::int64_t large = items_of<LargeTile>(batch, height, width, 1, out_channels).count();
  const std::int64_t small = items_of<SmallTile>(batch, height, width, 1, out_channels).count();
  return 16 * ((large + processors - 1) / processors) <=
         5 * ((small + processors - 1) / processors);
}

// ---- Packed weights ----

// A tap column of a chunk is one stage: [k-step][tap row][pair of output tiles][lane][4 words]. A
// lane's four words are its B fragments (two registers each) of two neighbouring output tiles: one
// 16-byte load of consecutive addresses over the lanes, free of bank conflicts.
// Stages of an item follow each other: [slice or phase x slice][chunk][tap column].
struct WeightLayout {
  int element_bytes;  // 2 or 4
  int tap_rows, tap_columns;
  int outputs;  // of an item
  int in_channels;
  int out_channels;
  int phases;

  ESRGAN_HOST_DEVICE constexpr int depth() const { return kUnitsPerStep * 16 / element_bytes; }
  ESRGAN_HOST_DEVICE constexpr int chunks() const {
    return ceil_div(in_channels, depth() * kStepsPerChunk);
  }
  ESRGAN_HOST_DEVICE constexpr int slices() const { return ceil_div(out_channels, outputs); }
  ESRGAN_HOST_DEVICE constexpr int stage_words() const {
    return kStepsPerChunk * tap_rows * outputs / kMmaOutputs * 32 * 2;
  }
  ESRGAN_HOST_DEVICE constexpr std::int64_t words() const {
    return std::int64_t{phases} * slices() * chunks() * tap_columns * stage_words();
  }
};

struct WeightPlace {
  int phase, output, input, tap_row, tap_column;  // input: of the word's first element
};

// What the packed word `index` holds: of 16-bit elements, inputs `input` and `input + 1`.
// Fragments as in the PTX ISA, "Matrix Fragments for mma.m16n8k16" and "mma.m16n8k8": lane l has
// column l / 4 and rows 2 (l % 4) + {0, 1} and 8 more (16 bit), or l % 4 and 4 more (TF32).
ESRGAN_HOST_DEVICE constexpr WeightPlace weight_place(const WeightLayout& w, std::int64_t index) {
  const int in_stage = static_cast<int>(index % w.stage_words());
  std::int64_t stage = index / w.stage_words();
  const int word = in_stage % 4, lane = in_stage / 4 % 32;
  const int pairs = w.outputs / kMmaOutputs / 2;
  int rest = in_stage / 128;
  const int pair = rest % pairs;
  rest /= pairs;
  const int tap_row = rest % w.tap_rows, step = rest / w.tap_rows;
  const int tap_column = static_cast<int>(stage % w.tap_columns);
  stage /= w.tap_columns;
  const int chunk = static_cast<int>(stage % w.chunks());
  stage /= w.chunks();
  const int slice = static_cast<int>(stage % w.slices());
  const int phase = static_cast<int>(stage / w.slices());
  const int output = slice * w.outputs + (2 * pair + word / 2) * kMmaOutputs + lane / 4;
  const int per_word = 4 / w.element_bytes;
  const int k = lane % 4 * per_word + word % 2 * (w.depth() / 2);
  return {phase, output, (chunk * kStepsPerChunk + step) * w.depth() + k, tap_row, tap_column};
}

// conv_last: [k-step][tap row][tap column][lane][2 words], eight outputs.
constexpr int kLastOutputs = kMmaOutputs;

ESRGAN_HOST_DEVICE constexpr std::int64_t last_words(int element_bytes, int in_channels) {
  return std::int64_t{in_channels} * element_bytes / (kUnitsPerStep * kUnitBytes) * 9 * 64;
}

ESRGAN_HOST_DEVICE constexpr WeightPlace last_weight_place(int element_bytes, int index) {
  const int per_word = 4 / element_bytes, depth = kUnitsPerStep * 16 / element_bytes;
  const int word = index % 2, lane = index / 2 % 32;
  const int tap = index / 64 % 9, step = index / 64 / 9;
  return {0, lane / 4, step * depth + lane % 4 * per_word + word * (depth / 2), tap / 3, tap % 3};
}

// Nearest x2 upsampling and a 3x3 convolution = four 2x2 convolutions of the small image, one for
// each output phase (y mod 2, x mod 2): rows 2y - 1, 2y, 2y + 1 of the large image are rows y - 1,
// y, y of the small one, so phase 0 has the taps (w0, w1 + w2); rows 2y, 2y + 1, 2y + 2 are y, y,
// y + 1, so phase 1 has (w0 + w1, w2). The same across. Tap `tap` of phase `phase` is the sum of
// the 3x3 taps [first, last].
struct TapRange {
  int first, last;
};
ESRGAN_HOST_DEVICE constexpr TapRange upsample_taps(int phase, int tap) {
  return phase == 0 ? (tap == 0 ? TapRange{0, 0} : TapRange{1, 2})
                    : (tap == 0 ? TapRange{0, 1} : TapRange{2, 2});
}

}  // namespace esrgan::cuda

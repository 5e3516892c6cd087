// Index arithmetic of the kernels for compute capability 9.0: tiles, stages, weights. See tiling.h
// for the layout of activations, which is the same.
//
// wgmma reads its operands from shared memory for every instruction: with pixels as M = 64 and 32
// outputs as N, 2 KB and 1 KB in 16 cycles, 192 bytes a cycle of the 128 there are: two thirds of
// the peak. So outputs are M = 64 and up to 256 pixels are N: 2 KB and 8 KB in 128 cycles, 80 bytes
// a cycle. Measured on an H100 this layout runs at 885 to 934 TFLOP/s.
//
// M = 64 needs 64 outputs for the same pixels and taps. conv5 and conv_body have them. The others
// have 32 and go in pairs: conv1 and conv2 share one reading of x, of which conv2 keeps its part of
// the sums, and then adds what conv1's 32 channels contribute; so do conv3 and conv4 with the
// channels before conv3's output. Only the two remainders (32 of 192 inputs each) leave half of M
// empty: 13 of 14 chunks' products are useful. Sharing two rows instead of two convolutions
// (M = outputs x 2 rows) would be 75 % for conv1 to conv4, and pixels as M two thirds, as above.
//
// The kept sums lie, in 16 bits, where conv2's (conv4's) outputs will be: they are read and written
// again by the same warp, cost no memory, and 64 bytes a pixel each way. In float32 they took 95 us
// of a launch's 114 at 512x512. Rounding them once more is of the size of rounding conv2's output.
//
// Two warpgroups multiply, each a tile of its own, in turn: while one writes its results, the other
// keeps the tensor cores busy (one warpgroup alone can). Both take their pixels from one ring that
// is filled tile by tile; whose turn it is is passed on with a tile's last stage, because a barrier
// cannot tell a phase from the one two before it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tiling.h"

namespace esrgan::cuda {

// `Rows` of the image that a tile has.
template <int Rows>
struct WgmmaTile {
  static constexpr int kOutputs = 64;  // M
  static constexpr int kTaps = 9;
  // A row of the tile with its halo: TMA boxes have at most 256 elements in a dimension, 32 pixels
  // of 8 channels. N runs over pixels as they lie in memory, so two of 32 columns compute nothing
  // useful (they mix the ends of rows), but a tap is one offset for all pixels.
  static constexpr int kPitch = 32, kColumns = kPitch - 2;
  static constexpr int kRows = Rows;
  static constexpr int kPixels = Rows * kPitch;  // N
  static constexpr int kSums = kPixels / 2;      // accumulators a thread
  static constexpr int kHaloRows = kRows + 2, kHaloPixels = kHaloRows * kPitch;
  static constexpr int kGroups = 2;                     // warpgroups that multiply
  static constexpr int kThreads = 128 * (kGroups + 1);  // and one that fills the stages

  // A chunk is 32 channels: pixels as [unit][row][column][16 bytes], weights as
  // [tap][unit][output][16 bytes]. The last tap of the last pixels reaches two pixels beyond the
  // last unit; they belong to the columns that are not used.
  static constexpr int kUnitStride = kHaloPixels * kUnitBytes;
  static constexpr int kPixelBytes = kUnitsPerChunk * kUnitStride;
  static constexpr int kWeightUnitStride = kOutputs * kUnitBytes;
  static constexpr int kTapBytes = kUnitsPerChunk * kWeightUnitStride;
  static constexpr int kWeightBytes = kTaps * kTapBytes;

  // The epilogue goes through a unit of 4 rows at a time: residuals come by TMA, results leave by
  // TMA, in whole rows and clipped to the image by it. Each warp has a place of its own for one
  // such piece, so it waits for no other. Columns 30 and 31 have no place: what a lane has of them
  // goes to the 16 bytes at `kUnused` + 16 (column - 30).
  static constexpr int kPieceRows = 4;
  static constexpr int kPieceRowBytes = kColumns * kUnitBytes;
  static constexpr int kPieceBytes = kPieceRows * kPieceRowBytes;
  static constexpr int kUnused = kPieceBytes;
  static constexpr int kStagingBytes = 2048;  // a warp's; TMA wants multiples of 128
  static_assert(kUnused + 2 * kUnitBytes <= kStagingBytes && kPieceBytes % 128 == 0, "");
  static_assert(kRows % kPieceRows == 0 && kPitch * 8 <= 256, "");
};
// The lesser tile is for images that would leave SMs without one of the greater.
using TallTile = WgmmaTile<8>;
using LowTile = WgmmaTile<4>;

// How the 227 KB of an SM's shared memory are used by a convolution of `chunks` chunks. Weights
// that stay for all of a block's tiles are read from L2 once: all of them up to four chunks. Of six
// chunks' 216 KB so many taps stay as leave room for three stages of pixels and two of the other
// taps' weights; the remaining traffic (40 KB in the 2304 cycles that a chunk of 256 pixels takes)
// is what L2 delivers to all SMs at once with a third to spare.
struct WgmmaStages {
  int chunks, resident_taps, pixel_stages, weight_stages;
  int pixel_bytes, tap_bytes, staging_bytes;

  static constexpr int kLimit = 227 * 1024;
  static constexpr int kLeastPixelStages = 3, kMostPixelStages = 6, kWeightStages = 2;
  static constexpr int kMostChunks = 6, kTaps = 9, kWarps = 8;
  static constexpr int kBarriers =
      2 * kMostPixelStages + 2 * kWeightStages + kMostChunks + kWarps + 2;

  ESRGAN_HOST_DEVICE constexpr int streamed_taps() const { return kTaps - resident_taps; }
  ESRGAN_HOST_DEVICE constexpr int weight_stage_bytes() const {
    return streamed_taps() * tap_bytes;
  }
  // Offsets in shared memory: stages of pixels, weights that stay, stages of weights, staging,
  // barriers.
  ESRGAN_HOST_DEVICE constexpr int resident() const { return pixel_stages * pixel_bytes; }
  ESRGAN_HOST_DEVICE constexpr int resident_chunk_bytes() const {
    return resident_taps * tap_bytes;
  }
  ESRGAN_HOST_DEVICE constexpr int weights() const {
    return resident() + chunks * resident_chunk_bytes();
  }
  ESRGAN_HOST_DEVICE constexpr int staging() const {
    return weights() + weight_stages * weight_stage_bytes();
  }
  ESRGAN_HOST_DEVICE constexpr int barriers() const { return staging() + staging_bytes; }
  ESRGAN_HOST_DEVICE constexpr int pixels_full(int stage) const { return barriers() + stage * 8; }
  ESRGAN_HOST_DEVICE constexpr int pixels_empty(int stage) const {
    return pixels_full(kMostPixelStages + stage);
  }
  ESRGAN_HOST_DEVICE constexpr int weights_full(int stage) const {
    return pixels_full(2 * kMostPixelStages + stage);
  }
  ESRGAN_HOST_DEVICE constexpr int weights_empty(int stage) const {
    return weights_full(kWeightStages + stage);
  }
  ESRGAN_HOST_DEVICE constexpr int resident_full(int chunk) const {
    return weights_full(2 * kWeightStages + chunk);
  }
  ESRGAN_HOST_DEVICE constexpr int piece_full(int warp) const {
    return resident_full(kMostChunks + warp);
  }
  ESRGAN_HOST_DEVICE constexpr int turn(int group) const { return piece_full(kWarps + group); }
  ESRGAN_HOST_DEVICE constexpr int bytes() const { return barriers() + kBarriers * 8; }
};

template <class T>
constexpr WgmmaStages wgmma_stages(int chunks) {
  WgmmaStages s{chunks,         T::kTaps,     WgmmaStages::kLeastPixelStages,        0,
                T::kPixelBytes, T::kTapBytes, WgmmaStages::kWarps * T::kStagingBytes};
  while (s.bytes() > WgmmaStages::kLimit && s.resident_taps > 0) {
    s.weight_stages = WgmmaStages::kWeightStages;
    --s.resident_taps;
  }
  while (s.pixel_stages < WgmmaStages::kMostPixelStages &&
         s.bytes() + T::kPixelBytes <= WgmmaStages::kLimit)
    ++s.pixel_stages;
  return s;
}
static_assert(wgmma_stages<TallTile>(4).resident_taps == 9, "");
static_assert(wgmma_stages<TallTile>(6).resident_taps == 4, "");
static_assert(wgmma_stages<TallTile>(6).bytes() <= WgmmaStages::kLimit, "");
static_assert(wgmma_stages<LowTile>(6).bytes() <= WgmmaStages::kLimit, "");

template <class T>
constexpr Items wgmma_items(int batch, int height, int width) {
  return items_of<T>(batch, height, width, 1, T::kOutputs);
}

// Rounds of tiles are what a launch takes: the low tiles have half the work and reach a quarter
// more of the image's halo, so they are for when they need fewer than 1.6 times the rounds.
constexpr bool prefers_low_tiles(int batch, int height, int width, int processors) {
  const auto rounds = [&](std::int64_t items) { return (items + processors - 1) / processors; };
  return 5 * rounds(wgmma_items<LowTile>(batch, height, width).count()) <
         8 * rounds(wgmma_items<TallTile>(batch, height, width).count());
}

// ---- Packed weights: [chunk][tap][unit][output][8 channels of 16 bits] ----

constexpr int kWgmmaChunkChannels = 32;

ESRGAN_HOST_DEVICE constexpr std::int64_t wgmma_words(int in_channels) {
  return std::int64_t{in_channels / kWgmmaChunkChannels} * (TallTile::kWeightBytes / 4);
}

// Word `index` holds the weights of inputs `input` and `input + 1`.
ESRGAN_HOST_DEVICE constexpr WeightPlace wgmma_weight_place(std::int64_t index) {
  constexpr int kChunkWords = TallTile::kWeightBytes / 4;
  const int chunk = static_cast<int>(index / kChunkWords);
  int rest = static_cast<int>(index % kChunkWords);
  const int pair = rest % 4;
  rest /= 4;
  const int output = rest % TallTile::kOutputs;
  rest /= TallTile::kOutputs;
  const int unit = rest % kUnitsPerChunk, tap = rest / kUnitsPerChunk;
  return {0, output, chunk * kWgmmaChunkChannels + unit * 8 + pair * 2, tap / 3, tap % 3};
}

}  // namespace esrgan::cuda

// Index arithmetic of the kernels for compute capability 9.0: tiles, stages, weights. See tiling.h
// for the layout of activations, which is the same.
//
// wgmma reads its operands from shared memory for every instruction: with pixels as M = 64 and 32
// outputs as N, 2 KB and 1 KB in 16 cycles, 192 bytes a cycle of the 128 there are: two thirds of
// the peak. So outputs are M = 64 and 256 pixels are N: 2 KB and 8 KB in 128 cycles, 80 bytes a
// cycle, and the 16 bytes a cycle that TMA brings meanwhile fit in.
//
// M = 64 needs 64 outputs for the same pixels and taps. conv5 and conv_body have them. The others
// have 32 and go in pairs: conv1 and conv2 share one reading of x, of which conv2 keeps its part of
// the sums in float32, and then adds what conv1's 32 channels contribute; so do conv3 and conv4
// with the channels before conv3's output. Only the two remainders (32 of 192 inputs each) leave
// half of M empty: 93 % of a block's products are useful. Sharing two rows instead of two
// convolutions (M = outputs x 2 rows) would be 75 % for conv1 to conv4, and pixels as M two thirds,
// as above. The sums cost 128 bytes a pixel to write and read, and save conv2 128 and conv4 256
// bytes of input.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tiling.h"

namespace esrgan::cuda {

struct WgmmaTile {
  static constexpr int kOutputs = 64;  // M
  static constexpr int kPixels = 256;  // N, the largest
  static constexpr int kTaps = 9;
  // A row of the tile with its halo: TMA boxes have at most 256 elements in a dimension, 32 pixels
  // of 8 channels. N runs over pixels as they lie in memory, so two of 32 columns compute nothing
  // useful (they mix the ends of rows), but a tap is one offset for all 256 pixels.
  static constexpr int kPitch = 32, kColumns = kPitch - 2;
  static constexpr int kGroups = 2;  // warpgroups that multiply; they share weights and halo
  static constexpr int kRowsPerGroup = kPixels / kPitch;
  static constexpr int kRows = kGroups * kRowsPerGroup;
  static constexpr int kHaloRows = kRows + 2, kHaloPixels = kHaloRows * kPitch;
  static constexpr int kThreads = 128 * (kGroups + 1);  // and one that fills the stages

  // A stage is a chunk of 32 channels: pixels as [unit][row][column][16 bytes], weights as
  // [tap][unit][output][16 bytes]. The last tap of the last pixels reaches two pixels beyond the
  // last unit, into the weights; they belong to the columns that are not used.
  static constexpr int kUnitStride = kHaloPixels * kUnitBytes;
  static constexpr int kPixelBytes = kUnitsPerChunk * kUnitStride;
  static constexpr int kWeightUnitStride = kOutputs * kUnitBytes;
  static constexpr int kTapBytes = kUnitsPerChunk * kWeightUnitStride;
  static constexpr int kWeightBytes = kTaps * kTapBytes;
  static constexpr int kStageBytes = kPixelBytes + kWeightBytes;
  // Three stages of 72 KB are what 227 KB of shared memory hold.
  static constexpr int kStages = 3;
  static constexpr int kBarriersOffset = kStages * kStageBytes;
  static constexpr int kSharedBytes = kBarriersOffset + 2 * kStages * 8;
};
static_assert(WgmmaTile::kSharedBytes <= 227 * 1024, "");
static_assert(WgmmaTile::kPitch * 8 <= 256, "a TMA box has at most 256 elements in a dimension");

// Sums that conv2 and conv4 keep, as the accumulators lie in registers: [item][group][warp of 16
// outputs][column of 8 pixels][lane][4 floats].
constexpr int kSumWarps = 2, kSumColumns = WgmmaTile::kPixels / 8;
constexpr std::int64_t kItemSumBytes =
    std::int64_t{WgmmaTile::kGroups} * kSumWarps * kSumColumns * 32 * 16;

constexpr Items wgmma_items(int batch, int height, int width) {
  return items_of<WgmmaTile>(batch, height, width, 1, WgmmaTile::kOutputs);
}

// wgmma for tall and wide enough batches; for others mma.sync's smaller tiles leave fewer SMs idle.
// In the time of a small tile of mma.sync on one SM, for 64 outputs: its large tiles take 4, and
// wgmma takes 5 for twice the outputs, if it is 1.6 times as fast (reasoned from the two
// instructions' peaks, not measured).
constexpr bool prefers_wgmma(int batch, int height, int width, int processors) {
  const auto rounds = [&](const Items& items) {
    return (items.count() + processors - 1) / processors;
  };
  const std::int64_t wgmma = 20 * rounds(wgmma_items(batch, height, width));
  const std::int64_t large = 16 * rounds(items_of<LargeTile>(batch, height, width, 1, 64));
  const std::int64_t small = 5 * rounds(items_of<SmallTile>(batch, height, width, 1, 64));
  return wgmma <= (large < small ? large : small);
}

// ---- Packed weights: [chunk][tap][unit][output][8 channels of 16 bits] ----

constexpr int kWgmmaChunkChannels = 32;

ESRGAN_HOST_DEVICE constexpr std::int64_t wgmma_words(int in_channels) {
  return std::int64_t{in_channels / kWgmmaChunkChannels} * (WgmmaTile::kWeightBytes / 4);
}

// Word `index` holds the weights of inputs `input` and `input + 1`.
ESRGAN_HOST_DEVICE constexpr WeightPlace wgmma_weight_place(std::int64_t index) {
  constexpr int kChunkWords = WgmmaTile::kWeightBytes / 4;
  const int chunk = static_cast<int>(index / kChunkWords);
  int rest = static_cast<int>(index % kChunkWords);
  const int pair = rest % 4;
  rest /= 4;
  const int output = rest % WgmmaTile::kOutputs;
  rest /= WgmmaTile::kOutputs;
  const int unit = rest % kUnitsPerChunk, tap = rest / kUnitsPerChunk;
  return {0, output, chunk * kWgmmaChunkChannels + unit * 8 + pair * 2, tap / 3, tap % 3};
}

}  // namespace esrgan::cuda

// conv_first, straight from the user's pixels, in float32 for every Compute: with 3 channels it is
// 0.1 % of the work, and K = 27 would leave tensor cores half empty.
#pragma once

#include "epilogue.cuh"
#include "pixels.cuh"
#include "tiling.h"

namespace esrgan::cuda {

struct FirstTile {
  static constexpr int kRows = 4, kColumns = 32;  // a warp has a row: its stores are contiguous
  static constexpr int kThreads = kRows * kColumns;
  static constexpr int kOutputs = kSlice;  // accumulators of a thread
  static constexpr int kHaloColumns = kColumns + 2, kHaloPixels = (kRows + 2) * kHaloColumns;
  static constexpr int kChannels = 4;  // staged at a time; pixel-unshuffled inputs have up to 64
  static constexpr int kPixelBytes = kChannels * kHaloPixels * 4;
  static constexpr int kSharedBytes = kPixelBytes + kChannels * 9 * kOutputs * 4;
};

template <class M>
ESRGAN_KERNEL(FirstTile::kThreads, 4)
first_kernel(const FirstTask task) {
  using T = FirstTile;
  const std::uint32_t pixels = dynamic_shared(), weights = pixels + T::kPixelBytes;
  const Item item = task.items.at(block_index());
  const int row = thread_index() / T::kColumns, column = thread_index() % T::kColumns;
  const int first_output = item.slice * T::kOutputs;
  float sums[T::kOutputs];
#pragma unroll
  for (int o = 0; o < T::kOutputs; ++o) sums[o] = load_global<float>(task.bias + first_output + o);

  for (int first = 0; first < task.channels; first += T::kChannels) {
    const int channels =
        task.channels - first < T::kChannels ? task.channels - first : T::kChannels;
    synchronize_block();
    for (int i = thread_index(); i < channels * T::kHaloPixels; i += T::kThreads) {
      const int channel = i / T::kHaloPixels, place = i % T::kHaloPixels;
      const int y = item.row - 1 + place / T::kHaloColumns;
      const int x = item.column - 1 + place % T::kHaloColumns;
      const bool inside = y >= 0 && x >= 0 && y < task.height && x < task.width;
      const float v = inside ? load_pixel(task.in, item.image, first + channel, y, x) : 0;
      store_shared4(pixels + i * 4, bits_of(v));
    }
    for (int i = thread_index(); i < channels * 9 * T::kOutputs; i += T::kThreads) {
      const int tap = first * 9 + i / T::kOutputs;
      const float v =
          load_global<float>(task.weights + tap * task.nf + first_output + i % T::kOutputs);
      store_shared4(weights + i * 4, bits_of(v));
    }
    synchronize_block();
    for (int channel = 0; channel < channels; ++channel) {
#pragma unroll
      for (int tap = 0; tap < 9; ++tap) {
        const float v =
            float_of(load_shared4(pixels + ((channel * T::kHaloPixels) +
                                            (row + tap / 3) * T::kHaloColumns + column + tap % 3) *
                                               4));
#pragma unroll
        for (int o = 0; o < T::kOutputs; o += 4) {
          const uint4 w = load_shared16(weights + ((channel * 9 + tap) * T::kOutputs + o) * 4);
          sums[o] += v * float_of(w.x);
          sums[o + 1] += v * float_of(w.y);
          sums[o + 2] += v * float_of(w.z);
          sums[o + 3] += v * float_of(w.w);
        }
      }
    }
  }

  const int y = item.row + row, x = item.column + column;
  if (y >= task.height || x >= task.width) return;
  const std::int64_t image_pixels = std::int64_t{task.height} * task.width;
  const std::int64_t pixel = std::int64_t{y} * task.width + x;
  char* const out = task.out.data + item.image * task.out.image_bytes;
  char* const copy = task.copy.data ? task.copy.data + item.image * task.copy.image_bytes : nullptr;
  // A unit at a time: 16 bytes of each of a row's pixels.
  constexpr int kPairs = kUnitBytes / static_cast<int>(sizeof(typename M::Pair));
  struct alignas(16) Unit {
    typename M::Pair pairs[kPairs];
  };
#pragma unroll
  for (int o = 0; o < T::kOutputs; o += 2 * kPairs) {
    Unit unit;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) unit.pairs[i] = M::pair(sums[o + 2 * i], sums[o + 2 * i + 1]);
    const std::int64_t offset =
        element_offset<M::kElementBytes>(first_output + o, pixel, image_pixels);
    store_global(out + offset, unit);
    if (copy) store_global(copy + offset, unit);
  }
}

}  // namespace esrgan::cuda

// conv_hr, LeakyReLU and conv_last in one kernel, down to the user's pixels: conv_hr's 64 channels
// at the output's resolution are the largest activations of the network, and never leave shared
// memory. A tile computes conv_hr on 16x16 pixels and conv_last on the 14x14 within: 1.3 times the
// work of conv_hr, which is 3 % of an x4 network's.
#pragma once

#include "epilogue.cuh"
#include "mainloop.cuh"
#include "pixels.cuh"

namespace esrgan::cuda {

// conv_hr's result in shared memory, over the stages: [unit][row][column of 18]. The taps of the
// two columns right of the 14 that are used reach into columns 16 and 17; those are zero.
template <int ElementBytes>
struct HeadFeatures {
  static constexpr int kRows = HeadTile::kRows, kColumns = HeadTile::kColumns + 2;
  static constexpr int kPixels = kRows * kColumns;
  static constexpr int kUnits = HeadTile::kOutputs * ElementBytes / kUnitBytes;
  static_assert(kUnits * kPixels * kUnitBytes <= HeadTile::kSharedBytes, "");
};

template <class M>
ESRGAN_DEVICE void store_pair_shared(std::uint32_t address, float low, float high) {
  const typename M::Pair v = M::pair(low, high);
  if constexpr (M::kElementBytes == 2) store_shared4(address, v);
  else store_shared8(address, v);
}

template <class M>
ESRGAN_DEVICE void store_features(const HeadTask& task, const Item& item, std::uint32_t shared,
                                  const WarpPlace<HeadTile>& warp,
                                  const Accumulators<HeadTile>& acc) {
  using Features = HeadFeatures<M::kElementBytes>;
#pragma unroll
  for (int n = 0; n < HeadTile::kOutputTiles; ++n) {
    const int channel = (warp.output + n) * kMmaOutputs + warp.lane % 4 * 2;
    const bool real = channel < task.nf;
    float2 bias = make_float2(0, 0);
    if (real) bias = load_global<float2>(task.hr.epilogue.bias + channel);
#pragma unroll
    for (int m = 0; m < HeadTile::kRowsPerWarp; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp.row + m, column = warp.lane / 4 + 8 * half;
        const int y = item.row + row, x = item.column + column;
        // conv_last pads with zeros: outside the image there are no features.
        const bool inside = y >= 0 && x >= 0 && y < task.hr.height && x < task.hr.width && real;
        const float slope = task.hr.epilogue.slope;
        const float low = inside ? leaky_relu(acc.d[m][n][2 * half] + bias.x, slope) : 0;
        const float high = inside ? leaky_relu(acc.d[m][n][2 * half + 1] + bias.y, slope) : 0;
        const auto offset = static_cast<std::uint32_t>(element_offset<M::kElementBytes>(
            channel, row * Features::kColumns + column, Features::kPixels));
        store_pair_shared<M>(shared + offset, low, high);
      }
    }
  }
  constexpr int kPadding = Features::kUnits * Features::kRows * 2;
  for (int i = thread_index(); i < kPadding; i += HeadTile::kThreads)
    store_shared16(
        shared + ((i / 2) * Features::kColumns + HeadTile::kColumns + i % 2) * kUnitBytes,
        make_uint4(0, 0, 0, 0));
}

// Two rows of 16 pixels a warp (the last of the eight warps has none), eight outputs.
template <class M>
ESRGAN_DEVICE void last_convolution(const HeadTask& task, const Item& item, std::uint32_t shared,
                                    int lane) {
  using Features = HeadFeatures<M::kElementBytes>;
  constexpr int kRows = 2;
  const int first_row = thread_index() / 32 * kRows;
  if (first_row >= kHeadStride) return;
  float d[kRows][4] = {};
  const int steps = task.nf * M::kElementBytes / (kUnitsPerStep * kUnitBytes);
  for (int step = 0; step < steps; ++step) {
    const std::uint32_t unit =
        shared + (step * kUnitsPerStep + lane / 16) * Features::kPixels * kUnitBytes;
#pragma unroll 3
    for (int tap = 0; tap < 9; ++tap) {
      const uint2 v = load_global<uint2>(task.last_weights + ((step * 9 + tap) * 32 + lane) * 8);
      const typename M::Weights w = M::weights(v.x, v.y);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        std::uint32_t raw[4];
        ldmatrix4(raw,
                  unit + ((first_row + row + tap / 3) * Features::kColumns + lane % 16 + tap % 3) *
                             kUnitBytes);
        M::multiply(d[row], M::pixels(raw), w);
      }
    }
  }
  const int channel = lane % 4 * 2;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = channel + i % 2, column = lane / 4 + 8 * (i / 2);
      const int y = item.row + kHeadBorder + first_row + row,
                x = item.column + kHeadBorder + column;
      if (c >= task.out_channels || column >= kHeadStride || y >= task.hr.height ||
          x >= task.hr.width)
        continue;
      const float value = d[row][i] + load_global<float>(task.last_bias + c);
      if (task.nonfinite && !is_finite(value)) atomic_or_global(task.nonfinite, 1);
      store_pixel(task.out, item.image, c, y, x, value);
    }
  }
}

}  // namespace esrgan::cuda

// From accumulators to activations: bias, LeakyReLU, residuals, rounding, and where it all lies.
// A thread's four accumulators of a 16x8 tile are (PTX ISA, "Matrix Fragments for mma.m16n8k16")
// channels 2 (l % 4) and one more, of pixels l / 4 and 8 more: neighbours in memory, so that a warp
// stores 128 contiguous bytes.
#pragma once

#include "kernels.h"
#include "precision.cuh"
#include "warp.cuh"

namespace esrgan::cuda {

// Byte of channel `channel` at `pixel` in activations of `pixels` pixels.
template <int ElementBytes>
ESRGAN_DEVICE std::int64_t element_offset(int channel, std::int64_t pixel, std::int64_t pixels) {
  constexpr int kChannels = kUnitBytes / ElementBytes;
  return (channel / kChannels * pixels + pixel) * kUnitBytes + channel % kChannels * ElementBytes;
}

ESRGAN_DEVICE float leaky_relu(float v, float slope) { return v < 0 ? v * slope : v; }

// Two neighbouring channels of one pixel.
template <class M>
ESRGAN_DEVICE void finish_pair(const Epilogue& e, const char* residual, const char* outer,
                               std::int64_t offset, float2 bias, float low, float high, char* out) {
  low = leaky_relu(low + bias.x, e.slope);
  high = leaky_relu(high + bias.y, e.slope);
  float r0, r1;
  if (residual) {
    M::unpair(load_global<typename M::Pair>(residual + offset), r0, r1);
    low = low * e.scale + r0;
    high = high * e.scale + r1;
  }
  if (outer) {
    M::unpair(load_global<typename M::Pair>(outer + offset), r0, r1);
    low = low * e.outer_scale + r0;
    high = high * e.outer_scale + r1;
  }
  store_global<typename M::Pair>(out + offset, M::pair(low, high));
}

// Float32: each residual is loaded where it is used; the accumulators leave no registers for more.
template <class M, class T>
ESRGAN_DEVICE void store_tile_singly(const ConvolutionTask& task, const Item& item, int zoom,
                                     const WarpPlace<T>& warp, const Accumulators<T>& acc) {
  const std::int64_t out_width = std::int64_t{task.width} * zoom;
  const std::int64_t out_pixels = std::int64_t{task.height} * zoom * out_width;
  const Epilogue& e = task.epilogue;
  char* const out = task.out.data + item.image * task.out.image_bytes;
  const char* const residual =
      e.residual.data ? e.residual.data + item.image * e.residual.image_bytes : nullptr;
  const char* const outer = e.outer_residual.data
                                ? e.outer_residual.data + item.image * e.outer_residual.image_bytes
                                : nullptr;
#pragma unroll
  for (int n = 0; n < T::kOutputTiles; ++n) {
    const int channel =
        item.slice * T::kOutputs + (warp.output + n) * kMmaOutputs + warp.lane % 4 * 2;
    if (channel >= task.out_channels) continue;  // padding of a narrow convolution
    const float2 bias = load_global<float2>(e.bias + channel);
#pragma unroll
    for (int m = 0; m < T::kRowsPerWarp; ++m) {
      const int y = item.row + warp.row + m;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int x = item.column + warp.column + warp.lane / 4 + 8 * half;
        if (y >= task.height || x >= task.width) continue;
        const std::int64_t pixel =
            (std::int64_t{y} * zoom + item.phase / 2) * out_width + x * zoom + item.phase % 2;
        finish_pair<M>(e, residual, outer,
                       element_offset<M::kElementBytes>(channel, pixel, out_pixels), bias,
                       acc.d[m][n][2 * half], acc.d[m][n][2 * half + 1], out);
      }
    }
  }
}

// 16 bits: of 2 to 8 pixels the residuals are asked for before the first is used, as many as there
// are registers for: a load that is waited for takes longer than everything else here, and the
// compiler moves none past a store.
template <class M, class T>
ESRGAN_DEVICE void store_tile_in_batches(const ConvolutionTask& task, const Item& item, int zoom,
                                         const WarpPlace<T>& warp, const Accumulators<T>& acc) {
  const Epilogue& e = task.epilogue;
  char* const out = task.out.data + item.image * task.out.image_bytes;
  const char* const residual =
      e.residual.data ? e.residual.data + item.image * e.residual.image_bytes : nullptr;
  const char* const outer = e.outer_residual.data
                                ? e.outer_residual.data + item.image * e.outer_residual.image_bytes
                                : nullptr;
  const int y = item.row + warp.row, x = item.column + warp.column + warp.lane / 4;
  const std::int64_t out_width = std::int64_t{task.width} * zoom;
  const std::int64_t out_pixels = std::int64_t{task.height} * zoom * out_width;
  const std::int64_t pixel = (std::int64_t{y} * zoom + item.phase / 2) * out_width +
                             std::int64_t{x} * zoom + item.phase % 2;
  const int row_bytes = static_cast<int>(out_width) * zoom * kUnitBytes;
  const int half_bytes = 8 * zoom * kUnitBytes;
  const auto inside = [&](int m, int half) {
    return y + m < task.height && x + 8 * half < task.width;
  };
  constexpr int kBatch = kResidualRows;
#pragma unroll
  for (int n = 0; n < T::kOutputTiles; ++n) {
    const int channel =
        item.slice * T::kOutputs + (warp.output + n) * kMmaOutputs + warp.lane % 4 * 2;
    if (channel >= task.out_channels) continue;  // padding of a narrow convolution
    const float2 bias = load_global<float2>(e.bias + channel);
    const std::int64_t at = element_offset<M::kElementBytes>(channel, pixel, out_pixels);
#pragma unroll
    for (int first = 0; first < T::kRowsPerWarp; first += kBatch) {
      static_assert(T::kRowsPerWarp % kBatch == 0, "");
      typename M::Pair residuals[kBatch][2], outers[kBatch][2];
#pragma unroll
      for (int m = 0; m < kBatch; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (!residual || !inside(first + m, half)) continue;
          const std::int64_t offset = at + (first + m) * row_bytes + half * half_bytes;
          residuals[m][half] = load_global<typename M::Pair>(residual + offset);
          if (outer) outers[m][half] = load_global<typename M::Pair>(outer + offset);
        }
#pragma unroll
      for (int m = 0; m < kBatch; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (!inside(first + m, half)) continue;
          const float* const sums = acc.d[first + m][n] + 2 * half;
          float low = leaky_relu(sums[0] + bias.x, e.slope);
          float high = leaky_relu(sums[1] + bias.y, e.slope);
          float r0, r1;
          if (residual) {
            M::unpair(residuals[m][half], r0, r1);
            low = low * e.scale + r0;
            high = high * e.scale + r1;
          }
          if (outer) {
            M::unpair(outers[m][half], r0, r1);
            low = low * e.outer_scale + r0;
            high = high * e.outer_scale + r1;
          }
          store_global<typename M::Pair>(out + at + (first + m) * row_bytes + half * half_bytes,
                                         M::pair(low, high));
        }
    }
  }
}

// `zoom` 2: the tile is one phase of an output twice as large.
template <class M, class T>
ESRGAN_DEVICE void store_tile(const ConvolutionTask& task, const Item& item, int zoom,
                              const WarpPlace<T>& warp, const Accumulators<T>& acc) {
  if constexpr (M::kElementBytes == 4) store_tile_singly<M>(task, item, zoom, warp, acc);
  else store_tile_in_batches<M>(task, item, zoom, warp, acc);
}

}  // namespace esrgan::cuda

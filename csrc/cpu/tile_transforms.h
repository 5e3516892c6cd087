// The two-dimensional tile transforms: pixels -> V (input_tiles) and M -> pixels (output_tiles).
#pragma once

#include "kernels.h"
#include "winograd.h"

namespace esrgan {
namespace {

// V = B^T d B for a row of tiles. Neighbouring tiles share kTileInput - Step columns of pixels;
// what B^T made of those columns is kept, so each column is transformed once.
template <int Step, int SegmentChannels>
void input_tiles(const InputTransform& in) {
  constexpr int kShared = kTileInput - Step;
  constexpr int kMaxVectors = 64 / kLanes;  // channels of a pixel: at most 64
  Vec kept[kMaxVectors][kShared][kTileInput];
  const int vectors = in.channels / kLanes;
  const float* rows[kTileInput];
  for (int i = 0; i < kTileInput; ++i) rows[i] = in.rows[i];

  const auto column_pass = [&](std::ptrdiff_t offset, Vec* out) __attribute__((always_inline)) {
    Vec d[kTileInput];
    ESRGAN_UNROLL
    for (int i = 0; i < kTileInput; ++i) d[i] = load(rows[i] + offset);
    input_transform_1d(d, out);
  };
  for (int c = 0; c < vectors; ++c)
    for (int x = 0; x < kShared; ++x)
      column_pass(static_cast<std::ptrdiff_t>(x) * in.channels + c * kLanes, kept[c][x]);

  for (int tile = 0; tile < in.tiles; ++tile) {
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(tile) * Step * in.channels;
    // Beyond the last tile may lie pixels that another core is writing: nothing is fetched there.
    const std::ptrdiff_t next = tile + 1 < in.tiles ? Step * in.channels : 0;
    for (int c = 0; c < vectors; ++c) {
      Vec columns[kTileInput][kTileInput];  // [column][row of B^T]
      ESRGAN_UNROLL
      for (int x = 0; x < kShared; ++x) {
        ESRGAN_UNROLL
        for (int i = 0; i < kTileInput; ++i) columns[x][i] = kept[c][x][i];
      }
      for (int x = kShared; x < kTileInput; ++x) {
        const std::ptrdiff_t at = first + static_cast<std::ptrdiff_t>(x) * in.channels + c * kLanes;
        ESRGAN_UNROLL
        for (int i = 0; i < kTileInput; ++i) __builtin_prefetch(rows[i] + at + next, 0, 3);
        column_pass(at, columns[x]);
      }
      ESRGAN_UNROLL
      for (int x = 0; x < kShared; ++x) {
        ESRGAN_UNROLL
        for (int i = 0; i < kTileInput; ++i) kept[c][x][i] = columns[Step + x][i];
      }
      const int channel = c * kLanes;
      float* out = in.out.data + channel / SegmentChannels * in.out.segment_stride +
                   tile * SegmentChannels + channel % SegmentChannels;
      for (int i = 0; i < kTileInput; ++i) {
        Vec d[kTileInput], v[kTileInput];
        ESRGAN_UNROLL
        for (int x = 0; x < kTileInput; ++x) d[x] = columns[x][i];
        input_transform_1d(d, v);
        ESRGAN_UNROLL
        for (int x = 0; x < kTileInput; ++x) {
          float* p = out + (i * kTileInput + x) * in.out.point_stride;
          // The line of the next tile is fetched for writing meanwhile: 36 streams are more than
          // the hardware prefetchers follow.
          __builtin_prefetch(p + 2 * SegmentChannels, 1, 3);
          store(p, v[x]);
        }
      }
    }
  }
}

// y = A^T m A, bias, activation, residuals, for a row of tiles.
template <int Outputs>
void output_tiles(const OutputTransform& o) {
  const Vec slope = broadcast(o.negative_slope);
  const Vec scale = broadcast(o.scale), outer_scale = broadcast(o.outer_scale);
  for (int tile = 0; tile < o.tiles; ++tile) {
    const int column = o.first_column + tile * Outputs;
    const int next = tile + 1 < o.tiles ? Outputs : 0;
    const int begin = column < 0 ? -column : 0;
    const int end = o.columns - column < Outputs ? o.columns - column : Outputs;
    for (int c = 0; c < o.out_channels; c += kLanes) {
      const float* m = o.in + static_cast<std::ptrdiff_t>(tile) * o.in_channels + c;
      Vec half[Outputs][kTileInput];  // [output row][column of the tile]
      for (int x = 0; x < kTileInput; ++x) {
        Vec points[kTileInput], y[Outputs];
        ESRGAN_UNROLL
        for (int i = 0; i < kTileInput; ++i) {
          const float* p = m + (i * kTileInput + x) * o.point_stride;
          __builtin_prefetch(p + o.in_channels, 0, 3);
          points[i] = load(p);
        }
        output_transform_1d<Outputs>(points, y);
        ESRGAN_UNROLL
        for (int i = 0; i < Outputs; ++i) half[i][x] = y[i];
      }
      const Vec bias = load(o.bias + c);
      for (int i = 0; i < Outputs; ++i) {
        if (!o.rows[i]) continue;
        Vec y[Outputs];
        output_transform_1d<Outputs>(half[i], y);
        const std::ptrdiff_t at = column * o.pixel_stride + c;
        const std::ptrdiff_t residual = column * o.residual_stride + c;
        ESRGAN_UNROLL
        for (int x = 0; x < Outputs; ++x) {
          if (x < begin || x >= end) continue;
          Vec v = y[x] + bias;
          if (o.activate) v = leaky_relu(v, slope);
          __builtin_prefetch(o.rows[i] + at + (x + next) * o.pixel_stride, 1, 3);
          if (o.inner[i]) {
            __builtin_prefetch(o.inner[i] + residual + (x + next) * o.residual_stride, 0, 3);
            v = multiply_add(v, scale, load(o.inner[i] + residual + x * o.residual_stride));
          }
          if (o.outer[i])
            v = multiply_add(v, outer_scale, load(o.outer[i] + residual + x * o.residual_stride));
          store(o.rows[i] + at + x * o.pixel_stride, v);
        }
      }
    }
  }
}

}  // namespace
}  // namespace esrgan

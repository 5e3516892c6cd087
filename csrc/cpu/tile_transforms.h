// The two-dimensional tile transforms: pixels -> V (input_tiles) and M -> pixels (output_tiles).
#pragma once

#include "kernels.h"
#include "winograd.h"

namespace esrgan::cpu {
namespace {

// Vectors that fill a cache line.
constexpr int kLineVectors = kLanes < kLineFloats ? kLineFloats / kLanes : 1;

// Two rows of V = B^T d B (kInputPairs[Pair]) for a row of tiles, in the channels of a cache line.
// More rows at a time would not fit the registers, and a line written in two turns would go to L2
// twice. Neighbouring tiles share kTileInput - Step columns of pixels; what B^T made of those is
// kept, so each column is transformed once.
template <int Step, int Pair>
ESRGAN_INLINE void input_rows(const InputTransform& in, int channel, float* out, int tile_floats) {
  constexpr int kShared = kTileInput - Step;
  Vec kept[kLineVectors][kShared][2];
  const float* rows[kTileInput];
  for (int i = 0; i < kTileInput; ++i) rows[i] = in.rows[i] + channel;
  const std::ptrdiff_t pixel = in.channels;

  const auto column_pass = [&](std::ptrdiff_t offset, Vec * v) __attribute__((always_inline)) {
    Vec d[kTileInput];
    ESRGAN_UNROLL
    for (int i = 0; i < kTileInput; ++i) d[i] = load(rows[i] + offset);
    input_transform_pair<Pair>(d, v);
  };
  for (int n = 0; n < kLineVectors; ++n) {
    ESRGAN_UNROLL
    for (int x = 0; x < kShared; ++x) column_pass(x * pixel + n * kLanes, kept[n][x]);
  }

  for (int tile = 0; tile < in.tiles; ++tile) {
    const std::ptrdiff_t first = tile * Step * pixel;
    // Beyond the last tile may lie pixels that another core is writing: nothing is fetched there.
    const std::ptrdiff_t next = tile + 1 < in.tiles ? Step * pixel : 0;
    for (int n = 0; n < kLineVectors; ++n) {
      Vec columns[kTileInput][2];
      ESRGAN_UNROLL
      for (int x = 0; x < kShared; ++x) {
        columns[x][0] = kept[n][x][0];
        columns[x][1] = kept[n][x][1];
      }
      ESRGAN_UNROLL
      for (int x = kShared; x < kTileInput; ++x) {
        const std::ptrdiff_t at = first + x * pixel;
        if (Pair == 0 && n == 0) {
          ESRGAN_UNROLL
          for (int i = 0; i < kTileInput; ++i) __builtin_prefetch(rows[i] + at + next, 0, 3);
        }
        column_pass(at + n * kLanes, columns[x]);
      }
      ESRGAN_UNROLL
      for (int x = 0; x < kShared; ++x) {
        kept[n][x][0] = columns[Step + x][0];
        kept[n][x][1] = columns[Step + x][1];
      }
      ESRGAN_UNROLL
      for (int r = 0; r < 2; ++r) {
        Vec d[kTileInput], v[kTileInput];
        ESRGAN_UNROLL
        for (int x = 0; x < kTileInput; ++x) d[x] = columns[x][r];
        input_transform_1d(d, v);
        ESRGAN_UNROLL
        for (int x = 0; x < kTileInput; ++x) {
          const int point = kInputPairs[Pair][r] * kTileInput + x;
          float* p = out + std::ptrdiff_t{tile} * tile_floats + point * in.out.point_stride;
          // The line of a tile further on is fetched for writing meanwhile: 36 streams are more
          // than the hardware prefetchers follow.
          if (n == 0) __builtin_prefetch(p + 2 * tile_floats, 1, 3);
          store(p + n * kLanes, v[x]);
        }
      }
    }
  }
}

template <int Step, int SegmentChannels>
void input_tiles(const InputTransform& in) {
  for (int channel = 0; channel < in.channels; channel += kLineVectors * kLanes) {
    float* out =
        in.out.data + channel / SegmentChannels * in.out.segment_stride + channel % SegmentChannels;
    input_rows<Step, 0>(in, channel, out, SegmentChannels);
    input_rows<Step, 1>(in, channel, out, SegmentChannels);
    input_rows<Step, 2>(in, channel, out, SegmentChannels);
  }
}

enum class Finish { kResiduals, kLeakyRelu, kPRelu };

// y = A^T m A, bias, activation or residuals, for a row of tiles.
template <int Outputs, Finish Kind>
void output_tiles(const OutputTransform& given) {
  const OutputTransform o = given;  // a copy, because the stores below might change `given`
  const Vec scale = broadcast(o.scale), outer_scale = broadcast(o.outer_scale);
  for (int tile = 0; tile < o.tiles; ++tile) {
    const int column = o.first_column + tile * Outputs;
    const int next = tile + 1 < o.tiles ? Outputs : 0;
    const int begin = column < 0 ? -column : 0;
    const int end = o.columns - column < Outputs ? o.columns - column : Outputs;
    for (int c = 0; c < o.out_channels; c += kLanes) {
      const float* m = opaque(o.in + static_cast<std::ptrdiff_t>(tile) * o.in_channels + c);
      Vec half[Outputs][kTileInput];  // [output row][column of the tile]
      ESRGAN_UNROLL
      for (int x = 0; x < kTileInput; ++x) {
        Vec points[kTileInput], y[Outputs];
        ESRGAN_UNROLL
        for (int i = 0; i < kTileInput; ++i)
          points[i] = load(m + (i * kTileInput + x) * o.point_stride);
        output_transform_1d<Outputs>(points, y);
        ESRGAN_UNROLL
        for (int i = 0; i < Outputs; ++i) half[i][x] = y[i];
      }
      const Vec bias = load(o.bias + c);
      const Vec slope = Kind == Finish::kPRelu ? load(o.slopes + c) : broadcast(o.negative_slope);
      const std::ptrdiff_t at = column * o.pixel_stride + c;
      const std::ptrdiff_t residual = column * o.residual_stride + c;
      for (int i = 0; i < Outputs; ++i) {
        if (!o.rows[i]) continue;
        Vec y[Outputs];
        output_transform_1d<Outputs>(half[i], y);
        const auto finish = [&](int x) __attribute__((always_inline)) {
          Vec v = y[x] + bias;
          __builtin_prefetch(o.rows[i] + at + (x + next) * o.pixel_stride, 1, 3);
          if constexpr (Kind != Finish::kResiduals) {
            v = leaky_relu(v, slope);
          } else {
            if (o.inner[i]) {
              __builtin_prefetch(o.inner[i] + residual + (x + next) * o.residual_stride, 0, 3);
              v = multiply_add(v, scale, load(o.inner[i] + residual + x * o.residual_stride));
            }
            if (o.outer[i])
              v = multiply_add(v, outer_scale, load(o.outer[i] + residual + x * o.residual_stride));
          }
          store(o.rows[i] + at + x * o.pixel_stride, v);
        };
        if (begin == 0 && end == Outputs) {
          ESRGAN_UNROLL
          for (int x = 0; x < Outputs; ++x) finish(x);
        } else {
          for (int x = begin; x < end; ++x) finish(x);
        }
      }
    }
  }
}

}  // namespace
}  // namespace esrgan::cpu

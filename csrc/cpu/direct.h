// Direct 3x3 convolutions at the two ends of the network, where few channels on one side leave
// Winograd nothing to win: together 0.5 % of the multiplications.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace esrgan::cpu {
namespace {

// Vectors run over output channels; `Pixels` neighbouring columns share each weight vector.
template <int Pixels, bool PRelu>
ESRGAN_INLINE void first_pixels(const FirstConvolution& f, int column) {
  for (int c = 0; c < f.out_channels; c += 2 * kLanes) {
    Vec sum[Pixels][2];
    ESRGAN_UNROLL
    for (int p = 0; p < Pixels; ++p) {
      sum[p][0] = load(f.bias + c);
      sum[p][1] = load(f.bias + c + kLanes);
    }
    const float* w = f.weights + c;
    for (int row = 0; row < f.in_channels * 3; ++row) {
      const float* in = f.rows[row] + column;
      ESRGAN_UNROLL
      for (int dx = 0; dx < 3; ++dx, w += f.out_channels) {
        const Vec w0 = load(w), w1 = load(w + kLanes);
        ESRGAN_UNROLL
        for (int p = 0; p < Pixels; ++p) {
          const Vec b = broadcast(in[p + dx]);
          sum[p][0] = multiply_add(w0, b, sum[p][0]);
          sum[p][1] = multiply_add(w1, b, sum[p][1]);
        }
      }
    }
    ESRGAN_UNROLL
    for (int p = 0; p < Pixels; ++p) {
      float* out = f.out + static_cast<std::ptrdiff_t>(column + p) * f.out_channels + c;
      if constexpr (PRelu) {
        sum[p][0] = leaky_relu(sum[p][0], load(f.slopes + c));
        sum[p][1] = leaky_relu(sum[p][1], load(f.slopes + c + kLanes));
      }
      store(out, sum[p][0]);
      store(out + kLanes, sum[p][1]);
    }
  }
}

template <bool PRelu>
void first_row(const FirstConvolution& f) {
  constexpr int kPixels = 4;  // 8 sums: two FMA units of 4 cycles' latency
  int column = 0;
  for (; column + kPixels <= f.columns; column += kPixels) first_pixels<kPixels, PRelu>(f, column);
  for (; column < f.columns; ++column) first_pixels<1, PRelu>(f, column);
}

inline void first_convolution(const FirstConvolution& f) {
  if (f.slopes) first_row<true>(f);
  else first_row<false>(f);
}

// Vectors run over input channels and are summed at the end. A pixel is loaded once for the three
// columns of the filter.
template <int Outputs, int Pixels>
ESRGAN_INLINE void last_pixels(const LastConvolution& l, int column) {
  Vec sum[Outputs][Pixels] = {};
  const std::ptrdiff_t tap = std::ptrdiff_t{l.in_channels} * Outputs;
  for (int dy = 0; dy < 3; ++dy) {
    const float* in = l.rows[dy] + static_cast<std::ptrdiff_t>(column - 1) * l.in_channels;
    const float* w = l.weights + 3 * dy * tap;
    for (int c = 0; c < l.in_channels; c += kLanes, w += Outputs * kLanes) {
      Vec x[Pixels + 2];
      ESRGAN_UNROLL
      for (int p = 0; p < Pixels + 2; ++p)
        x[p] = load(in + static_cast<std::ptrdiff_t>(p) * l.in_channels + c);
      ESRGAN_UNROLL
      for (int dx = 0; dx < 3; ++dx) {
        ESRGAN_UNROLL
        for (int o = 0; o < Outputs; ++o) {
          const Vec weight = load(w + dx * tap + o * kLanes);
          ESRGAN_UNROLL
          for (int p = 0; p < Pixels; ++p) sum[o][p] = multiply_add(weight, x[p + dx], sum[o][p]);
        }
      }
    }
  }
  ESRGAN_UNROLL
  for (int o = 0; o < Outputs; ++o) {
    ESRGAN_UNROLL
    for (int p = 0; p < Pixels; ++p)
      l.out[o * l.channel_stride + (column + p) * l.column_stride] =
          l.bias[o] + sum_of_lanes(sum[o][p]);
  }
}

template <int Outputs>
void last_row(const LastConvolution& l) {
  constexpr int kPixels = kLanes == 16 ? 4 : 2;  // sums and pixels within 32 or 16 registers
  int column = 0;
  for (; column + kPixels <= l.columns; column += kPixels) last_pixels<Outputs, kPixels>(l, column);
  for (; column < l.columns; ++column) last_pixels<Outputs, 1>(l, column);
}

inline void last_convolution(const LastConvolution& l) {
  switch (l.out_channels) {
    case 1:
      return last_row<1>(l);
    case 2:
      return last_row<2>(l);
    case 3:
      return last_row<3>(l);
    default:
      return last_row<4>(l);
  }
}

}  // namespace
}  // namespace esrgan::cpu

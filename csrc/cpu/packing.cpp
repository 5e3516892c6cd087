#include "packing.h"

#include "points.h"

namespace esrgan::cpu {
namespace {

// Input channels are contiguous in neither the source nor the destination, outputs are in the
// destination: the arithmetic runs over this many outputs at once.
constexpr int kOutputs = 8;

// G for `Taps` taps at the points 0, +-p, +-q, infinity (winograd.h).
template <int Taps>
struct FilterTransform {
  double g[kTileInput][Taps];
  FilterTransform() {
    const double p = kPointP, q = kPointQ;
    const double points[] = {0, p, -p, q, -q};
    for (int i = 0; i < 5; ++i) {
      double denominator = 1;
      for (int j = 0; j < 5; ++j)
        if (j != i) denominator *= points[i] - points[j];
      double power = 1;
      for (int t = 0; t < Taps; ++t, power *= points[i]) g[i][t] = power / denominator;
    }
    for (int t = 0; t < Taps; ++t) g[5][t] = t == Taps - 1;
  }
};

// filters[tap y][tap x][output] -> out[point * point_stride + output]
template <int Taps>
void transform_filters(const double (&filters)[Taps][Taps][kOutputs], float* out,
                       std::ptrdiff_t point_stride) {
  static const FilterTransform<Taps> transform;
  double half[kTileInput][Taps][kOutputs];
  for (int i = 0; i < kTileInput; ++i)
    for (int x = 0; x < Taps; ++x)
      for (int o = 0; o < kOutputs; ++o) {
        double sum = 0;
        for (int y = 0; y < Taps; ++y) sum += transform.g[i][y] * filters[y][x][o];
        half[i][x][o] = sum;
      }
  for (int i = 0; i < kTileInput; ++i)
    for (int j = 0; j < kTileInput; ++j)
      for (int o = 0; o < kOutputs; ++o) {
        double sum = 0;
        for (int x = 0; x < Taps; ++x) sum += transform.g[j][x] * half[i][x][o];
        out[(i * kTileInput + j) * point_stride + o] = static_cast<float>(sum);
      }
}

// Where outputs [output, output + kOutputs) of an input channel lie within a point.
std::ptrdiff_t panel_offset(const Convolution& conv, const Kernels& kernels, int output,
                            int input) {
  const int panel = kernels.panel_outputs;
  return (static_cast<std::ptrdiff_t>(output / panel) * conv.in_channels + input) * panel +
         output % panel;
}

template <int Taps, class Filter>
void pack(const Convolution& conv, const Kernels& kernels, int first, int last,
          const Filter& filter, float* packed) {
  const std::ptrdiff_t point_stride =
      static_cast<std::ptrdiff_t>(conv.in_channels) * conv.out_channels;
  double filters[Taps][Taps][kOutputs];
  for (int output = 0; output < conv.out_channels; output += kOutputs) {
    for (int input = first; input < last; ++input) {
      for (int o = 0; o < kOutputs; ++o) {
        const float* w =
            conv.weights + (static_cast<std::ptrdiff_t>(output + o) * conv.in_channels + input) * 9;
        for (int y = 0; y < Taps; ++y)
          for (int x = 0; x < Taps; ++x) filters[y][x][o] = filter(w, y, x);
      }
      transform_filters<Taps>(filters, packed + panel_offset(conv, kernels, output, input),
                              point_stride);
    }
  }
}

}  // namespace

std::size_t winograd_floats(int in_channels, int out_channels) {
  return static_cast<std::size_t>(kPoints) * in_channels * out_channels;
}
std::size_t upsample_floats(int in_channels, int out_channels) {
  return 4 * winograd_floats(in_channels, out_channels);
}
std::size_t direct_floats(int in_channels, int out_channels) {
  return static_cast<std::size_t>(9) * in_channels * out_channels;
}

void pack_winograd(const Convolution& conv, const Kernels& kernels, int first, int last,
                   float* packed) {
  const auto filter = [](const float* w, int y, int x) -> double { return w[y * 3 + x]; };
  pack<3>(conv, kernels, first, last, filter, packed);
}

void pack_upsample(const Convolution& conv, const Kernels& kernels, int first, int last,
                   float* packed) {
  // Taps of the 3-tap filter that fall on each tap of the 2-tap one: [phase][tap] = {from, to}.
  static constexpr int kMerged[2][2][2] = {{{0, 0}, {1, 2}}, {{0, 1}, {2, 2}}};
  for (int phase = 0; phase < 4; ++phase) {
    const auto& rows = kMerged[phase / 2];
    const auto& columns = kMerged[phase % 2];
    const auto filter = [&](const float* w, int y, int x) {
      double sum = 0;
      for (int i = rows[y][0]; i <= rows[y][1]; ++i)
        for (int j = columns[x][0]; j <= columns[x][1]; ++j) sum += w[i * 3 + j];
      return sum;
    };
    pack<2>(conv, kernels, first, last, filter,
            packed + phase * winograd_floats(conv.in_channels, conv.out_channels));
  }
}

void pack_first(const Convolution& conv, float* packed) {
  for (int o = 0; o < conv.out_channels; ++o)
    for (int k = 0; k < conv.in_channels * 9; ++k)
      packed[k * conv.out_channels + o] = conv.weights[o * conv.in_channels * 9 + k];
}

void pack_last(const Convolution& conv, const Kernels& kernels, float* packed) {
  for (int tap = 0; tap < 9; ++tap)
    for (int c = 0; c < conv.in_channels; ++c)
      for (int o = 0; o < conv.out_channels; ++o)
        packed[((tap * conv.in_channels / kernels.lanes + c / kernels.lanes) * conv.out_channels +
                o) *
                   kernels.lanes +
               c % kernels.lanes] = conv.weights[(o * conv.in_channels + c) * 9 + tap];
}

}  // namespace esrgan::cpu

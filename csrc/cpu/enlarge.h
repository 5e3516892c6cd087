// What a compact network's last features become: pixel shuffle plus the input, and the bicubic
// reduction from four times to two or three times the size.
#pragma once

#include <algorithm>
#include <cstddef>

namespace esrgan::cpu {

// A row of `columns` pixels of the input that becomes `factor` rows of one channel of the result.
struct Shuffle {
  const float* features;  // the channel's factor x factor values of the first pixel
  std::ptrdiff_t pixel_stride;
  const float* input;
  int columns;
  int factor;
  float* out;  // first row, first column
  std::ptrdiff_t row_stride;
};

template <int Factor>
void shuffle_by(const Shuffle& s) {
  for (int dy = 0; dy < Factor; ++dy) {
    const float* from = s.features + dy * Factor;
    float* to = s.out + dy * s.row_stride;
    for (int x = 0; x < s.columns; ++x, from += s.pixel_stride, to += Factor)
      for (int dx = 0; dx < Factor; ++dx) to[dx] = from[dx] + s.input[x];
  }
}

inline void shuffle(const Shuffle& s) {
  switch (s.factor) {
    case 1:
      return shuffle_by<1>(s);
    case 2:
      return shuffle_by<2>(s);
    case 3:
      return shuffle_by<3>(s);
    case 4:
      return shuffle_by<4>(s);
    default:
      for (int x = 0; x < s.columns; ++x)
        for (int dy = 0; dy < s.factor; ++dy)
          for (int dx = 0; dx < s.factor; ++dx)
            s.out[dy * s.row_stride + x * s.factor + dx] =
                s.features[x * s.pixel_stride + dy * s.factor + dx] + s.input[x];
  }
}

// Four neighbours and their weights, for each of the `Scale` values that four become: Keys' cubic
// with a = -0.75 at half-pixel centres. `first` counts from the first of the four.
struct Taps {
  int first;
  float weights[4];
};

template <int Scale>
struct Reduction {
  Taps taps[Scale];
  Reduction() {
    for (int phase = 0; phase < Scale; ++phase) {
      const double position = (phase + 0.5) * 4 / Scale - 0.5;
      taps[phase].first = static_cast<int>(position) - 1;  // positions are positive
      for (int k = 0; k < 4; ++k)
        taps[phase].weights[k] = static_cast<float>(cubic(position - taps[phase].first - k));
    }
  }
  static double cubic(double distance) {
    constexpr double a = -0.75;
    const double d = distance < 0 ? -distance : distance;
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return a * (((d - 5) * d + 8) * d - 4);
  }
};

// A row of the result out of four rows of four times the input's size, from which one more value is
// readable to the left and right. `work` has room for 4 * columns + 2 floats.
template <int Scale>
void reduce_row(const float* const (&rows)[4], const float (&down)[4], int columns, float* work,
                float* out) {
  static const Reduction<Scale> reduction;
  const std::ptrdiff_t count = 4 * static_cast<std::ptrdiff_t>(columns) + 2;
  const float *a = rows[0] - 1, *b = rows[1] - 1, *c = rows[2] - 1, *d = rows[3] - 1;
  for (std::ptrdiff_t x = 0; x < count; ++x)
    work[x] = (a[x] * down[0] + b[x] * down[1]) + (c[x] * down[2] + d[x] * down[3]);
  for (int x = 0; x < columns; ++x, out += Scale) {
    const float* four = work + 1 + 4 * static_cast<std::ptrdiff_t>(x);
    for (int phase = 0; phase < Scale; ++phase) {
      const Taps& t = reduction.taps[phase];
      const float* v = four + t.first;
      out[phase] =
          (v[0] * t.weights[0] + v[1] * t.weights[1]) + (v[2] * t.weights[2] + v[3] * t.weights[3]);
    }
  }
}

}  // namespace esrgan::cpu

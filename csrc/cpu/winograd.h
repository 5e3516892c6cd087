// The Winograd (Toom-Cook) transforms in one dimension, over vectors of channels.
//
// F(m, r) computes m outputs of an r-tap filter from n = m + r - 1 inputs as
//   y = A^T [(G g) . (B^T d)]
// (Lavin and Gray, arXiv 1509.09308; the construction for any points: Barabasz et al., "Error
// analysis and improving the accuracy of Winograd convolution", ACM TOMS 46(4), 2020).
//
// Points here: 0, +-p, +-q with p = 21/32 and q = 49/32, and infinity. They cost as much as the
// usual 0, +-1, +-2 and lose 5 to 7 dB less precision: their spread is smaller (the optimum is flat
// around sqrt(1/2), sqrt(2)), and every power below is exact in 24 bits, so the three transforms
// cancel exactly (0.8 dB over the square roots). For a finite point a_i, row i of B^T holds the
// coefficients of prod_{j != i} (x - a_j), column i of A^T is 1, a_i, a_i^2, ..., and row i of G
// the same powers over prod_{j != i} (a_i - a_j); infinity has prod_j (x - a_j) and unit rows.
#pragma once

#include "points.h"
#include "simd.h"

namespace esrgan::cpu {
namespace {

constexpr float kP = kPointP, kP2 = kP * kP, kP3 = kP2 * kP, kP4 = kP2 * kP2;
constexpr float kQ = kPointQ, kQ2 = kQ * kQ, kQ3 = kQ2 * kQ, kQ4 = kQ2 * kQ2;

// B^T d, two of its six rows at a time. The filter's length does not enter: 6 inputs, F(4, 3) and
// F(5, 2) alike.
constexpr int kInputPairs[3][2] = {{0, 5}, {1, 2}, {3, 4}};

template <int Pair>
ESRGAN_INLINE void input_transform_pair(const Vec* d, Vec* v) {
  if constexpr (Pair == 0) {
    const Vec p2_plus_q2 = broadcast(kP2 + kQ2), p2_q2 = broadcast(kP2 * kQ2);
    v[0] = multiply_add(p2_q2, d[0], negative_multiply_add(p2_plus_q2, d[2], d[4]));
    v[1] = multiply_add(p2_q2, d[1], negative_multiply_add(p2_plus_q2, d[3], d[5]));
  } else {
    // (x^2 - q^2)(x -+ p) x or (x^2 - p^2)(x -+ q) x: an even and an odd part that the two signs
    // share.
    const Vec point = broadcast(Pair == 1 ? kP : kQ), other2 = broadcast(Pair == 1 ? kQ2 : kP2);
    const Vec even = negative_multiply_add(other2, d[2], d[4]);
    const Vec odd = negative_multiply_add(other2, d[1], d[3]);
    v[0] = multiply_add(point, odd, even);
    v[1] = negative_multiply_add(point, odd, even);
  }
}

// All six rows.
ESRGAN_INLINE void input_transform_1d(const Vec* d, Vec* v) {
  Vec pair[2];
  input_transform_pair<0>(d, pair);
  v[0] = pair[0];
  v[5] = pair[1];
  input_transform_pair<1>(d, v + 1);
  input_transform_pair<2>(d, v + 3);
}

// A^T m for `Outputs` = 4 (3 taps) or 5 (2 taps): y_k = sum_i a_i^k m_i, plus m_5 (infinity) in
// the last.
template <int Outputs>
ESRGAN_INLINE void output_transform_1d(const Vec* m, Vec* y) {
  const Vec sum_p = m[1] + m[2], difference_p = m[1] - m[2];
  const Vec sum_q = m[3] + m[4], difference_q = m[3] - m[4];
  y[0] = m[0] + sum_p + sum_q;
  y[1] = multiply_add(broadcast(kP), difference_p, broadcast(kQ) * difference_q);
  y[2] = multiply_add(broadcast(kP2), sum_p, broadcast(kQ2) * sum_q);
  y[3] = multiply_add(broadcast(kP3), difference_p, broadcast(kQ3) * difference_q);
  if (Outputs == 5) y[4] = multiply_add(broadcast(kP4), sum_p, broadcast(kQ4) * sum_q);
  y[Outputs - 1] = y[Outputs - 1] + m[5];
}

}  // namespace
}  // namespace esrgan::cpu

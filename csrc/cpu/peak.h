// What the machine could do at best: fused multiply-adds on registers alone. Benchmarks state
// their results as a share of it, measured in the same run.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace esrgan::cpu {
namespace {

// Independent sums: two units of 4 cycles' latency need 8; 12 leave registers for the factors.
constexpr int kPeakSums = 12;

inline float multiply_adds(long rounds, float factor) {
  const Vec w = broadcast(factor), b = broadcast(1 - factor);
  // Different values, or the compiler sees that all sums are one.
  Vec sum[kPeakSums];
  for (int i = 0; i < kPeakSums; ++i) sum[i] = broadcast(factor * static_cast<float>(i));
  for (long round = 0; round < rounds; ++round) {
    ESRGAN_UNROLL
    for (int i = 0; i < kPeakSums; ++i) sum[i] = multiply_add(sum[i], w, b);
  }
  Vec total = {};
  for (int i = 0; i < kPeakSums; ++i) total += sum[i];
  return sum_of_lanes(total);
}

}  // namespace
}  // namespace esrgan::cpu

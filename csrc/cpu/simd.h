// One vector type over the width that the including file asks for, built on the vector
// extensions of GCC and Clang. No intrinsics: the same source serves AVX-512, AVX2, SSE2 and NEON.
//
// The includer defines ESRGAN_VECTOR_FLOATS (a power of two) and has switched the target on.
#pragma once

#include <cstddef>
#include <cstring>

#define ESRGAN_INLINE inline __attribute__((always_inline))

#if defined(__clang__)
#define ESRGAN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ESRGAN_UNROLL _Pragma("GCC unroll 64")
#endif

namespace esrgan {
namespace {

constexpr int kLanes = ESRGAN_VECTOR_FLOATS;

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
// The same without an alignment requirement, and free to alias the floats it is read from.
typedef float VecUnaligned
    __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

ESRGAN_INLINE Vec load(const float* p) { return *reinterpret_cast<const VecUnaligned*>(p); }
ESRGAN_INLINE void store(float* p, Vec v) { *reinterpret_cast<VecUnaligned*>(p) = v; }
// x - 0 is x for every float, so this compiles to a broadcast alone.
ESRGAN_INLINE Vec broadcast(float x) { return x - Vec{}; }
// Written as one expression so that both compilers contract it to a fused multiply-add.
ESRGAN_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }
ESRGAN_INLINE Vec negative_multiply_add(Vec a, Vec b, Vec c) { return c - a * b; }
ESRGAN_INLINE Vec leaky_relu(Vec v, Vec slope) { return v > Vec{} ? v : v * slope; }
ESRGAN_INLINE float sum_of_lanes(Vec v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof v);
  ESRGAN_UNROLL
  for (int half = kLanes / 2; half > 0; half /= 2) {
    ESRGAN_UNROLL
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

}  // namespace
}  // namespace esrgan

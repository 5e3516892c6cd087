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

namespace esrgan::cpu {
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
template <int Floats>
struct VecOf {
  typedef float Type __attribute__((vector_size(Floats * sizeof(float))));
};
// The upper half onto the lower one, and so on.
template <int Floats>
ESRGAN_INLINE float sum_of_floats(typename VecOf<Floats>::Type v) {
  if constexpr (Floats == 2) {
    return v[0] + v[1];
  } else {
    typename VecOf<Floats / 2>::Type low, high;
    std::memcpy(&low, &v, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    return sum_of_floats<Floats / 2>(low + high);
  }
}
ESRGAN_INLINE float sum_of_lanes(Vec v) { return sum_of_floats<kLanes>(v); }
// Hides that p advances with a loop. Where a loop reads many planes, compilers keep a pointer into
// each instead of one and their distance: more than there are registers.
template <class T>
ESRGAN_INLINE T* opaque(T* p) {
  asm("" : "+r"(p));
  return p;
}

}  // namespace
}  // namespace esrgan::cpu

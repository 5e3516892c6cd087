// AVX2 with FMA: 8 floats a vector, 16 registers.
#if defined(__x86_64__)

// For all that follows, so that no flags are needed for this file alone. Only C headers with no
// inline functions come below: nothing compiled here can end up in code for other CPUs.
#include <cstddef>
#include <cstring>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,prfchw"))), apply_to = function)
#else
#pragma GCC target "avx2,fma,prfchw"
#endif

#define ESRGAN_VECTOR_FLOATS 8
#include "kernel_table.h"

namespace esrgan::cpu {

extern const Kernels kernels_avx2_16 = table<16>("avx2");
extern const Kernels kernels_avx2_32 = table<32>("avx2");

}  // namespace esrgan::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

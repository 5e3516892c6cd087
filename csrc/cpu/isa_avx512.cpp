// AVX-512: 16 floats a vector, 32 registers.
#if defined(__x86_64__)

// For all that follows, so that no flags are needed for this file alone. Only C headers with no
// inline functions come below: nothing compiled here can end up in code for other CPUs.
#include <cstddef>
#include <cstring>
#if defined(__clang__)
#pragma clang attribute push(                                                      \
    __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prfchw"))), \
    apply_to = function)
#else
#pragma GCC target "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prfchw"
#endif

#define ESRGAN_VECTOR_FLOATS 16
#include "kernel_table.h"

namespace esrgan::cpu {

extern const Kernels kernels_avx512_16 = table<16>("avx512");
extern const Kernels kernels_avx512_32 = table<32>("avx512");
extern const Kernels kernels_avx512_wide = table<32, 64>("avx512");

}  // namespace esrgan::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

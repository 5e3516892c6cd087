// The instructions that the kernels are made of, one thin function each, named and numbered as in
// the PTX ISA. Nothing else in csrc/cuda contains assembly or touches shared memory, so that
// tests/csrc/cuda_emulator.h can stand in for this header and run the kernels on the host.
// An include guard instead of #pragma once: the emulator defines it.
#ifndef ESRGAN_CUDA_PTX_CUH
#define ESRGAN_CUDA_PTX_CUH

#include <cuda_runtime.h>

#include <cstdint>

#define ESRGAN_DEVICE __device__ __forceinline__
#define ESRGAN_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)

namespace esrgan::cuda {

// ---- Where am I ----

ESRGAN_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
ESRGAN_DEVICE int block_index() { return static_cast<int>(blockIdx.x); }
ESRGAN_DEVICE int block_count() { return static_cast<int>(gridDim.x); }
ESRGAN_DEVICE void synchronize_block() { __syncthreads(); }
ESRGAN_DEVICE void synchronize_warp() { __syncwarp(); }

// Rows of 16-bit residuals that fit into registers beside the sums of the first path's large tile,
// by ptxas 13.0's reports: it needs a few more for the same code on some architectures, and spills
// beyond these. What is compiled for 8.0 also runs on 8.6 and 8.9, where 4 rows spill.
#if __CUDA_ARCH__ >= 1000 && __CUDA_ARCH__ < 1200
constexpr int kResidualRows = 4;
#elif __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000
constexpr int kResidualRows = 1;
#else
constexpr int kResidualRows = 2;
#endif

// ---- Programmatic dependent launch (compute capability 9.0) ----

// Until the launches before this one in its stream have ended and what they wrote can be seen. What
// comes before runs while they end, so it must neither read what they write nor write what they
// read. Every thread that touches such memory calls it; a launch without `Overlap::kYes` and code
// for older devices start when that is so already.
ESRGAN_DEVICE void wait_for_earlier_launches() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next launch may start, and wait, as soon as every block has called this and there is room.
// Called after `wait_for_earlier_launches`, so that no more than one launch waits at a time: those
// of a whole chain would take the room of the one that runs.
ESRGAN_DEVICE void let_next_launch_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- Shared memory, by 32-bit address in the shared window ----

ESRGAN_DEVICE std::uint32_t dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char memory[];
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(memory));
}

ESRGAN_DEVICE uint4 load_shared16(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

ESRGAN_DEVICE std::uint32_t load_shared4(std::uint32_t address) {
  std::uint32_t v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
  return v;
}

ESRGAN_DEVICE void store_shared4(std::uint32_t address, std::uint32_t v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}

ESRGAN_DEVICE void store_shared8(std::uint32_t address, uint2 v) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(v.x), "r"(v.y) : "memory");
}

ESRGAN_DEVICE void store_shared16(std::uint32_t address, uint4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}

// ---- Global memory ----

template <class T>
ESRGAN_DEVICE T load_global(const void* p) {
  return *static_cast<const T*>(p);
}

template <class T>
ESRGAN_DEVICE void store_global(void* p, T v) {
  *static_cast<T*>(p) = v;
}

ESRGAN_DEVICE void atomic_or_global(std::uint32_t* p, std::uint32_t v) { atomicOr(p, v); }

// ---- cp.async (compute capability 8.0) ----

// 16 bytes from global to shared memory, past L1 and registers; zeros where not `valid`, and then
// `from` is not read (src-size 0).
ESRGAN_DEVICE void cp_async16(std::uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
               : "memory");
}

ESRGAN_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int Pending>
ESRGAN_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// ---- ldmatrix (compute capability 7.5) ----

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 and
// gets of each matrix the 32 bits of row l / 4 at byte 4 (l % 4).
ESRGAN_DEVICE void ldmatrix4(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// The same of transposed matrices: lane l gets of each the elements 2 (l % 4) and one more of
// column l / 4, as rows of 8 channels become the fragments of sums whose rows are channels.
ESRGAN_DEVICE void ldmatrix4_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// ---- mma.sync (compute capability 8.0): d += a b, float32 accumulators ----

ESRGAN_DEVICE void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                           std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

ESRGAN_DEVICE void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                            std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

ESRGAN_DEVICE void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                            std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- Numbers ----

ESRGAN_DEVICE float float_of(std::uint32_t bits) { return __uint_as_float(bits); }
ESRGAN_DEVICE std::uint32_t bits_of(float v) { return __float_as_uint(v); }

// Two floats rounded to 16 bits, `low` in the lower half.
ESRGAN_DEVICE std::uint32_t pack_f16(float low, float high) {
  std::uint32_t v;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}

ESRGAN_DEVICE std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t v;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}

ESRGAN_DEVICE float float_of_f16(std::uint16_t bits) {
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
  return v;
}

// To the nearest of the numbers with 10 bits of mantissa, ties away from zero; a float32 whose low
// 13 bits are zero.
ESRGAN_DEVICE std::uint32_t round_tf32(float value) {
  std::uint32_t v;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(v) : "f"(value));
  return v;
}

// To the nearest integer, halves to even; saturates, NaN becomes 0.
ESRGAN_DEVICE int round_to_int(float value) { return __float2int_rn(value); }

ESRGAN_DEVICE bool is_finite(float v) { return (bits_of(v) & 0x7f800000u) != 0x7f800000u; }

}  // namespace esrgan::cuda

#endif  // ESRGAN_CUDA_PTX_CUH

// The instructions of compute capability 9.0: mbarriers, TMA, wgmma. Like ptx.cuh, which this
// belongs to, it is what the emulator stands in for. To be called only where `kHasWgmma`.
#ifndef ESRGAN_CUDA_PTX90_CUH
#define ESRGAN_CUDA_PTX90_CUH

#include <cuda.h>

#include "ptx.cuh"

// Code for other architectures has an empty body, and says so by allowing 32 threads a block:
// `max_threads` finds that out without running it.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ESRGAN_WGMMA_KERNEL(threads) __global__ void __launch_bounds__(threads, 1)
#else
#define ESRGAN_WGMMA_KERNEL(threads) __global__ void __launch_bounds__(32, 1)
#endif
#define ESRGAN_GRID_CONSTANT __grid_constant__

namespace esrgan::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWgmma = true;
#else
constexpr bool kHasWgmma = false;
#endif

using TensorMap = CUtensorMap;

// ---- mbarrier: 8 bytes of shared memory ----

ESRGAN_DEVICE void mbarrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialized barriers known to TMA; a block-wide barrier must follow.
ESRGAN_DEVICE void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

ESRGAN_DEVICE void mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(barrier)
               : "memory");
}

// Arrives, and makes the phase wait for that many bytes of TMA as well.
ESRGAN_DEVICE void mbarrier_arrive_expect(std::uint32_t barrier, int bytes) {
  asm volatile(
      "{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(
          barrier),
      "r"(bytes)
      : "memory");
}

// Until the phase of this parity is complete. The phase before the first has parity 1.
ESRGAN_DEVICE void mbarrier_wait(std::uint32_t barrier, int parity) {
  asm volatile(
      "{\n.reg .pred p;\nwait:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra done;\nbra wait;\ndone:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// ---- TMA ----

// A box of a three-dimensional tensor; what is outside of the tensor is zero.
ESRGAN_DEVICE void tma_load(std::uint32_t to, const TensorMap& map, int x, int y, int z,
                            std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}

ESRGAN_DEVICE void bulk_load(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
      : "memory");
}

// Shared memory that this thread has written can from here on be read by TMA; a barrier with the
// thread that asks TMA to must follow.
ESRGAN_DEVICE void fence_for_tma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The other way; what lies outside of the tensor is not written. Complete when the group that
// `tma_store_commit` closes has been waited for, by the same thread.
ESRGAN_DEVICE void tma_store(const TensorMap& map, int x, int y, int z, std::uint32_t from) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
          reinterpret_cast<std::uint64_t>(&map)),
      "r"(from), "r"(x), "r"(y), "r"(z)
      : "memory");
}
ESRGAN_DEVICE void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all groups have read shared memory.
ESRGAN_DEVICE void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
// Until all groups have written.
ESRGAN_DEVICE void tma_store_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// ---- Registers between warpgroups ----

template <int Registers>
ESRGAN_DEVICE void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
ESRGAN_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

// ---- wgmma ----

// A K-major operand without swizzle (PTX ISA, "Matrix descriptor" and "Canonical layouts"): core
// matrices are 8 rows of 16 bytes, 128 bytes in one piece; `k_stride` bytes lie between the two of
// a k-step, `row_stride` between neighbours along M or N.
ESRGAN_DEVICE std::uint64_t matrix_descriptor(std::uint32_t address, int k_stride, int row_stride) {
  return static_cast<std::uint64_t>((address & 0x3ffffu) >> 4) |
         static_cast<std::uint64_t>(k_stride >> 4) << 16 |
         static_cast<std::uint64_t>(row_stride >> 4) << 32;
}

ESRGAN_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
ESRGAN_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending>
ESRGAN_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Keeps the compiler from moving uses of the accumulators across.
template <int Sums>
ESRGAN_DEVICE void wgmma_pin(float (&d)[Sums]) {
#pragma unroll
  for (int i = 0; i < Sums; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// d = a b, or d += a b: M 64, N 256 or 128, K 16, of descriptors. Thread t of the warpgroup has
// rows 16 (t / 32) + l / 4 and 8 more, columns 8 j + 2 (l % 4) and 1 more: d[4 j] to d[4 j + 3].
#define ESRGAN_WGMMA256(NAME, TYPE)                                                               \
  ESRGAN_DEVICE void NAME(float(&d)[128], std::uint64_t a, std::uint64_t b, int accumulate) {     \
    asm volatile(                                                                                 \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                             \
        "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE                              \
        " {"                                                                                      \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                  \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "        \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "        \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "        \
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "        \
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "        \
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "  \
        "%111, "                                                                                  \
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "    \
        "%126, %127"                                                                              \
        "}, %128, %129, p, 1, 1, 0, 0;\n}\n"                                                      \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),     \
          "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
          "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),           \
          "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),           \
          "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),           \
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]),           \
          "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),           \
          "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),           \
          "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),           \
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]),           \
          "+f"(d[62]), "+f"(d[63]), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]),           \
          "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), "+f"(d[72]), "+f"(d[73]),           \
          "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),           \
          "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]),           \
          "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]),           \
          "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]), "+f"(d[97]),           \
          "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),       \
          "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]),     \
          "+f"(d[110]), "+f"(d[111]), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]),     \
          "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]),     \
          "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])      \
        : "l"(a), "l"(b), "r"(accumulate)                                                         \
        : "memory");                                                                              \
  }
#define ESRGAN_WGMMA128(NAME, TYPE)                                                               \
  ESRGAN_DEVICE void NAME(float(&d)[64], std::uint64_t a, std::uint64_t b, int accumulate) {      \
    asm volatile(                                                                                 \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                              \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE                              \
        " {"                                                                                      \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                  \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "        \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "        \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"          \
        "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                                        \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),     \
          "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
          "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),           \
          "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),           \
          "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),           \
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]),           \
          "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),           \
          "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),           \
          "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),           \
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]),           \
          "+f"(d[62]), "+f"(d[63])                                                                \
        : "l"(a), "l"(b), "r"(accumulate)                                                         \
        : "memory");                                                                              \
  }
ESRGAN_WGMMA256(wgmma_f16, "f16")
ESRGAN_WGMMA256(wgmma_bf16, "bf16")
ESRGAN_WGMMA128(wgmma_f16, "f16")
ESRGAN_WGMMA128(wgmma_bf16, "bf16")
#undef ESRGAN_WGMMA256
#undef ESRGAN_WGMMA128

// The counterpart of `ldmatrix4_transposed`: lane l gives the address of row l % 8 of matrix l / 8.
ESRGAN_DEVICE void stmatrix4_transposed(std::uint32_t address, const std::uint32_t (&r)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
      "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
      : "memory");
}

}  // namespace esrgan::cuda

#endif  // ESRGAN_CUDA_PTX90_CUH

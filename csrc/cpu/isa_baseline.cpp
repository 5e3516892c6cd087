// What every CPU of the architecture has: SSE2 on x86-64, NEON on aarch64. 4 floats a vector.
#define ESRGAN_VECTOR_FLOATS 4
#include "kernel_table.h"

namespace esrgan::cpu {

extern const Kernels kernels_baseline_16 = table<16>("baseline");
extern const Kernels kernels_baseline_32 = table<32>("baseline");

}  // namespace esrgan::cpu

// Chooses the instruction set at run time.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace esrgan::cpu {

extern const Kernels kernels_baseline_16, kernels_baseline_32;
#if defined(__x86_64__)
extern const Kernels kernels_avx2_16, kernels_avx2_32;
extern const Kernels kernels_avx512_16, kernels_avx512_32, kernels_avx512_wide;
#endif

namespace {

IsaChoice::Isa best_isa() {
#if defined(__x86_64__)
  // The compilers' own test also asks whether the operating system saves the wide registers.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    return IsaChoice::kAvx512;
  if (avx2) return IsaChoice::kAvx2;
#endif
  return IsaChoice::kBaseline;
}

IsaChoice choose() {
  const IsaChoice::Isa best = best_isa();
  const char* forced = std::getenv("ESRGAN_CPU_ISA");
  if (!forced || !*forced) return {best, nullptr};
  IsaChoice::Isa isa;
  if (!std::strcmp(forced, "avx512")) isa = IsaChoice::kAvx512;
  else if (!std::strcmp(forced, "avx2")) isa = IsaChoice::kAvx2;
  else if (!std::strcmp(forced, "baseline")) isa = IsaChoice::kBaseline;
  else return {best, "ESRGAN_CPU_ISA must be avx512, avx2 or baseline; it is ignored"};
  if (isa > best) return {best, "ESRGAN_CPU_ISA asks for more than this CPU has; it is ignored"};
  return {isa, nullptr};
}

}  // namespace

const IsaChoice& chosen_isa() {
  static const IsaChoice choice = choose();
  return choice;
}

const Kernels& kernels_for(int segment_channels) {
  const bool narrow = segment_channels == 16;
#if defined(__x86_64__)
  switch (chosen_isa().isa) {
    case IsaChoice::kAvx512:
      return narrow ? kernels_avx512_16 : kernels_avx512_32;
    case IsaChoice::kAvx2:
      return narrow ? kernels_avx2_16 : kernels_avx2_32;
    case IsaChoice::kBaseline:
      break;
  }
#endif
  return narrow ? kernels_baseline_16 : kernels_baseline_32;
}

const Kernels& kernels_for_wide_outputs() {
#if defined(__x86_64__)
  if (chosen_isa().isa == IsaChoice::kAvx512) return kernels_avx512_wide;
#endif
  return kernels_for(32);
}

const char* isa_name() { return kernels_for(32).name; }

}  // namespace esrgan::cpu

// The operators of csrc/cuda_ops.cpp on tensors of the CPU, with the emulated kernels behind them: for a
// process that does not load the real extension. Torch's own memory comes from the emulator, which
// starts it out as NaN and aborts on accesses outside of it.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

#include <mutex>

#include "schemas.h"

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(ns, key, m) _TORCH_LIBRARY_IMPL(ns, CPU, m, C10_UID)
#include "cuda_ops.cpp"

namespace {

std::mutex& memory_mutex() {
  static std::mutex mutex;
  return mutex;
}

void release(void* memory) {
  std::lock_guard<std::mutex> lock(memory_mutex());
  delete static_cast<emulator::Memory*>(memory);
}

class EmulatedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    std::lock_guard<std::mutex> lock(memory_mutex());
    auto* memory = new emulator::Memory(bytes);
    return {memory->as<void>(), memory, &release, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }
};

const bool kInstalled = [] {
  c10::SetCPUAllocator(new EmulatedAllocator, 255);  // lives as long as torch does
  return true;
}();

}  // namespace

TORCH_LIBRARY(esrgan_ext, m) { esrgan::define_operators(m); }

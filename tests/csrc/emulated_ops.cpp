// The operators of csrc/torch/cuda_ops.cpp on tensors of the CPU, with the emulated kernels behind them:
// for a process that does not load the real extension. Torch's own memory comes from the emulator,
// which starts it out as NaN and aborts on accesses outside of it.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/leaky_relu.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

#include <memory>
#include <mutex>
#include <unordered_map>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(ns, key, m) _TORCH_LIBRARY_IMPL(ns, CPU, m, C10_UID)
// A tensor of the CPU says -1; the emulated device is number 0.
#define get_device() get_device() + 1
#include "torch/cuda_ops.cpp"
#undef get_device

namespace {

// Which memory belongs to a pointer. Never destroyed: torch frees tensors until the very end.
struct Allocations {
  std::mutex mutex;
  std::unordered_map<void*, std::unique_ptr<emulator::Memory>> all;

  static Allocations& get() {
    static auto* const allocations = new Allocations;
    return *allocations;
  }
};

void release(void* data) {
  Allocations& a = Allocations::get();
  std::lock_guard<std::mutex> lock(a.mutex);
  a.all.erase(data);
}

class EmulatedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    Allocations& a = Allocations::get();
    auto memory = std::make_unique<emulator::Memory>(bytes);
    void* data = memory->as<void>();
    std::lock_guard<std::mutex> lock(a.mutex);
    a.all[data] = std::move(memory);
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }
};

const bool kInstalled = [] {
  c10::SetCPUAllocator(new EmulatedAllocator, 255);  // lives as long as torch does
  return true;
}();

}  // namespace


// What the host side needs of the CUDA runtime. With ptx.cuh the only header that
// tests/csrc/cuda_emulator.h stands in for.
#ifndef ESRGAN_CUDA_RUNTIME_H
#define ESRGAN_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>

#include "network.h"

namespace esrgan::cuda {

constexpr int kSuccess = cudaSuccess;

inline const char* error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

struct Device {
  int major = 0, minor = 0;  // compute capability
  int processors = 1;        // SMs
};

// Attributes that the runtime keeps on the host; allowed while a stream is being captured.
inline int describe(int device, Device& result) {
  cudaError_t e = cudaDeviceGetAttribute(&result.major, cudaDevAttrComputeCapabilityMajor, device);
  if (e == cudaSuccess)
    e = cudaDeviceGetAttribute(&result.minor, cudaDevAttrComputeCapabilityMinor, device);
  if (e == cudaSuccess)
    e = cudaDeviceGetAttribute(&result.processors, cudaDevAttrMultiProcessorCount, device);
  return e;
}

inline int current_device(int& device) { return cudaGetDevice(&device); }

inline int describe_current(Device& result) {
  int device = 0;
  const int e = current_device(device);
  return e == kSuccess ? describe(device, result) : e;
}

// Makes a device current while it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    if (cudaGetDevice(&before_) != cudaSuccess) before_ = -1;
    error_ = cudaSetDevice(device);
  }
  ~DeviceGuard() {
    if (before_ >= 0) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  int error() const { return error_; }

 private:
  int before_ = -1, error_;
};

// Threads that a block of this kernel may have on the current device, 0 if there is no code for it.
template <class Task>
int max_threads(void (*kernel)(Task)) {
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)) != cudaSuccess) {
    cudaGetLastError();  // not an error of ours: leave no trace of it
    return 0;
  }
  return attributes.maxThreadsPerBlock;
}

// Lets the kernel use that much dynamic shared memory and says how many blocks an SM then holds.
template <class Task>
int prepare(void (*kernel)(Task), int threads, int shared_bytes, int& blocks_per_sm) {
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t e =
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (e == cudaSuccess)
    e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks_per_sm, function, threads,
                                                      static_cast<std::size_t>(shared_bytes));
  return e;
}

// Whether a launch may begin before the one before it has ended: only kernels that call
// `wait_for_earlier_launches` in every block.
enum class Overlap { kNo, kYes };

// Code for compute capability 9.0 and later waits where it says so; older code, which the driver
// may have translated for this device, does not. Graphs record such launches since CUDA 12.3.
// ESRGAN_CUDA_OVERLAP=0 lets each launch end before the next begins, to time them one by one.
inline bool can_overlap(const void* function) {
#if CUDART_VERSION >= 12030
  static const bool allowed = [] {
    const char* value = std::getenv("ESRGAN_CUDA_OVERLAP");
    int version = 0;
    return !(value && value[0] == '0') && cudaDriverGetVersion(&version) == cudaSuccess &&
           version >= 12030;
  }();
  cudaFuncAttributes attributes;
  return allowed && cudaFuncGetAttributes(&attributes, function) == cudaSuccess &&
         attributes.ptxVersion >= 90;
#else
  (void)function;
  return false;
#endif
}

template <class Task>
int launch(void (*kernel)(Task), int blocks, int threads, int shared_bytes, Stream stream,
           const Task& task, Overlap overlap = Overlap::kNo) {
  const void* function = reinterpret_cast<const void*>(kernel);
  void* arguments[] = {const_cast<Task*>(&task)};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  if (overlap == Overlap::kYes && can_overlap(function)) {
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  return cudaLaunchKernelExC(&config, function, arguments);
}

}  // namespace esrgan::cuda

#endif  // ESRGAN_CUDA_RUNTIME_H

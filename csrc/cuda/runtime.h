// What the host side needs of the CUDA runtime. With ptx.cuh the only header that
// tests/csrc/cuda_emulator.h stands in for.
#ifndef ESRGAN_CUDA_RUNTIME_H
#define ESRGAN_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#include <cstdint>

#include "network.h"

namespace esrgan::cuda {

constexpr int kSuccess = cudaSuccess;

inline const char* error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

struct Device {
  int major = 0, minor = 0;  // compute capability
  int processors = 1;        // SMs
  // Whether wgmma runs however small the image; for tests, which cannot have large ones.
  bool always_wgmma = false;
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

template <class Task>
int launch(void (*kernel)(Task), int blocks, int threads, int shared_bytes, Stream stream,
           const Task& task) {
  void* arguments[] = {const_cast<Task*>(&task)};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                          dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)),
                          arguments, static_cast<std::size_t>(shared_bytes), stream);
}

}  // namespace esrgan::cuda

#endif  // ESRGAN_CUDA_RUNTIME_H

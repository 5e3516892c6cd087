// From what operators are told (lists of numbers, names) to what csrc/cuda wants: shapes, compute
// types, kernel paths. No torch: the operators and the Python module share it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../cuda/network.h"

namespace esrgan {

// `shape`: in_channels (after pixel-unshuffling), out_channels, nf, gc, RRDBs, upsamplings.
inline cuda::NetworkShape network_shape(const std::vector<std::int64_t>& shape) {
  if (shape.size() != 6)
    throw std::invalid_argument(
        "shape must be [in_channels, out_channels, nf, gc, rrdbs, upsamplings]");
  for (const std::int64_t value : shape)
    if (value < 0 || value >= 4096) throw std::invalid_argument("impossible network shape");
  const auto at = [&](std::size_t i) { return static_cast<int>(shape[i]); };
  return {at(0), at(1), at(2), at(3), at(4), at(5)};
}

inline cuda::Compute compute_named(std::string_view name) {
  for (const cuda::Compute c : {cuda::Compute::kFloat16, cuda::Compute::kBFloat16,
                                cuda::Compute::kTensorFloat32, cuda::Compute::kFloat32})
    if (name == cuda::name(c)) return c;
  throw std::invalid_argument("compute must be float16, bfloat16, tf32 or float32, not " +
                              std::string(name));
}

// What ESRGAN_CUDA_PATH names (mma, wgmma, or none for plain torch), else "". Read once: packed
// weights belong to a path.
inline const std::string& forced_path() {
  static const std::string forced = [] {
    const char* value = std::getenv("ESRGAN_CUDA_PATH");
    return std::string(value ? value : "");
  }();
  return forced;
}

inline cuda::Path path_named(std::string_view name) {
  for (const cuda::Path path : {cuda::Path::kMma, cuda::Path::kWgmma, cuda::Path::kNone})
    if (name == cuda::name(path)) return path;
  throw std::invalid_argument("path must be mma, wgmma or none, not " + std::string(name));
}

// The path that weights are packed for: every one that the device has, or the forced one where the
// device can run it.
inline cuda::Path chosen_path(int device, cuda::Compute compute) {
  if (forced_path().empty()) return cuda::packing_path(device, compute);
  const cuda::Path path = path_named(forced_path());
  return cuda::can_run(device, path, compute) ? path : cuda::Path::kNone;
}

// The kernels that a trunk runs on: those named, else the forced ones, else mma, which measured
// faster before there was a choice and which every device has.
inline cuda::Path trunk_path(std::string_view name) {
  if (!name.empty()) return path_named(name);
  return forced_path().empty() ? cuda::Path::kMma : path_named(forced_path());
}

inline cuda::NetworkSpec network_spec(const std::vector<std::int64_t>& shape, cuda::Compute compute,
                                      int device) {
  const cuda::NetworkSpec spec{network_shape(shape), compute, chosen_path(device, compute)};
  if (const char* reason = cuda::unsupported(spec.shape))
    throw std::invalid_argument(std::string("the CUDA kernels cannot run this network: ") + reason);
  if (spec.path == cuda::Path::kNone)
    throw std::invalid_argument("there are no CUDA kernels for this device and compute type");
  return spec;
}

}  // namespace esrgan

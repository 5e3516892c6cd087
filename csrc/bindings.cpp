// The Python module: build information and the weights' fingerprint. No heavy torch headers,
// so it compiles in seconds; the operators are in ops.cpp and reach Python through torch.ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/headeronly/version.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cpu/fingerprint.h"
#include "cpu/kernels.h"

namespace {

namespace py = pybind11;

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

py::dict build_info() {
  const esrgan::IsaChoice& choice = esrgan::chosen_isa();
  py::dict info;
  info["isa"] = esrgan::isa_name();
  info["isa_error"] = choice.error ? py::object(py::str(choice.error)) : py::object(py::none());
  info["compiler"] = compiler();
  info["standard"] = __cplusplus / 100 % 100;
  info["torch"] = TORCH_VERSION;
  return info;
}

// (address, count) of float32 tensors.
std::uint64_t fingerprint(const std::vector<std::pair<std::uintptr_t, std::size_t>>& tensors) {
  std::uint64_t hash = esrgan::kHashStart;
  for (const auto& [address, count] : tensors)
    hash = esrgan::sample_bits(reinterpret_cast<const float*>(address), count, hash);
  return hash;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Compiled operators of esrgan_ext, registered under torch.ops.esrgan_ext.";
  m.def("build_info", &build_info);
  m.def("fingerprint", &fingerprint);
}

// The Python module of the CUDA operators: build information, and what the kernels can run. The
// operators themselves are in cuda_ops.cpp and reach Python through torch.ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/headeronly/version.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda_arguments.h"

#define ESRGAN_STRING_(x) #x
#define ESRGAN_STRING(...) ESRGAN_STRING_((__VA_ARGS__))

namespace {

namespace py = pybind11;

// Read out of the built file by esrgan_ext/ops/toolchain.py, without loading it. The list of
// architectures comes with the parentheses that keep its commas together.
const char kArchitectures[] =
    "esrgan_ext-cuda-architectures:" ESRGAN_STRING(ESRGAN_CUDA_ARCHITECTURES) ";";

std::string architectures() {
  const std::string text = kArchitectures;
  const std::size_t begin = text.find('(') + 1;
  return text.substr(begin, text.find(')') - begin);
}

py::dict build_info() {
  py::dict info;
  info["architectures"] = architectures();
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["torch"] = TORCH_VERSION;
  return info;
}

// "" where the kernels run a network of this shape, else the reason why not.
std::string unsupported(const std::vector<std::int64_t>& shape) {
  const char* reason = esrgan::cuda::unsupported(esrgan::network_shape(shape));
  return reason ? reason : "";
}

// The paths that the trunk of a network of these widths can take on a device: "mma", "wgmma";
// none where the device has no kernels.
std::vector<std::string> paths(int device, const std::string& compute, int nf, int gc) {
  namespace kernels = esrgan::cuda;
  const kernels::Compute c = esrgan::compute_named(compute);
  const kernels::Path most = esrgan::chosen_path(device, c);
  std::vector<std::string> names;
  if (most == kernels::Path::kNone) return names;
  if (esrgan::forced_path().empty()) names.push_back(kernels::name(kernels::Path::kMma));
  if (names.empty() || (most != kernels::Path::kMma && kernels::has_trunk(nf, gc, c, most)))
    names.push_back(kernels::name(most));
  return names;
}

// Scratch memory of one forward pass.
std::size_t workspace_bytes(const std::vector<std::int64_t>& shape, const std::string& compute,
                            int device, int batch, int height, int width) {
  const auto spec = esrgan::network_spec(shape, esrgan::compute_named(compute), device);
  return esrgan::cuda::workspace_bytes(spec, batch, height, width);
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "CUDA implementations of esrgan_ext's operators, in torch.ops.esrgan_ext.";
  m.def("build_info", &build_info);
  m.def("unsupported", &unsupported, py::arg("shape"));
  m.def("paths", &paths, py::arg("device"), py::arg("compute"), py::arg("nf") = 64,
        py::arg("gc") = 32);
  m.def("workspace_bytes", &workspace_bytes, py::arg("shape"), py::arg("compute"),
        py::arg("device"), py::arg("batch"), py::arg("height"), py::arg("width"));
}

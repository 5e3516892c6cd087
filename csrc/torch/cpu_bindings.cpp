// The Python module: build information, the weights' fingerprint, the machine's peak. No heavy
// torch headers, so it compiles in seconds; the operators are in cpu_ops.cpp and reach Python through
// torch.ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/headeronly/version.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../cpu/fingerprint.h"
#include "../cpu/kernels.h"
#include "../cpu/parallel_for.h"

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

// Billions of float operations a second that `threads` threads reach on registers alone.
double peak_gflops(int threads, double seconds) {
  const py::gil_scoped_release no_gil;
  const esrgan::Kernels& kernels = esrgan::kernels_for(32);
  constexpr long kRounds = 1 << 18;
  std::atomic<long long> rounds{0};
  std::atomic<float> keep{0};
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  esrgan::on_threads(threads, [&](int thread) {
    while (std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
      keep = kernels.multiply_adds(kRounds, 0.5f + 0.001f * static_cast<float>(thread));
      rounds += kRounds;
    }
  });
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  return 2.0 * static_cast<double>(rounds) * kernels.peak_vectors * kernels.lanes / elapsed / 1e9;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Compiled operators of esrgan_ext, registered under torch.ops.esrgan_ext.";
  m.def("build_info", &build_info);
  m.def("fingerprint", &fingerprint);
  m.def("peak_gflops", &peak_gflops, py::arg("threads"), py::arg("seconds"));
}

// The operators for SRVGGNetCompact on the CPU: checks of arguments, and the bridge from tensors to
// csrc/cpu/compact.h. They join the library that cpu_ops.cpp defines.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "../cpu/compact.h"

namespace {

using at::Tensor;

bool is_plain_float(const Tensor& t) {
  return t.device().is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided;
}

// `shape`: channels, features, convolutions between the first and the last, upsampling, scale.
esrgan::CompactShape unchecked_shape(at::IntArrayRef shape) {
  TORCH_CHECK(shape.size() == 5,
              "shape must be [in_channels, nf, convolutions, upsampling, scale], got ", shape);
  for (const int64_t value : shape)
    TORCH_CHECK(value >= 0 && value < 4096, "impossible network shape ", shape);
  const auto at = [&](std::size_t i) { return static_cast<int>(shape[i]); };
  return {at(0), at(1), at(2), at(3), at(4)};
}

esrgan::CompactShape compact_shape(at::IntArrayRef shape) {
  const esrgan::CompactShape s = unchecked_shape(shape);
  const char* reason = esrgan::unsupported(s);
  TORCH_CHECK(!reason, "the CPU kernels cannot run this network: ", reason);
  return s;
}

// "" where the CPU kernels run a network of this shape, else the reason why not.
std::string compact_unsupported(at::IntArrayRef shape) {
  const char* reason = esrgan::unsupported(unchecked_shape(shape));
  return reason ? reason : "";
}

// A contiguous form of a parameter of that shape, owned by `keep`.
const float* parameter(const Tensor& t, at::IntArrayRef sizes, const char* name,
                       std::vector<Tensor>& keep) {
  TORCH_CHECK(is_plain_float(t) && t.sizes() == sizes, name, " must be float32 of shape ", sizes,
              " on the CPU, got ", t.scalar_type(), " ", t.sizes());
  keep.push_back(t.contiguous());
  return keep.back().const_data_ptr<float>();
}

Tensor compact_pack(at::TensorList weights, at::TensorList biases, at::TensorList slopes,
                    at::IntArrayRef shape) {
  const esrgan::CompactShape s = compact_shape(shape);
  const auto count = static_cast<std::size_t>(esrgan::convolution_count(s));
  TORCH_CHECK(weights.size() == count && biases.size() == count && slopes.size() == count - 1,
              "this shape has ", count, " convolutions, all but the last with slopes; got ",
              weights.size(), " weights, ", biases.size(), " biases, ", slopes.size(), " slopes");
  std::vector<Tensor> keep;
  std::vector<esrgan::Convolution> layers;
  for (std::size_t i = 0; i < count; ++i) {
    const esrgan::Channels c = esrgan::convolution_channels(s, static_cast<int>(i));
    esrgan::Convolution layer{parameter(weights[i], {c.out, c.in, 3, 3}, "a weight", keep),
                              parameter(biases[i], {c.out}, "a bias", keep), c.in, c.out};
    if (i + 1 < count) layer.slopes = parameter(slopes[i], {c.out}, "slopes", keep);
    layers.push_back(layer);
  }
  Tensor packed = at::empty({static_cast<int64_t>(esrgan::packed_floats(s))}, at::kFloat);
  esrgan::pack(s, layers.data(), at::get_num_threads(), packed.mutable_data_ptr<float>());
  return packed;
}

esrgan::ImageView view(const Tensor& t, int64_t n) {
  return {const_cast<float*>(t.const_data_ptr<float>()) + n * t.stride(0),
          static_cast<int>(t.size(2)),
          static_cast<int>(t.size(3)),
          static_cast<std::ptrdiff_t>(t.stride(1)),
          static_cast<std::ptrdiff_t>(t.stride(2)),
          static_cast<std::ptrdiff_t>(t.stride(3))};
}

// `control`: as of rrdbnet_into (cpu_ops.cpp).
void compact_into(const Tensor& x, const Tensor& packed, at::IntArrayRef shape, Tensor& out,
                  const std::optional<Tensor>& control) {
  const esrgan::CompactShape s = compact_shape(shape);
  TORCH_CHECK(is_plain_float(x) && x.dim() == 4 && x.size(1) == s.in_channels,
              "x must be float32 N,", s.in_channels, ",H,W on the CPU, got ", x.scalar_type(), " ",
              x.sizes());
  TORCH_CHECK(is_plain_float(packed) && packed.is_contiguous() &&
                  packed.numel() == static_cast<int64_t>(esrgan::packed_floats(s)),
              "packed does not belong to this network");
  const int64_t scale = s.scale;
  TORCH_CHECK(is_plain_float(out) && out.is_contiguous() &&
                  out.sizes() == at::IntArrayRef({x.size(0), s.in_channels, x.size(2) * scale,
                                                  x.size(3) * scale}),
              "out must be contiguous float32 of ", scale, " times the size, got ", out.sizes());
  TORCH_CHECK(x.size(2) < (1 << 20) && x.size(3) < (1 << 20), "image too large: ", x.sizes());
  esrgan::Control words;
  int threads = 0;
  if (control) {
    TORCH_CHECK(control->scalar_type() == at::kLong && control->is_contiguous() &&
                    control->numel() >= 5 && control->device().is_cpu(),
                "control must be five contiguous int64 on the CPU");
    auto* in_tensor =
        reinterpret_cast<std::atomic<std::int64_t>*>(control->mutable_data_ptr<int64_t>());
    words = {in_tensor, in_tensor + 1, in_tensor + 2, in_tensor + 3};
    threads = static_cast<int>(in_tensor[4].load());
  }
  if (out.numel() == 0) return;
  if (threads < 1) threads = at::get_num_threads();
  for (int64_t n = 0; n < x.size(0); ++n) {
    esrgan::Control of_image = words;
    if (n + 1 < x.size(0)) of_image.rows = nullptr;
    if (!esrgan::run(s, packed.const_data_ptr<float>(), view(x, n), view(out, n), threads,
                     of_image))
      return;
  }
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(esrgan_ext, m) {
  m.def("compact_pack(Tensor[] weights, Tensor[] biases, Tensor[] slopes, int[] shape) -> Tensor");
  m.def(
      "compact_into(Tensor x, Tensor packed, int[] shape, Tensor(a!) out, Tensor(b!)? control) -> "
      "()");
  m.def("compact_unsupported(int[] shape) -> str", &compact_unsupported);
}

TORCH_LIBRARY_IMPL(esrgan_ext, CPU, m) {
  m.impl("compact_pack", &compact_pack);
  m.impl("compact_into", &compact_into);
}

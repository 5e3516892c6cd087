// The bridge from tensors to csrc/cuda: checks of arguments, device, stream and workspace. The
// schemas are in esrgan_ext/ops/cpu_operators.py; this library adds the CUDA implementations to
// them and is built only where torch has CUDA. Nothing in here waits for the device.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../cuda/network.h"
#include "cuda_arguments.h"
#include "dense_block.h"

namespace {

using at::Tensor;
namespace kernels = esrgan::cuda;

kernels::Stream stream_of(const Tensor& t) {
  return c10::cuda::getCurrentCUDAStream(t.get_device()).stream();
}

// Memory from torch's allocator, on the current stream: it may be handed out again as soon as
// this call returns, because whoever gets it queues behind.
Tensor bytes(std::size_t count, const Tensor& like) {
  return at::empty({static_cast<int64_t>(count)}, like.options().dtype(at::kByte));
}

void check(kernels::Status status) {
  TORCH_CHECK(status, "the CUDA kernels: ", kernels::text(status));
}

kernels::Pixel pixel_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case at::kByte:
      return kernels::Pixel::kUint8;
    case at::kUInt16:
      return kernels::Pixel::kUint16;
    case at::kHalf:
      return kernels::Pixel::kFloat16;
    case at::kBFloat16:
      return kernels::Pixel::kBFloat16;
    case at::kFloat:
      return kernels::Pixel::kFloat32;
    default:
      TORCH_CHECK(false, "pixels must be uint8, uint16, float16, bfloat16 or float32, not ",
                  t.scalar_type());
  }
}

// What a caller got wrong, as torch reports it.
template <class Function>
auto checked(const Function& function) {
  try {
    return function();
  } catch (const std::invalid_argument& error) {
    TORCH_CHECK(false, error.what());
  }
}

kernels::NetworkShape network_shape(at::IntArrayRef shape) {
  return checked([&] { return esrgan::network_shape(shape.vec()); });
}

kernels::NetworkSpec network_spec(at::IntArrayRef shape, kernels::Compute compute, int device) {
  return checked([&] { return esrgan::network_spec(shape.vec(), compute, device); });
}

// What a name says, or else what the type of x or of the weights implies. With float32, TF32 is
// used where the same network in plain torch would use it.
kernels::Compute compute_of(std::string_view name, at::ScalarType type) {
  if (!name.empty()) return checked([&] { return esrgan::compute_named(name); });
  if (type == at::kHalf) return kernels::Compute::kFloat16;
  if (type == at::kBFloat16) return kernels::Compute::kBFloat16;
  TORCH_CHECK(type == at::kFloat, "compute must be named for ", type);
  return at::globalContext().allowTF32CuDNN() ? kernels::Compute::kTensorFloat32
                                              : kernels::Compute::kFloat32;
}

// Device pointers to float32 parameters in O,I,H,W order; `keep` owns what had to be converted.
std::vector<kernels::Convolution> convolutions(at::TensorList weights, at::TensorList biases,
                                               std::vector<Tensor>& keep) {
  TORCH_CHECK(weights.size() == biases.size(), "there are ", weights.size(), " weights but ",
              biases.size(), " biases");
  TORCH_CHECK(!weights.empty(), "there are no weights");
  std::vector<kernels::Convolution> result;
  keep.reserve(2 * weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Tensor &weight = weights[i], &bias = biases[i];
    TORCH_CHECK(weight.device() == weights[0].device() && bias.device() == weights[0].device(),
                "weights and biases must be on one device");
    TORCH_CHECK(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3,
                "weights must be O,I,3,3, got ", weight.sizes());
    TORCH_CHECK(bias.dim() == 1 && bias.size(0) == weight.size(0), "a bias of shape ", bias.sizes(),
                " does not belong to weights of shape ", weight.sizes());
    keep.push_back(weight.to(at::kFloat).contiguous());
    keep.push_back(bias.to(at::kFloat).contiguous());
    result.push_back(
        {keep[keep.size() - 2].const_data_ptr<float>(), keep.back().const_data_ptr<float>()});
  }
  return result;
}

bool runs_in_kernels(const Tensor& x, at::TensorList weights, const kernels::DenseBlockShape& s) {
  if (kernels::unsupported(s)) return false;
  const at::ScalarType type = x.scalar_type();
  if (type != at::kHalf && type != at::kBFloat16 && type != at::kFloat) return false;
  for (const Tensor& w : weights)
    if (w.scalar_type() != type) return false;
  return esrgan::chosen_path(x.get_device(), compute_of("", type)) != kernels::Path::kNone;
}

// The weights are packed in each call: microseconds on the device beside a block's work, nothing
// to go stale while training writes them, and no state that streams or captures could share.
// `rrdbnet` is what inference runs, with weights packed once.
Tensor dense_block(const Tensor& x, at::TensorList weights, at::TensorList biases,
                   double negative_slope, double residual_scale) {
  esrgan::check_dense_block(x, weights, biases);
  const c10::cuda::CUDAGuard guard(x.device());
  const kernels::DenseBlockShape shape{
      static_cast<int>(x.size(1)), static_cast<int>(weights[0].size(0)),
      static_cast<float>(negative_slope), static_cast<float>(residual_scale)};
  if (!runs_in_kernels(x, weights, shape))
    return esrgan::dense_block_composed(x, weights, biases, negative_slope, residual_scale);

  const kernels::Compute compute = compute_of("", x.scalar_type());
  const kernels::DenseBlockSpec spec{shape, compute, esrgan::trunk_path("")};
  const Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast);
  Tensor out = at::empty(x.sizes(), x.options(), at::MemoryFormat::ChannelsLast);
  if (x.numel() == 0) return out;
  std::vector<Tensor> keep;
  const auto layers = convolutions(weights, biases, keep);
  const Tensor packed = bytes(kernels::packed_bytes(spec), x);
  check(kernels::pack(spec, layers.data(), static_cast<int>(layers.size()),
                      packed.mutable_data_ptr(), stream_of(x)));
  const int batch = static_cast<int>(x.size(0));
  const int height = static_cast<int>(x.size(2)), width = static_cast<int>(x.size(3));
  const Tensor workspace = bytes(kernels::workspace_bytes(spec, batch, height, width), x);
  check(kernels::dense_block(spec, packed.const_data_ptr(), input.const_data_ptr(),
                             out.mutable_data_ptr(), batch, height, width,
                             workspace.mutable_data_ptr(),
                             static_cast<std::size_t>(workspace.numel()), stream_of(x)));
  return out;
}

Tensor rrdbnet_pack(at::TensorList weights, at::TensorList biases, at::IntArrayRef shape,
                    std::string_view compute) {
  std::vector<Tensor> keep;
  TORCH_CHECK(!weights.empty(), "there are no weights");
  const c10::cuda::CUDAGuard guard(weights[0].device());
  const kernels::NetworkSpec spec =
      network_spec(shape, compute_of(compute, weights[0].scalar_type()), weights[0].get_device());
  const int count = kernels::convolution_count(spec.shape);
  TORCH_CHECK(static_cast<int>(weights.size()) == count, "this shape has ", count,
              " convolutions, got ", weights.size());
  const auto layers = convolutions(weights, biases, keep);
  for (int i = 0; i < count; ++i) {
    const kernels::Channels c = kernels::convolution_channels(spec.shape, i);
    const Tensor& w = weights[static_cast<std::size_t>(i)];
    TORCH_CHECK(w.size(1) == c.in && w.size(0) == c.out, "convolution ", i, " must be ", c.in,
                " -> ", c.out, " channels, got ", w.size(1), " -> ", w.size(0));
  }
  Tensor packed = bytes(kernels::packed_bytes(spec), weights[0]);
  check(
      kernels::pack(spec, layers.data(), count, packed.mutable_data_ptr(), stream_of(weights[0])));
  return packed;
}

// `nonfinite`: one int32 on the device that becomes 1 when a value of the output is not finite.
void rrdbnet_into(const Tensor& x, const Tensor& packed, at::IntArrayRef shape, Tensor& out,
                  const std::optional<Tensor>& control, std::string_view compute, double in_scale,
                  double in_offset, double out_scale, double out_offset,
                  std::optional<double> out_low, std::optional<double> out_high,
                  const std::optional<Tensor>& nonfinite, std::string_view path) {
  TORCH_CHECK(!control, "control belongs to the CPU kernels");
  TORCH_CHECK(x.dim() == 4 && out.dim() == 4, "x and out must be N,C,H,W, got ", x.sizes(), " and ",
              out.sizes());
  TORCH_CHECK(packed.device() == x.device() && out.device() == x.device(),
              "x, packed and out must be on one device");
  const c10::cuda::CUDAGuard guard(x.device());
  const kernels::NetworkSpec spec =
      network_spec(shape, compute_of(compute, x.scalar_type()), x.get_device());
  const kernels::NetworkShape& s = spec.shape;
  const int64_t zoom = int64_t{1} << s.upsamplings;
  TORCH_CHECK(x.size(1) == s.in_channels, "x must be N,", s.in_channels, ",H,W, got ", x.sizes());
  TORCH_CHECK(out.sizes() ==
                  at::IntArrayRef({x.size(0), s.out_channels, x.size(2) * zoom, x.size(3) * zoom}),
              "out has the wrong shape: ", out.sizes());
  TORCH_CHECK(packed.scalar_type() == at::kByte && packed.is_contiguous() &&
                  packed.numel() == static_cast<int64_t>(kernels::packed_bytes(spec)),
              "packed does not belong to this network, compute type and device");
  TORCH_CHECK(x.size(0) < (1 << 20) && x.size(2) < (1 << 20) && x.size(3) < (1 << 20),
              "image too large: ", x.sizes());
  if (nonfinite)
    TORCH_CHECK(nonfinite->device() == x.device() && nonfinite->scalar_type() == at::kInt &&
                    nonfinite->numel() == 1,
                "nonfinite must be one int32 on the device of x");
  if (out.numel() == 0) return;

  kernels::InputImages in{x.const_data_ptr(), pixel_of(x), x.stride(0),
                          x.stride(1),        x.stride(2), x.stride(3)};
  in.scale = static_cast<float>(in_scale);
  in.offset = static_cast<float>(in_offset);
  kernels::OutputImages to{out.mutable_data_ptr(), pixel_of(out), out.stride(0),
                           out.stride(1),          out.stride(2), out.stride(3)};
  to.scale = static_cast<float>(out_scale);
  to.offset = static_cast<float>(out_offset);
  if (out_low) to.low = static_cast<float>(*out_low);
  if (out_high) to.high = static_cast<float>(*out_high);
  const int batch = static_cast<int>(x.size(0));
  const int height = static_cast<int>(x.size(2)), width = static_cast<int>(x.size(3));
  const Tensor workspace = bytes(kernels::workspace_bytes(spec, batch, height, width), x);
  const kernels::Path trunk = checked([&] { return esrgan::trunk_path(path); });
  check(kernels::forward(
      spec, trunk, packed.const_data_ptr(), in, to, batch, height, width,
      workspace.mutable_data_ptr(), static_cast<std::size_t>(workspace.numel()),
      nonfinite ? reinterpret_cast<std::uint32_t*>(nonfinite->mutable_data_ptr()) : nullptr,
      stream_of(x)));
}

Tensor rrdbnet(const Tensor& x, const Tensor& packed, at::IntArrayRef shape,
               std::string_view compute, std::string_view path) {
  const kernels::NetworkShape s = network_shape(shape);
  TORCH_CHECK(x.dim() == 4, "x must be N,C,H,W, got ", x.sizes());
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), "x must be floating point, not ",
              x.scalar_type());
  const int64_t zoom = int64_t{1} << s.upsamplings;
  Tensor out = at::empty({x.size(0), s.out_channels, x.size(2) * zoom, x.size(3) * zoom},
                         x.options().memory_format(at::MemoryFormat::Contiguous));
  rrdbnet_into(x, packed, shape, out, std::nullopt, compute, 1, 0, 1, 0, std::nullopt, std::nullopt,
               std::nullopt, path);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(esrgan_ext, CUDA, m) {
  m.impl("dense_block", &dense_block);
  m.impl("rrdbnet_pack", &rrdbnet_pack);
  m.impl("rrdbnet", &rrdbnet);
  m.impl("rrdbnet_into", &rrdbnet_into);
}

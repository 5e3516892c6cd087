// The operators on the CPU: checks of arguments, and the bridge from tensors to csrc/cpu. What this
// library defines by schemas.h, cuda_ops.cpp, a library of its own, implements for CUDA; fake
// kernels and autograd are registered in esrgan_ext/ops/registration.py.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <atomic>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../cpu/fingerprint.h"
#include "../cpu/network.h"
#include "dense_block.h"
#include "schemas.h"

namespace {

using at::Tensor;

bool is_plain_float(const Tensor& t) {
  return t.device().is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided;
}

// A convolution's contiguous parameters; `keep` owns what had to be copied.
esrgan::Convolution convolution(const Tensor& weight, const Tensor& bias,
                                std::vector<Tensor>& keep) {
  TORCH_CHECK(is_plain_float(weight) && is_plain_float(bias),
              "weights and biases must be float32 tensors on the CPU");
  TORCH_CHECK(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3,
              "weights must be O,I,3,3, got ", weight.sizes());
  TORCH_CHECK(bias.dim() == 1 && bias.size(0) == weight.size(0), "a bias of shape ", bias.sizes(),
              " does not belong to weights of shape ", weight.sizes());
  keep.push_back(weight.contiguous());
  keep.push_back(bias.contiguous());
  const Tensor& w = keep[keep.size() - 2];
  return {w.const_data_ptr<float>(), keep.back().const_data_ptr<float>(),
          static_cast<int>(weight.size(1)), static_cast<int>(weight.size(0))};
}

std::vector<esrgan::Convolution> convolutions(at::TensorList weights, at::TensorList biases,
                                              std::vector<Tensor>& keep) {
  TORCH_CHECK(weights.size() == biases.size(), "there are ", weights.size(), " weights but ",
              biases.size(), " biases");
  keep.reserve(2 * weights.size());
  std::vector<esrgan::Convolution> result;
  for (std::size_t i = 0; i < weights.size(); ++i)
    result.push_back(convolution(weights[i], biases[i], keep));
  return result;
}

// Packed weights of the dense blocks that were run last, each valid while its tensors live and
// hold what they held.
class DenseBlockCache {
 public:
  Tensor packed(const esrgan::DenseBlockShape& shape, at::TensorList weights,
                at::TensorList biases) {
    std::vector<Tensor> keep;
    const std::vector<esrgan::Convolution> layers = convolutions(weights, biases, keep);
    Entry entry;
    std::uint64_t hash = esrgan::kHashStart;
    const auto add = [&](const Tensor& t, const Tensor& contiguous) {
      entry.owners.emplace_back(t.getIntrusivePtr());
      entry.keys.push_back(t.unsafeGetTensorImpl());
      entry.data.push_back(t.const_data_ptr());
      entry.versions.push_back(t.is_inference() ? 0 : t._version());
      hash = esrgan::sample_bits(contiguous.const_data_ptr<float>(), contiguous.numel(), hash);
    };
    for (std::size_t i = 0; i < weights.size(); ++i) {
      add(weights[i], keep[2 * i]);
      add(biases[i], keep[2 * i + 1]);
    }
    entry.hash = hash;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      entries_.remove_if([](const Entry& e) {
        for (const auto& owner : e.owners)
          if (owner.expired()) return true;
        return false;
      });
      for (auto it = entries_.begin(); it != entries_.end(); ++it) {
        if (it->keys != entry.keys) continue;
        if (it->data == entry.data && it->versions == entry.versions && it->hash == hash) {
          entries_.splice(entries_.begin(), entries_, it);
          return entries_.front().packed;
        }
        entries_.erase(it);
        break;
      }
    }
    entry.packed = at::empty({static_cast<int64_t>(esrgan::packed_floats(shape))}, at::kFloat);
    esrgan::pack(shape, layers.data(), at::get_num_threads(),
                 entry.packed.mutable_data_ptr<float>());
    Tensor result = entry.packed;
    std::lock_guard<std::mutex> lock(mutex_);
    entries_.push_front(std::move(entry));
    // A network of 23 RRDBs has 69 blocks, 3.8 MB each.
    constexpr std::size_t kMaxEntries = 96;
    if (entries_.size() > kMaxEntries) entries_.pop_back();
    return result;
  }

 private:
  struct Entry {
    std::vector<c10::weak_intrusive_ptr<c10::TensorImpl>> owners;
    std::vector<const void*> keys, data;
    std::vector<int64_t> versions;
    std::uint64_t hash;
    Tensor packed;
  };
  std::mutex mutex_;
  std::list<Entry> entries_;
};

DenseBlockCache& dense_block_cache() {
  static DenseBlockCache* const cache = new DenseBlockCache;  // outlives torch's own shutdown
  return *cache;
}

Tensor dense_block(const Tensor& x, at::TensorList weights, at::TensorList biases,
                   double negative_slope, double residual_scale) {
  esrgan::check_dense_block(x, weights, biases);
  const esrgan::DenseBlockShape shape{
      static_cast<int>(x.size(1)), static_cast<int>(weights[0].size(0)),
      static_cast<float>(negative_slope), static_cast<float>(residual_scale)};
  if (!is_plain_float(x) || esrgan::unsupported(shape))
    return esrgan::dense_block_composed(x, weights, biases, negative_slope, residual_scale);

  const Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast);
  Tensor out = at::empty(x.sizes(), x.options(), at::MemoryFormat::ChannelsLast);
  if (x.numel() == 0) return out;
  const Tensor packed = dense_block_cache().packed(shape, weights, biases);
  const int height = static_cast<int>(x.size(2)), width = static_cast<int>(x.size(3));
  const int64_t image = x.size(1) * x.size(2) * x.size(3);
  for (int64_t n = 0; n < x.size(0); ++n)
    esrgan::run(shape, packed.const_data_ptr<float>(), input.const_data_ptr<float>() + n * image,
                out.mutable_data_ptr<float>() + n * image, height, width, at::get_num_threads());
  return out;
}

// `shape`: in_channels (after pixel-unshuffling), out_channels, nf, gc, RRDBs, upsamplings.
esrgan::NetworkShape network_shape(at::IntArrayRef shape) {
  TORCH_CHECK(shape.size() == 6,
              "shape must be [in_channels, out_channels, nf, gc, rrdbs, upsamplings]");
  int values[6];
  for (std::size_t i = 0; i < 6; ++i) {
    TORCH_CHECK(shape[i] >= 0 && shape[i] < 4096, "impossible network shape ", shape);
    values[i] = static_cast<int>(shape[i]);
  }
  const esrgan::NetworkShape s{values[0], values[1], values[2], values[3], values[4], values[5]};
  const char* reason = esrgan::unsupported(s);
  TORCH_CHECK(!reason, "the CPU kernels cannot run this network: ", reason);
  return s;
}

// "" where the CPU kernels run a network of this shape, else the reason why not.
std::string rrdbnet_unsupported(at::IntArrayRef shape) {
  TORCH_CHECK(shape.size() == 6,
              "shape must be [in_channels, out_channels, nf, gc, rrdbs, upsamplings]");
  const auto at = [&](std::size_t i) { return static_cast<int>(shape[i]); };
  const char* reason =
      esrgan::unsupported(esrgan::NetworkShape{at(0), at(1), at(2), at(3), at(4), at(5)});
  return reason ? reason : "";
}

void check_compute(std::string_view compute) {
  TORCH_CHECK(compute.empty() || compute == "float32", "the CPU kernels compute in float32, not ",
              compute);
}

Tensor rrdbnet_pack(at::TensorList weights, at::TensorList biases, at::IntArrayRef shape,
                    std::string_view compute) {
  check_compute(compute);
  const esrgan::NetworkShape s = network_shape(shape);
  TORCH_CHECK(static_cast<int>(weights.size()) == esrgan::convolution_count(s), "this shape has ",
              esrgan::convolution_count(s), " convolutions, got ", weights.size());
  std::vector<Tensor> keep;
  const std::vector<esrgan::Convolution> layers = convolutions(weights, biases, keep);
  for (int i = 0; i < static_cast<int>(layers.size()); ++i) {
    const esrgan::Channels c = esrgan::convolution_channels(s, i);
    const esrgan::Convolution& given = layers[static_cast<std::size_t>(i)];
    TORCH_CHECK(given.in_channels == c.in && given.out_channels == c.out, "convolution ", i,
                " must be ", c.in, " -> ", c.out, " channels, got ", given.in_channels, " -> ",
                given.out_channels);
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

// `control`: five int64 that other threads may look at meanwhile: [0] set to 1 to stop,
// [1] work done so far over all images, [2] rows finished from the top of the last image's output,
// [3] the work of one image; and [4] the number of threads, 0 for torch's. A caller that runs this
// in a thread of its own passes what torch says in the thread that asked: a new thread's OpenMP
// must not be touched after a fork.
// What follows `control` is for devices: the conversion of pixels, and overflow.
void rrdbnet_into(const Tensor& x, const Tensor& packed, at::IntArrayRef shape, Tensor& out,
                  const std::optional<Tensor>& control, std::string_view compute, double in_scale,
                  double in_offset, double out_scale, double out_offset,
                  std::optional<double> out_low, std::optional<double> out_high,
                  const std::optional<Tensor>& nonfinite) {
  check_compute(compute);
  TORCH_CHECK(in_scale == 1 && in_offset == 0 && out_scale == 1 && out_offset == 0 && !out_low &&
                  !out_high && !nonfinite,
              "the CPU kernels take and give float32 as the network does");
  const esrgan::NetworkShape s = network_shape(shape);
  const int64_t zoom = int64_t{1} << s.upsamplings;
  TORCH_CHECK(is_plain_float(x) && x.dim() == 4 && x.size(1) == s.in_channels,
              "x must be float32 N,", s.in_channels, ",H,W on the CPU, got ", x.scalar_type(), " ",
              x.sizes());
  TORCH_CHECK(is_plain_float(packed) && packed.is_contiguous() &&
                  packed.numel() == static_cast<int64_t>(esrgan::packed_floats(s)),
              "packed does not belong to this network");
  TORCH_CHECK(
      is_plain_float(out) && out.sizes() == at::IntArrayRef({x.size(0), s.out_channels,
                                                             x.size(2) * zoom, x.size(3) * zoom}),
      "out has the wrong type or shape: ", out.sizes());
  TORCH_CHECK(x.size(2) < (1 << 20) && x.size(3) < (1 << 20), "image too large: ", x.sizes());
  esrgan::Control words;
  int threads = 0;
  if (control) {
    TORCH_CHECK(control->scalar_type() == at::kLong && control->is_contiguous() &&
                    control->numel() >= 5 && control->device().is_cpu(),
                "control must be five contiguous int64 on the CPU");
    static_assert(sizeof(std::atomic<std::int64_t>) == sizeof(int64_t), "");
    auto* words_in_tensor =
        reinterpret_cast<std::atomic<std::int64_t>*>(control->mutable_data_ptr<int64_t>());
    words = {words_in_tensor, words_in_tensor + 1, words_in_tensor + 2, words_in_tensor + 3};
    threads = static_cast<int>(words_in_tensor[4].load());
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

Tensor rrdbnet(const Tensor& x, const Tensor& packed, at::IntArrayRef shape,
               std::string_view compute) {
  const esrgan::NetworkShape s = network_shape(shape);
  TORCH_CHECK(x.dim() == 4, "x must be N,C,H,W, got ", x.sizes());
  const int64_t zoom = int64_t{1} << s.upsamplings;
  Tensor out = at::empty({x.size(0), s.out_channels, x.size(2) * zoom, x.size(3) * zoom},
                         x.options().memory_format(at::MemoryFormat::Contiguous));
  rrdbnet_into(x, packed, shape, out, std::nullopt, compute, 1, 0, 1, 0, std::nullopt, std::nullopt,
               std::nullopt);
  return out;
}

}  // namespace

TORCH_LIBRARY(esrgan_ext, m) {
  esrgan::define_operators(m);
  m.def("rrdbnet_unsupported(int[] shape) -> str", &rrdbnet_unsupported);
}

TORCH_LIBRARY_IMPL(esrgan_ext, CPU, m) {
  m.impl("dense_block", &dense_block);
  m.impl("rrdbnet_pack", &rrdbnet_pack);
  m.impl("rrdbnet", &rrdbnet);
  m.impl("rrdbnet_into", &rrdbnet_into);
}

// The library's C interface: everything that Python calls, through ctypes. No headers of torch or
// Python, so one build serves every version of both. Tensors arrive as addresses, sizes and strides
// that esrgan_ext/ops/cpu_library.py has checked.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "compact.h"
#include "fingerprint.h"
#include "kernels.h"
#include "network.h"
#include "parallel_for.h"

#if defined(__GNUC__)
#define ESRGAN_API extern "C" __attribute__((visibility("default")))
#else
#define ESRGAN_API extern "C"
#endif

namespace cpu = esrgan::cpu;

namespace {

thread_local std::string failure;  // what went wrong last in this thread

enum Result { kDone, kStopped, kFailed };

// No exception may leave a C interface.
template <class Work>
int guarded(const Work& work) {
  try {
    return work() ? kDone : kStopped;
  } catch (const std::exception& error) {
    failure = error.what();
    return kFailed;
  }
}

cpu::NetworkShape network(const int* s) { return {s[0], s[1], s[2], s[3], s[4], s[5]}; }

cpu::CompactShape compact(const int* s) { return {s[0], s[1], s[2], s[3], s[4]}; }

cpu::DenseBlockShape dense_block(const int* widths, const float* factors) {
  return {widths[0], widths[1], factors[0], factors[1]};
}

template <class Shape>
int convolutions(const Shape& shape, int* channels) {
  const int count = cpu::convolution_count(shape);
  for (int i = 0; channels && i < count; ++i) {
    const cpu::Channels c = cpu::convolution_channels(shape, i);
    channels[2 * i] = c.in;
    channels[2 * i + 1] = c.out;
  }
  return count;
}

template <class Shape>
std::vector<cpu::Convolution> layers(const Shape& shape, const float* const* weights,
                                        const float* const* biases, const float* const* slopes) {
  std::vector<cpu::Convolution> result;
  const int count = cpu::convolution_count(shape);
  for (int i = 0; i < count; ++i) {
    const cpu::Channels c = cpu::convolution_channels(shape, i);
    cpu::Convolution layer{weights[i], biases[i], c.in, c.out};
    if (slopes && i + 1 < count) layer.slopes = slopes[i];
    result.push_back(layer);
  }
  return result;
}

cpu::Control control(std::int64_t* words, bool last) {
  static_assert(sizeof(std::atomic<std::int64_t>) == sizeof(std::int64_t), "");
  if (!words) return {};
  auto* shared = reinterpret_cast<std::atomic<std::int64_t>*>(words);
  return {shared, shared + 1, last ? shared + 2 : nullptr, shared + 3};
}

// A batch of images, N,C,H,W, with its strides in floats.
struct Batch {
  float* data;
  int images, height, width;
  std::int64_t image_stride, channel_stride, row_stride, column_stride;

  cpu::ImageView view(int n) const {
    return {data + n * image_stride,
            height,
            width,
            static_cast<std::ptrdiff_t>(channel_stride),
            static_cast<std::ptrdiff_t>(row_stride),
            static_cast<std::ptrdiff_t>(column_stride)};
  }
};

template <class Shape>
int run(const Shape& shape, const float* packed, const Batch* in, const Batch* out, int threads,
        std::int64_t* words) {
  return guarded([&] {
    for (int n = 0; n < in->images; ++n)
      if (!cpu::run(shape, packed, in->view(n), out->view(n), threads,
                       control(words, n + 1 == in->images)))
        return false;
    return true;
  });
}

}  // namespace

ESRGAN_API const char* esrgan_failure() { return failure.c_str(); }

ESRGAN_API const char* esrgan_isa() { return cpu::isa_name(); }

ESRGAN_API const char* esrgan_isa_error() { return cpu::chosen_isa().error; }

ESRGAN_API const char* esrgan_compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

ESRGAN_API int esrgan_standard() { return __cplusplus / 100 % 100; }

ESRGAN_API std::uint64_t esrgan_fingerprint(const float* const* tensors, const std::int64_t* counts,
                                            int number) {
  std::uint64_t hash = cpu::kHashStart;
  for (int i = 0; i < number; ++i)
    hash = cpu::sample_bits(tensors[i], static_cast<std::size_t>(counts[i]), hash);
  return hash;
}

// Billions of float operations a second that `threads` threads reach on registers alone.
ESRGAN_API double esrgan_peak_gflops(int threads, double seconds) {
  const cpu::Kernels& kernels = cpu::kernels_for(32);
  constexpr long kRounds = 1 << 18;
  std::atomic<long long> rounds{0};
  std::atomic<float> keep{0};
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  cpu::on_threads(threads, [&](int thread) {
    while (std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
      keep = kernels.multiply_adds(kRounds, 0.5f + 0.001f * static_cast<float>(thread));
      rounds += kRounds;
    }
  });
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  return 2.0 * static_cast<double>(rounds) * kernels.peak_vectors * kernels.lanes / elapsed / 1e9;
}

// RRDBNet. `shape`: in_channels (after pixel-unshuffling), out_channels, nf, gc, RRDBs,
// upsamplings.

// Null where the kernels run a network of this shape, else the reason why not.
ESRGAN_API const char* esrgan_rrdbnet_unsupported(const int* shape) {
  return cpu::unsupported(network(shape));
}

// How many convolutions it has; their input and output channels go to `channels`, if given.
ESRGAN_API int esrgan_rrdbnet_convolutions(const int* shape, int* channels) {
  return convolutions(network(shape), channels);
}

ESRGAN_API std::int64_t esrgan_rrdbnet_packed_floats(const int* shape) {
  return static_cast<std::int64_t>(cpu::packed_floats(network(shape)));
}

ESRGAN_API int esrgan_rrdbnet_pack(const int* shape, const float* const* weights,
                                   const float* const* biases, const float* const* /*slopes*/,
                                   int threads, float* packed) {
  return guarded([&] {
    const cpu::NetworkShape s = network(shape);
    cpu::pack(s, layers(s, weights, biases, nullptr).data(), threads, packed);
    return true;
  });
}

// `words`: null, or four int64 that other threads may look at meanwhile: [0] set to 1 to stop,
// [1] work done so far over all images, [2] rows finished from the top of the last image's output,
// [3] the work of one image.
ESRGAN_API int esrgan_rrdbnet_run(const int* shape, const float* packed, const Batch* in,
                                  const Batch* out, int threads, std::int64_t* words) {
  return run(network(shape), packed, in, out, threads, words);
}

// SRVGGNetCompact. `shape`: channels, features, convolutions between the first and the last,
// upsampling, scale. The rest as above.

ESRGAN_API const char* esrgan_compact_unsupported(const int* shape) {
  return cpu::unsupported(compact(shape));
}

ESRGAN_API int esrgan_compact_convolutions(const int* shape, int* channels) {
  return convolutions(compact(shape), channels);
}

ESRGAN_API std::int64_t esrgan_compact_packed_floats(const int* shape) {
  return static_cast<std::int64_t>(cpu::packed_floats(compact(shape)));
}

ESRGAN_API int esrgan_compact_pack(const int* shape, const float* const* weights,
                                   const float* const* biases, const float* const* slopes,
                                   int threads, float* packed) {
  return guarded([&] {
    const cpu::CompactShape s = compact(shape);
    cpu::pack(s, layers(s, weights, biases, slopes).data(), threads, packed);
    return true;
  });
}

ESRGAN_API int esrgan_compact_run(const int* shape, const float* packed, const Batch* in,
                                  const Batch* out, int threads, std::int64_t* words) {
  return run(compact(shape), packed, in, out, threads, words);
}

// One residual dense block. `widths`: nf, gc; `factors`: negative slope, residual scale.

ESRGAN_API const char* esrgan_dense_block_unsupported(const int* widths, const float* factors) {
  return cpu::unsupported(dense_block(widths, factors));
}

ESRGAN_API std::int64_t esrgan_dense_block_packed_floats(const int* widths, const float* factors) {
  return static_cast<std::int64_t>(cpu::packed_floats(dense_block(widths, factors)));
}

ESRGAN_API int esrgan_dense_block_pack(const int* widths, const float* factors,
                                       const float* const* weights, const float* const* biases,
                                       int threads, float* packed) {
  return guarded([&] {
    std::vector<cpu::Convolution> five;
    for (int k = 0; k < 5; ++k)
      five.push_back({weights[k], biases[k], widths[0] + k * widths[1], widths[k < 4 ? 1 : 0]});
    cpu::pack(dense_block(widths, factors), five.data(), threads, packed);
    return true;
  });
}

// `x` and `out` are channels-last and dense.
ESRGAN_API int esrgan_dense_block_run(const int* widths, const float* factors, const float* packed,
                                      const float* x, float* out, int images, int height, int width,
                                      int threads) {
  return guarded([&] {
    const cpu::DenseBlockShape shape = dense_block(widths, factors);
    const std::int64_t image = static_cast<std::int64_t>(widths[0]) * height * width;
    for (int n = 0; n < images; ++n)
      cpu::run(shape, packed, x + n * image, out + n * image, height, width, threads);
    return true;
  });
}

// Compares csrc/cpu with a direct convolution in double over every shape that has broken such code
// before: one pixel, one row, one column, odd, prime, larger than a tile, a group, a strip.
// Plain main: the first difference prints what it compared and fails. Meant to be built with
// -fsanitize=address,undefined, once for each ESRGAN_CPU_ISA (tests/ops/test_csrc.py does).
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "network.h"

using namespace esrgan;

namespace {

std::mt19937 generator(1);

std::vector<float> normal(std::size_t count, double deviation) {
  std::normal_distribution<float> distribution(0, static_cast<float>(deviation));
  std::vector<float> values(count);
  for (float& v : values) v = distribution(generator);
  return values;
}

struct Layer {
  int in, out;
  std::vector<float> weights, bias;
  Layer(int in_channels, int out_channels)
      : in(in_channels),
        out(out_channels),
        weights(normal(static_cast<std::size_t>(in) * out * 9, 1 / std::sqrt(9.0 * in))),
        bias(normal(static_cast<std::size_t>(out), 0.1)) {}
  Convolution view() const { return {weights.data(), bias.data(), in, out}; }
};

// Planar images in double.
struct Planes {
  int channels, height, width;
  std::vector<double> values;
  Planes(int c, int h, int w)
      : channels(c), height(h), width(w), values(static_cast<std::size_t>(c) * h * w) {}
  double& at(int c, int y, int x) {
    return values[(static_cast<std::size_t>(c) * height + y) * width + x];
  }
  double get(int c, int y, int x) const {
    if (y < 0 || x < 0 || y >= height || x >= width) return 0;
    return values[(static_cast<std::size_t>(c) * height + y) * width + x];
  }
};

Planes convolve(const Planes& in, const Layer& layer, double slope) {
  Planes out(layer.out, in.height, in.width);
  for (int o = 0; o < layer.out; ++o)
    for (int y = 0; y < in.height; ++y)
      for (int x = 0; x < in.width; ++x) {
        double sum = layer.bias[static_cast<std::size_t>(o)];
        for (int i = 0; i < layer.in; ++i)
          for (int dy = 0; dy < 3; ++dy)
            for (int dx = 0; dx < 3; ++dx)
              sum +=
                  in.get(i, y + dy - 1, x + dx - 1) *
                  layer.weights[((static_cast<std::size_t>(o) * layer.in + i) * 3 + dy) * 3 + dx];
        out.at(o, y, x) = sum > 0 ? sum : sum * slope;
      }
  return out;
}

Planes joined(const std::vector<Planes>& parts) {
  int channels = 0;
  for (const Planes& p : parts) channels += p.channels;
  Planes out(channels, parts[0].height, parts[0].width);
  out.values.clear();
  for (const Planes& p : parts)
    out.values.insert(out.values.end(), p.values.begin(), p.values.end());
  return out;
}

void add_scaled(Planes& out, double scale, const Planes& other) {
  for (std::size_t i = 0; i < out.values.size(); ++i)
    out.values[i] = out.values[i] * scale + other.values[i];
}

Planes dense_block(const Planes& x, const Layer* layers, double slope, double scale) {
  std::vector<Planes> features{x};
  for (int k = 0; k < 4; ++k) features.push_back(convolve(joined(features), layers[k], slope));
  Planes y = convolve(joined(features), layers[4], 1);
  add_scaled(y, scale, x);
  return y;
}

Planes enlarged(const Planes& in) {
  Planes out(in.channels, 2 * in.height, 2 * in.width);
  for (int c = 0; c < in.channels; ++c)
    for (int y = 0; y < out.height; ++y)
      for (int x = 0; x < out.width; ++x) out.at(c, y, x) = in.get(c, y / 2, x / 2);
  return out;
}

Planes network(const NetworkShape& s, const std::vector<Layer>& layers, const Planes& in) {
  const Layer* layer = layers.data();
  const Planes features = convolve(in, *layer++, 1);
  Planes y = features;
  for (int i = 0; i < s.rrdbs; ++i) {
    const Planes before = y;
    for (int k = 0; k < 3; ++k, layer += 5)
      y = dense_block(y, layer, kNegativeSlope, kResidualScale);
    add_scaled(y, kResidualScale, before);
  }
  y = convolve(y, *layer++, 1);
  add_scaled(y, 1, features);
  for (int i = 0; i < s.upsamplings; ++i) y = convolve(enlarged(y), *layer++, kNegativeSlope);
  y = convolve(y, *layer++, kNegativeSlope);
  return convolve(y, *layer, 1);
}

void fail(const char* what, int a, int b, double difference) {
  std::printf("FAILED: %s, %d x %d: %g\n", what, a, b, difference);
  std::exit(1);
}

double largest_difference(const std::vector<float>& got, const std::vector<double>& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = std::fabs(got[i] - expected[i]);
    if (!(difference <= largest)) largest = difference;  // NaN as well
  }
  return largest;
}

std::vector<Layer> network_layers(const NetworkShape& s) {
  std::vector<Layer> layers;
  for (int i = 0; i < convolution_count(s); ++i) {
    const Channels c = convolution_channels(s, i);
    layers.emplace_back(c.in, c.out);
  }
  return layers;
}

template <class Shape>
std::vector<float> packed(const Shape& s, const std::vector<Layer>& layers, int threads) {
  std::vector<Convolution> views;
  for (const Layer& layer : layers) views.push_back(layer.view());
  std::vector<float> result(packed_floats(s));
  pack(s, views.data(), threads, result.data());
  return result;
}

std::vector<float> run_network(const NetworkShape& s, const std::vector<float>& weights,
                               std::vector<float>& in, int height, int width, int threads,
                               const Control& control = {}) {
  const int zoom = 1 << s.upsamplings;
  std::vector<float> out(static_cast<std::size_t>(s.out_channels) * height * width * zoom * zoom,
                         NAN);
  const ImageView from{in.data(), height, width, static_cast<std::ptrdiff_t>(height) * width,
                       width,     1};
  const ImageView to{out.data(),
                     height * zoom,
                     width * zoom,
                     static_cast<std::ptrdiff_t>(height) * width * zoom * zoom,
                     static_cast<std::ptrdiff_t>(width) * zoom,
                     1};
  run(s, weights.data(), from, to, threads, control);
  return out;
}

void test_network(const NetworkShape& s, const std::vector<std::pair<int, int>>& sizes) {
  const std::vector<Layer> layers = network_layers(s);
  const std::vector<float> weights = packed(s, layers, 2);
  for (const auto& [height, width] : sizes) {
    std::vector<float> in = normal(static_cast<std::size_t>(s.in_channels) * height * width, 1);
    Planes image(s.in_channels, height, width);
    image.values.assign(in.begin(), in.end());
    const Planes expected = network(s, layers, image);
    std::vector<float> first;
    for (int threads = 1; threads <= 4; ++threads) {
      std::atomic<std::int64_t> work{0}, rows{0}, total{0};
      Control control;
      control.work = &work;
      control.rows = &rows;
      control.total = &total;
      const std::vector<float> got = run_network(s, weights, in, height, width, threads, control);
      const double difference = largest_difference(got, expected.values);
      if (!(difference < 2e-5)) fail("network", height, width, difference);
      if (threads == 1) first = got;
      if (std::memcmp(first.data(), got.data(), got.size() * sizeof(float)))
        fail("the result depends on the number of threads", height, width, threads);
      if (work != total || total <= 0) fail("progress does not add up", height, width, threads);
      if (rows != height << s.upsamplings) fail("rows are missing", height, width, threads);
    }
  }
}

void test_dense_block(const DenseBlockShape& s, int height, int width) {
  std::vector<Layer> layers;
  for (int k = 0; k < 5; ++k) layers.emplace_back(s.nf + k * s.gc, k < 4 ? s.gc : s.nf);
  const std::vector<float> weights = packed(s, layers, 1);
  const std::vector<float> in = normal(static_cast<std::size_t>(s.nf) * height * width, 1);
  Planes x(s.nf, height, width);
  for (std::size_t i = 0; i < in.size(); ++i)  // channels-last -> planar
    x.values[i % s.nf * height * width + i / s.nf] = in[i];
  const Planes planar = dense_block(x, layers.data(), s.negative_slope, s.residual_scale);
  std::vector<double> expected(in.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    expected[i] = planar.values[i % s.nf * height * width + i / s.nf];
  for (int threads = 1; threads <= 4; ++threads) {
    std::vector<float> out(in.size(), NAN);
    run(s, weights.data(), in.data(), out.data(), height, width, threads);
    const double difference = largest_difference(out, expected);
    if (!(difference < 2e-5)) fail("dense block", height, width, difference);
  }
}

void test_cancel() {
  const NetworkShape s{3, 3, 64, 32, 4, 2};
  const std::vector<float> weights = packed(s, network_layers(s), 2);
  std::vector<float> in(3 * 160 * 160, 0.5f);
  for (int threads = 1; threads <= 3; ++threads) {
    std::atomic<std::int64_t> cancel{0}, work{0}, total{0};
    Control control;
    control.cancel = &cancel;
    control.work = &work;
    control.total = &total;
    std::thread other([&] {
      while (work.load() == 0) std::this_thread::yield();
      cancel = 1;
    });
    run_network(s, weights, in, 160, 160, threads, control);
    other.join();
    if (work.load() >= total.load()) fail("cancelling did not stop the work", 160, 160, threads);
  }
}

void test_callers_in_parallel() {
  const NetworkShape s{3, 3, 32, 16, 1, 1};
  const std::vector<float> weights = packed(s, network_layers(s), 1);
  std::vector<float> in = normal(3 * 33 * 29, 1);
  const std::vector<float> expected = run_network(s, weights, in, 33, 29, 1);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 3; ++i)
    callers.emplace_back([&] {
      for (int k = 0; k < 3; ++k)
        if (run_network(s, weights, in, 33, 29, 2) != expected) ++wrong;
    });
  for (std::thread& caller : callers) caller.join();
  if (wrong != 0) fail("callers in several threads disturb each other", 33, 29, wrong);
}

}  // namespace

int main() {
  const std::vector<std::pair<int, int>> small = {{1, 1}, {1, 13}, {13, 1}, {7, 5}, {2, 9}};
  test_network({3, 3, 32, 32, 1, 1}, small);
  test_network({3, 3, 32, 16, 1, 2}, small);
  test_network({3, 3, 64, 32, 1, 2}, {{1, 1}, {7, 5}, {6, 31}});
  test_network({1, 1, 64, 16, 1, 0}, {{3, 4}, {5, 17}});
  test_network({4, 4, 32, 32, 0, 3}, {{1, 2}, {5, 6}});
  test_network({12, 2, 32, 16, 2, 1}, {{11, 7}});
  test_network({48, 1, 32, 32, 0, 0}, {{4, 4}});
  // Larger than a group of the wavefront, than the ring, than the rows that the tail keeps.
  test_network({3, 3, 32, 16, 1, 1}, {{61, 19}, {9, 149}});
  test_dense_block({64, 32, 0.2f, 0.2f}, 1, 1);
  test_dense_block({64, 32, 0.2f, 0.2f}, 23, 17);
  test_dense_block({32, 32, 0.1f, 1.0f}, 47, 5);
  test_dense_block({64, 16, -0.5f, 0.0f}, 5, 43);
  test_dense_block({32, 16, 1.5f, -0.2f}, 13, 13);
  test_cancel();
  test_callers_in_parallel();
  std::printf("passed (%s)\n", isa_name());
  return 0;
}

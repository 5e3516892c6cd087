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
#include <initializer_list>
#include <thread>
#include <vector>

#include "network.h"
#include "reference.h"

using namespace esrgan::cpu;
using reference::Layer;
using reference::network_layers;
using reference::normal;
using reference::Planes;

namespace {

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

template <class Shape>
std::vector<float> packed(const Shape& s, const std::vector<Layer>& layers, int threads) {
  std::vector<Convolution> views;
  for (const Layer& l : layers) views.push_back({l.weights.data(), l.bias.data(), l.in, l.out});
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
    const Planes expected = reference::network(s, layers, image, kNegativeSlope, kResidualScale);
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
  const std::vector<Layer> layers = reference::dense_block_layers(s.nf, s.gc);
  const std::vector<float> weights = packed(s, layers, 1);
  const std::vector<float> in = normal(static_cast<std::size_t>(s.nf) * height * width, 1);
  Planes x(s.nf, height, width);
  for (std::size_t i = 0; i < in.size(); ++i)  // channels-last -> planar
    x.values[i % s.nf * height * width + i / s.nf] = in[i];
  const Planes planar =
      reference::dense_block(x, layers.data(), s.negative_slope, s.residual_scale);
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

// Few threads cut wide images into stripes, many take the same ones whole: the same to the bit.
void test_stripes(const NetworkShape& s, int height, int width, std::initializer_list<int> few) {
  const std::vector<float> weights = packed(s, network_layers(s), 2);
  std::vector<float> in = normal(static_cast<std::size_t>(s.in_channels) * height * width, 1);
  constexpr int kManyThreads = 16;
  const std::vector<float> expected = run_network(s, weights, in, height, width, kManyThreads);
  for (const int threads : few)
    if (run_network(s, weights, in, height, width, threads) != expected)
      fail("stripes change the result", height, width, threads);
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
  // 2 stripes, and partial tiles; 16 groups (61 rows) are the fewest that are cut, 48 tiles (189
  // columns) too. More threads take these widths whole; of the widest 2 make 4 stripes, 4 make 2.
  // How many threads share a stripe is no matter of the channels: one shape tries both numbers.
  test_stripes({3, 3, 32, 16, 2, 0}, 61, 191, {1, 2});
  test_stripes({3, 3, 64, 32, 1, 0}, 62, 190, {2});
  test_stripes({3, 3, 32, 16, 1, 1}, 61, 445, {2, 4});
  test_stripes({1, 1, 64, 16, 1, 0}, 65, 193, {1});
  test_dense_block({32, 16, 0.2f, 0.2f}, 61, 190);
  test_cancel();
  test_callers_in_parallel();
  std::printf("passed (%s)\n", isa_name());
  return 0;
}

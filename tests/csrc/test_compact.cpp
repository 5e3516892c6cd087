// Compares csrc/cpu/compact.h with direct convolutions in double, over the shapes and sizes that
// break such code. Plain main, as test_network.cpp.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "compact.h"
#include "reference.h"

using namespace esrgan::cpu;
using reference::Layer;
using reference::normal;
using reference::Planes;

namespace {

void fail(const char* what, int a, int b, double difference) {
  std::printf("FAILED: %s, %d x %d: %g\n", what, a, b, difference);
  std::exit(1);
}

struct Network {
  CompactShape shape;
  std::vector<Layer> layers;
  std::vector<std::vector<float>> slopes;
  std::vector<float> packed;

  explicit Network(const CompactShape& s)
      : shape(s), layers(reference::network_layers(s)), packed(packed_floats(s)) {
    std::vector<Convolution> views;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const Layer& l = layers[i];
      slopes.push_back(normal(static_cast<std::size_t>(l.out), 0.5));
      const bool last = i + 1 == layers.size();
      views.push_back({l.weights.data(), l.bias.data(), l.in, l.out, nullptr});
      if (!last) views.back().slopes = slopes.back().data();
    }
    pack(s, views.data(), 2, packed.data());
  }

  Planes expected(const Planes& image) const {
    Planes y = image;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      y = reference::convolve(y, layers[i], 1);
      if (i + 1 == layers.size()) break;
      for (int c = 0; c < y.channels; ++c)
        for (int k = 0; k < y.height * y.width; ++k) {
          double& v = y.values[static_cast<std::size_t>(c) * y.height * y.width + k];
          if (v < 0) v *= slopes[i][static_cast<std::size_t>(c)];
        }
    }
    const int factor = shape.upsampling;
    Planes large(shape.in_channels, image.height * factor, image.width * factor);
    for (int c = 0; c < large.channels; ++c)
      for (int v = 0; v < large.height; ++v)
        for (int u = 0; u < large.width; ++u)
          large.at(c, v, u) =
              y.get((c * factor + v % factor) * factor + u % factor, v / factor, u / factor) +
              image.get(c, v / factor, u / factor);
    return shape.scale == factor ? large : reduced(large, image.height, image.width);
  }

  // Keys' cubic over positions in double, as a definition would have it.
  Planes reduced(const Planes& large, int height, int width) const {
    Planes out(large.channels, height * shape.scale, width * shape.scale);
    const double step = static_cast<double>(shape.upsampling) / shape.scale;
    const auto weight = [](double d) {
      d = std::fabs(d);
      if (d <= 1) return 1.25 * d * d * d - 2.25 * d * d + 1;
      return d < 2 ? -0.75 * (d * d * d - 5 * d * d + 8 * d - 4) : 0;
    };
    const auto clamp = [](int i, int size) { return i < 0 ? 0 : i >= size ? size - 1 : i; };
    for (int c = 0; c < out.channels; ++c)
      for (int y = 0; y < out.height; ++y)
        for (int x = 0; x < out.width; ++x) {
          const double v = (y + 0.5) * step - 0.5, u = (x + 0.5) * step - 0.5;
          double sum = 0;
          for (int i = static_cast<int>(std::floor(v)) - 1; i <= std::floor(v) + 2; ++i)
            for (int j = static_cast<int>(std::floor(u)) - 1; j <= std::floor(u) + 2; ++j)
              sum += weight(v - i) * weight(u - j) *
                     large.get(c, clamp(i, large.height), clamp(j, large.width));
          out.at(c, y, x) = sum;
        }
    return out;
  }

  bool run_on(std::vector<float>& in, int height, int width, int threads, const Control& control,
              std::vector<float>& out) const {
    const int zoom = shape.scale;
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(height) * width;
    const ImageView from{in.data(), height, width, plane, width, 1};
    const ImageView to{out.data(),          height * zoom, width * zoom,
                       plane * zoom * zoom, width * zoom,  1};
    return run(shape, packed.data(), from, to, threads, control);
  }
};

void test(const CompactShape& s, const std::vector<std::pair<int, int>>& sizes) {
  const Network network(s);
  for (const auto& [height, width] : sizes) {
    std::vector<float> in = normal(static_cast<std::size_t>(s.in_channels) * height * width, 1);
    Planes image(s.in_channels, height, width);
    image.values.assign(in.begin(), in.end());
    const Planes expected = network.expected(image);
    std::vector<float> first;
    for (int threads = 1; threads <= 4; ++threads) {
      std::atomic<std::int64_t> work{0}, rows{0}, total{0};
      Control control;
      control.work = &work;
      control.rows = &rows;
      control.total = &total;
      std::vector<float> got(expected.values.size(), NAN);
      if (!network.run_on(in, height, width, threads, control, got))
        fail("cancelled", height, width, 0);
      double largest = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        const double difference = std::fabs(got[i] - expected.values[i]);
        if (!(difference <= largest)) largest = difference;  // NaN as well
      }
      if (!(largest < 2e-5)) fail("compact network", height, width, largest);
      if (threads == 1) first = got;
      if (std::memcmp(first.data(), got.data(), got.size() * sizeof(float)))
        fail("the result depends on the number of threads", height, width, threads);
      if (work != total || total <= 0) fail("progress does not add up", height, width, threads);
      if (rows != height * s.scale) fail("rows are missing", height, width, threads);
    }
  }
}

// Cancelled from outside it ends soon; cancelled before, at once.
void test_cancel() {
  const Network network({3, 64, 30, 4, 4});
  std::vector<float> in(3 * 400 * 300, 0.5f), out(16 * in.size());
  std::atomic<std::int64_t> cancel{1}, work{0}, total{0};
  Control control;
  control.cancel = &cancel;
  control.work = &work;
  control.total = &total;
  if (network.run_on(in, 400, 300, 3, control, out)) fail("it ran though cancelled", 400, 300, 0);
  cancel = 0;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cancel = 1;
  });
  const bool finished = network.run_on(in, 400, 300, 3, control, out);
  later.join();
  if (finished || work >= total) fail("cancelling was not noticed", 400, 300, 0);
}

}  // namespace

int main() {
  const std::vector<std::pair<int, int>> small = {{1, 1}, {1, 13}, {13, 1}, {7, 5}, {2, 9}};
  test({3, 32, 1, 4, 4}, small);
  test({3, 64, 2, 4, 2}, small);
  test({3, 32, 2, 4, 3}, small);
  test({1, 32, 0, 1, 1}, {{3, 4}, {5, 17}});
  test({4, 64, 1, 2, 2}, {{6, 31}});
  test({2, 96, 1, 3, 3}, {{11, 7}});
  test({3, 32, 1, 8, 8}, {{5, 6}});
  test({1, 128, 1, 5, 5}, {{4, 9}});
  // More groups than a map keeps; several parts; partial tiles.
  test({3, 32, 3, 4, 4}, {{61, 19}, {9, 149}, {45, 201}});
  test({3, 32, 2, 4, 2}, {{61, 19}, {47, 133}});
  test({3, 32, 2, 4, 3}, {{62, 21}, {46, 130}});
  test_cancel();
  std::printf("passed\n");
  return 0;
}

// The networks by their definition: direct convolutions in double over planar images, with random
// weights. What the kernels of every device are compared with.
#pragma once

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace reference {

inline std::mt19937 generator(1);

inline std::vector<float> normal(std::size_t count, double deviation) {
  std::normal_distribution<float> distribution(0, static_cast<float>(deviation));
  std::vector<float> values(count);
  for (float& v : values) v = distribution(generator);
  return values;
}

// A 3x3 convolution, OIHW. With a gain of 1 noise comes out as large as it goes in.
struct Layer {
  int in, out;
  std::vector<float> weights, bias;
  Layer(int in_channels, int out_channels, double gain = 1)
      : in(in_channels),
        out(out_channels),
        weights(normal(static_cast<std::size_t>(in) * out * 9, gain / std::sqrt(9.0 * in))),
        bias(normal(static_cast<std::size_t>(out), 0.1)) {}
};

struct Planes {
  int channels, height, width;
  std::vector<double> values;
  Planes(int c, int h, int w)
      : channels(c), height(h), width(w), values(static_cast<std::size_t>(c) * h * w) {}
  double& at(int c, int y, int x) {
    return values[(static_cast<std::size_t>(c) * height + y) * width + x];
  }
  double get(int c, int y, int x) const {
    return values[(static_cast<std::size_t>(c) * height + y) * width + x];
  }
};

// Not what the sanitizers look for faults in, and most of the time under them.
__attribute__((no_sanitize("address", "undefined"))) inline Planes convolve(const Planes& in,
                                                                            const Layer& layer,
                                                                            double slope) {
  const int height = in.height, width = in.width;
  const std::size_t plane = static_cast<std::size_t>(height) * width;
  Planes out(layer.out, height, width);
  const float* weights = layer.weights.data();
  for (int o = 0; o < layer.out; ++o) {
    double* to = out.values.data() + o * plane;
    for (std::size_t p = 0; p < plane; ++p) to[p] = layer.bias.data()[o];
    for (int i = 0; i < layer.in; ++i)
      for (int ky = 0; ky < 3; ++ky)
        for (int kx = 0; kx < 3; ++kx) {
          const double weight = *weights++;
          const int first = kx == 0 ? 1 : 0, end = kx == 2 ? width - 1 : width;
          for (int y = 0; y < height; ++y) {
            const int sy = y + ky - 1;
            if (sy < 0 || sy >= height) continue;
            const double* from =
                in.values.data() + i * plane + static_cast<std::size_t>(sy) * width;
            double* row = to + static_cast<std::size_t>(y) * width;
            for (int x = first; x < end; ++x) row[x] += weight * from[x + kx - 1];
          }
        }
    for (std::size_t p = 0; p < plane; ++p)
      if (to[p] < 0) to[p] *= slope;
  }
  return out;
}

inline Planes concatenated(const Planes& a, const Planes& b) {
  Planes out(a.channels + b.channels, a.height, a.width);
  out.values = a.values;
  out.values.insert(out.values.end(), b.values.begin(), b.values.end());
  return out;
}

// y * scale + x
inline Planes scaled_sum(const Planes& y, double scale, const Planes& x) {
  Planes out = y;
  for (std::size_t i = 0; i < out.values.size(); ++i)
    out.values[i] = y.values[i] * scale + x.values[i];
  return out;
}

inline Planes nearest_x2(const Planes& in) {
  Planes out(in.channels, in.height * 2, in.width * 2);
  for (int c = 0; c < in.channels; ++c)
    for (int y = 0; y < out.height; ++y)
      for (int x = 0; x < out.width; ++x) out.at(c, y, x) = in.get(c, y / 2, x / 2);
  return out;
}

inline std::vector<Layer> dense_block_layers(int nf, int gc, double gain = 1) {
  std::vector<Layer> layers;
  for (int k = 0; k < 5; ++k) layers.emplace_back(nf + k * gc, k < 4 ? gc : nf, gain);
  return layers;
}

inline Planes dense_block(const Planes& x, const Layer* layers, double slope, double scale) {
  Planes features = x;
  for (int k = 0; k < 4; ++k)
    features = concatenated(features, convolve(features, layers[k], slope));
  return scaled_sum(convolve(features, layers[4], 1), scale, x);
}

// Shape: a device's NetworkShape, with convolution_count and convolution_channels beside it.
template <class Shape>
std::vector<Layer> network_layers(const Shape& s, double gain = 1) {
  std::vector<Layer> layers;
  for (int i = 0; i < convolution_count(s); ++i) {
    const auto c = convolution_channels(s, i);
    layers.emplace_back(c.in, c.out, gain);
  }
  return layers;
}

template <class Shape>
Planes network(const Shape& s, const std::vector<Layer>& layers, const Planes& image, double slope,
               double scale) {
  const Layer* layer = layers.data();
  const Planes features = convolve(image, *layer++, 1);
  Planes y = features;
  for (int r = 0; r < s.rrdbs; ++r) {
    const Planes before = y;
    for (int d = 0; d < 3; ++d, layer += 5) y = dense_block(y, layer, slope, scale);
    y = scaled_sum(y, scale, before);
  }
  y = scaled_sum(convolve(y, *layer++, 1), 1, features);
  for (int i = 0; i < s.upsamplings; ++i) y = convolve(nearest_x2(y), *layer++, slope);
  y = convolve(y, *layer++, slope);
  return convolve(y, *layer, 1);
}

}  // namespace reference

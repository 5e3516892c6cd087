// Where a network's packed weights lie, and the filling of that place.
#pragma once

#include <cstddef>
#include <vector>

#include "packing.h"

namespace esrgan::cpu {

struct PackedConvolution {
  const float* weights;
  const float* bias;
  const float* slopes = nullptr;  // of a PReLU, if one follows
};

enum class Form { kFirst, kWinograd, kUpsample, kLast };

// A convolution's place in the packed floats. Biases and slopes follow the weights; everything
// starts on a cache line.
struct Packed {
  Form form;
  int in_channels, out_channels;
  std::size_t weights, bias, slopes, end;
};

class PackedLayout {
 public:
  // `slopes`: a PReLU follows.
  void add(Form form, int in_channels, int out_channels, bool slopes = false) {
    Packed p{form, in_channels, out_channels, end(), 0, 0, 0};
    std::size_t size = direct_floats(in_channels, out_channels);
    if (form == Form::kWinograd) size = winograd_floats(in_channels, out_channels);
    if (form == Form::kUpsample) size = upsample_floats(in_channels, out_channels);
    p.bias = aligned(p.weights + size);
    p.slopes = aligned(p.bias + out_channels);
    p.end = slopes ? aligned(p.slopes + out_channels) : p.slopes;
    convolutions_.push_back(p);
  }
  int count() const { return static_cast<int>(convolutions_.size()); }
  const Packed& operator[](int i) const { return convolutions_[static_cast<std::size_t>(i)]; }
  // The microkernels prefetch a little beyond the last weights.
  std::size_t end() const { return convolutions_.empty() ? 0 : convolutions_.back().end; }

  PackedConvolution at(int i, const float* packed) const {
    const Packed& p = (*this)[i];
    return {packed + p.weights, packed + p.bias, p.slopes < p.end ? packed + p.slopes : nullptr};
  }
  std::vector<PackedConvolution> range(int first, int last, const float* packed) const {
    std::vector<PackedConvolution> result;
    for (int i = first; i < last; ++i) result.push_back(at(i, packed));
    return result;
  }

 private:
  static std::size_t aligned(std::size_t floats) {
    return (floats + kLineFloats - 1) / kLineFloats * kLineFloats;
  }
  std::vector<Packed> convolutions_;
};

void pack(const PackedLayout& layout, const Kernels& kernels, const Convolution* convolutions,
          int threads, float* packed);

}  // namespace esrgan::cpu

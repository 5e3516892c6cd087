// The CPU implementation's public face: a whole RRDBNet, or one dense block, over one image.
// Plain C++17, no torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "packing.h"
#include "schedule.h"

namespace esrgan::cpu {

// RRDBNet after pixel-unshuffling: conv_first, `rrdbs` RRDBs, conv_body and skip, `upsamplings`
// times nearest x2 + convolution + LeakyReLU, conv_hr, LeakyReLU, conv_last.
struct NetworkShape {
  int in_channels;
  int out_channels;
  int nf, gc;
  int rrdbs;
  int upsamplings;
};

constexpr float kNegativeSlope = 0.2f;
constexpr float kResidualScale = 0.2f;

struct DenseBlockShape {
  int nf, gc;
  float negative_slope, residual_scale;
};

// Why the kernels cannot run this shape, or null.
const char* unsupported(const NetworkShape& shape);
const char* unsupported(const DenseBlockShape& shape);

// Convolutions of the network in its own order.
int convolution_count(const NetworkShape& shape);

struct Channels {
  int in, out;
};
Channels convolution_channels(const NetworkShape& shape, int convolution);

std::size_t packed_floats(const NetworkShape& shape);
std::size_t packed_floats(const DenseBlockShape& shape);

// The packed form is valid for the instruction set of this process only.
void pack(const NetworkShape& shape, const Convolution* convolutions, int threads, float* packed);
void pack(const DenseBlockShape& shape, const Convolution* convolutions, int threads,
          float* packed);

// Strides in floats.
struct ImageView {
  float* data;
  int height, width;
  std::ptrdiff_t channel_stride, row_stride, column_stride;
};

// Runs over one image; `out` is 2^upsamplings times as large. False when cancelled, what was
// finished is then written. Control::rows counts finished output rows, from the top.
bool run(const NetworkShape& shape, const float* packed, const ImageView& in, const ImageView& out,
         int threads, const Control& control);

// x and out: channels-last without padding, height x width x nf; they may not overlap.
void run(const DenseBlockShape& shape, const float* packed, const float* x, float* out, int height,
         int width, int threads);

}  // namespace esrgan::cpu

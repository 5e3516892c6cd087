// What the host passes to kernels, and the launchers, one set for each Compute. Launchers return a
// cudaError_t as an int.
#pragma once

#include <cstddef>
#include <cstdint>

#include "network.h"
#include "tiling.h"

namespace esrgan::cuda {

// Activations in units (tiling.h), or some of their channels: `data` points to the first unit.
struct Activations {
  char* data;
  std::int64_t image_bytes;  // from one image to the next
};

// y = acc + bias, LeakyReLU(slope), y * scale + residual, y * outer_scale + outer_residual; the
// residuals have the output's size and are left out where null.
struct Epilogue {
  const float* bias;
  float slope;  // 1: no LeakyReLU
  float scale;
  Activations residual;
  float outer_scale;
  Activations outer_residual;
};

struct ConvolutionTask {
  Activations in;
  int batch, height, width;  // of the input
  int in_units;              // units with channels of this convolution; further ones count as zero
  int chunks;
  const char* weights;
  Activations out;
  int out_channels;
  Epilogue epilogue;
  Items items;  // launchers fill these in
};

struct HeadTask {
  ConvolutionTask hr;  // `out` and the residuals are not used
  int nf;
  const char* last_weights;
  const float* last_bias;
  OutputImages out;
  int out_channels;
  std::uint32_t* nonfinite;
};

struct FirstTask {
  InputImages in;
  int batch, height, width, channels, nf;
  const float* weights;  // [input channel][3][3][nf]
  const float* bias;
  Activations out, copy;  // both get the result; `copy` is left out where null
  Items items;
};

enum class WeightForm { kConvolution, kUpsample, kFirst, kLast };

// 32-bit words of a convolution's packed weights.
ESRGAN_HOST_DEVICE constexpr std::int64_t packed_words(WeightForm form, const WeightLayout& w) {
  if (form == WeightForm::kFirst) return std::int64_t{w.in_channels} * 9 * w.out_channels;
  if (form == WeightForm::kLast) return last_words(w.element_bytes, w.in_channels);
  return w.words();
}

struct PackTask {
  WeightForm form;
  WeightLayout layout;
  const float* weights;  // OIHW
  const float* bias;
  char* packed_weights;
  float* packed_bias;
  int bias_floats;  // out_channels and zeros
};

// N, H, W, channels <-> units.
struct ReorderTask {
  char* pixels;
  Activations units;
  int batch, height, width, channels;
};

template <Compute C>
struct Launch {
  static int convolution(const ConvolutionTask& task, Stream stream);
  static int upsample(const ConvolutionTask& task, Stream stream);
  static int head(HeadTask task, Stream stream);
  static int first(FirstTask task, Stream stream);
  static int pack(const PackTask& task, Stream stream);
  static int to_units(const ReorderTask& task, Stream stream);
  static int from_units(const ReorderTask& task, Stream stream);
  // Whether the current device has code for these kernels.
  static bool available();
};

// ---- Path::kWgmma: the trunk's convolutions of nf 64 and gc 32, in 16 bits ----

// What the 64 rows of a wgmma are (wgmma_tiling.h).
enum class Rows : int {
  kWhole,      // one convolution's 64 outputs
  kPair,       // 32 outputs, and after them in `out` 32 sums of the next convolution
  kRemainder,  // 32 outputs that start from sums kept in their place; the other rows are empty
};

struct WgmmaConvolution {
  Activations buffer;  // a whole block's
  int buffer_units, first_unit, chunks;
  int batch, height, width;
  Rows rows;
  const char* weights;
  Activations out;
  Epilogue epilogue;
};

// Rows 0 to top_rows - 1 are outputs of `top`, the others of `bottom`, or zero where that is null;
// of inputs `first_input` to `first_input` + `inputs` - 1.
struct WgmmaPackTask {
  const float* top;  // OIHW
  int top_rows, top_inputs;
  const float* bottom;
  int bottom_inputs;
  int first_input, inputs;
  char* packed;
};

template <Compute C>
struct LaunchWgmma {
  static int convolution(const WgmmaConvolution& task, Stream stream);
  static int pack(const WgmmaPackTask& task, Stream stream);
  static bool available();
};

}  // namespace esrgan::cuda

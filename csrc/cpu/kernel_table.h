// Collects the kernels of one instruction set. Included once by each of isa_avx512.cpp,
// isa_avx2.cpp and isa_baseline.cpp, after these have chosen the target and the vector's width.
#pragma once

#include "direct.h"
#include "multiply.h"
#include "peak.h"
#include "tile_transforms.h"

namespace esrgan {
namespace {

template <int Channels>
void transform_input(const InputTransform& in) {
  if (in.step == kTileOutput) input_tiles<kTileOutput, Channels>(in);
  else input_tiles<kUpsampleTileOutput, Channels>(in);
}

void transform_output(const OutputTransform& out) {
  if (out.tile_output == kTileOutput) output_tiles<kTileOutput>(out);
  else output_tiles<kUpsampleTileOutput>(out);
}

// Segments of 16 channels come with 16 growth channels: one AVX-512 vector, so panels one
// vector wide there lest half of every product be padding.
template <int Channels>
constexpr Kernels table(const char* name) {
  constexpr int kVectors = Channels < 2 * kLanes ? 1 : 2;
  return {name,
          kLanes,
          Channels,
          kVectors * kLanes,
          transform_input<Channels>,
          multiply<kVectors, Channels>,
          transform_output,
          first_convolution,
          last_convolution,
          kPeakSums,
          multiply_adds};
}

}  // namespace
}  // namespace esrgan

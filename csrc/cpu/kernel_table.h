// Collects the kernels of one instruction set. Included once by each of isa_avx512.cpp,
// isa_avx2.cpp and isa_baseline.cpp, after these have chosen the target and the vector's width.
#pragma once

#include "direct.h"
#include "multiply.h"
#include "peak.h"
#include "tile_transforms.h"

namespace esrgan::cpu {
namespace {

template <int Channels>
void transform_input(const InputTransform& in) {
  if (in.step == kTileOutput) input_tiles<kTileOutput, Channels>(in);
  else input_tiles<kUpsampleTileOutput, Channels>(in);
}

template <int Outputs>
void transform_output(const OutputTransform& out) {
  if (out.slopes) output_tiles<Outputs, Finish::kPRelu>(out);
  else if (out.activate) output_tiles<Outputs, Finish::kLeakyRelu>(out);
  else output_tiles<Outputs, Finish::kResiduals>(out);
}
void transform_output(const OutputTransform& out) {
  if (out.tile_output == kTileOutput) transform_output<kTileOutput>(out);
  else transform_output<kUpsampleTileOutput>(out);
}

// Panels are as wide as the narrowest output, the growth channels, allows: half of every product
// would be padding else. multiply.h says which shapes suit how many registers.
template <int Channels, int Outputs = Channels>
constexpr Kernels table(const char* name) {
  constexpr int kWidest = Outputs > Channels || (kLanes < 16 && kSums <= 12) ? 4 : 2;
  constexpr int kVectors = Outputs / kLanes < kWidest ? Outputs / kLanes : kWidest;
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
}  // namespace esrgan::cpu

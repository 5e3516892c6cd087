// Weights in the form that the kernels read: transformed for Winograd in double, rounded once,
// and laid out in the order of use.
#pragma once

#include <cstddef>

#include "kernels.h"

namespace esrgan::cpu {

// A convolution's parameters as torch keeps them: OIHW weights, 3x3.
struct Convolution {
  const float* weights;
  const float* bias;
  int in_channels;
  int out_channels;
  const float* slopes = nullptr;  // of the PReLU that follows, one a channel, if one does
};

std::size_t winograd_floats(int in_channels, int out_channels);
std::size_t upsample_floats(int in_channels, int out_channels);
std::size_t direct_floats(int in_channels, int out_channels);

// U = G g G^T of input channels [first, last): [point][output panel][input channel][output].
void pack_winograd(const Convolution& conv, const Kernels& kernels, int first, int last,
                   float* packed);

// Nearest x2 upsampling and a 3x3 convolution = four 2x2 convolutions of the small image, one for
// each output phase (y mod 2, x mod 2): rows 2y - 1, 2y, 2y + 1 of the large image are rows
// y - 1, y, y of the small one, so phase 0 has the taps (w0, w1 + w2); rows 2y, 2y + 1, 2y + 2
// are y, y, y + 1, so phase 1 has (w0 + w1, w2). The same across. Phase after phase in the
// layout of `pack_winograd`.
void pack_upsample(const Convolution& conv, const Kernels& kernels, int first, int last,
                   float* packed);

// [input channel][3][3][output] and [3][3][input vector][output][lane].
void pack_first(const Convolution& conv, float* packed);
void pack_last(const Convolution& conv, const Kernels& kernels, float* packed);

}  // namespace esrgan::cpu

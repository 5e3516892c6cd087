// The interpolation points of the Winograd transforms, shared by the kernels (pixels, in float)
// and by the packing of weights (in double). winograd.h has the formulas.
#pragma once

namespace esrgan::cpu {

constexpr float kPointP = 21.0f / 32, kPointQ = 49.0f / 32;

}  // namespace esrgan::cpu

// SRVGGNetCompact over one image: a chain of convolutions at the input's resolution, pixel shuffle,
// plus the input enlarged by nearest neighbour.
//
// Each feature map is read by the next layer only, so a task transforms its own pixels to Winograd
// tiles, multiplies, and writes pixels; the tiles never leave the core's cache. No map ever exists
// as a whole: the layers follow each other down the image, each two groups of tile rows behind the
// one before, and a map keeps the few groups that are still read. A 4000 x 3000 image takes 0.3 GB.
#pragma once

#include "network.h"

namespace esrgan::cpu {

struct CompactShape {
  int in_channels;   // and of the result
  int nf;            // feature channels
  int convolutions;  // from nf to nf
  int upsampling;    // factor of the pixel shuffle
  int scale;         // of the result: `upsampling`, or 2 or 3 out of 4 by bicubic reduction
};

// Why the kernels cannot run this shape, or null.
const char* unsupported(const CompactShape& shape);

int convolution_count(const CompactShape& shape);
Channels convolution_channels(const CompactShape& shape, int convolution);
std::size_t packed_floats(const CompactShape& shape);

// All convolutions but the last have slopes (equal ones for ReLU and LeakyReLU).
void pack(const CompactShape& shape, const Convolution* convolutions, int threads, float* packed);

// `out` is `scale` times as large as `in`, its columns next to each other. False when cancelled,
// what was finished is then written. Control::rows counts finished output rows, from the top.
bool run(const CompactShape& shape, const float* packed, const ImageView& in, const ImageView& out,
         int threads, const Control& control);

}  // namespace esrgan::cpu

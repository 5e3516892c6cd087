// A network's input as its first, direct convolution reads it.
#pragma once

#include <algorithm>
#include <vector>

#include "memory.h"
#include "network.h"

namespace esrgan::cpu {

// The image as planes with a zero on each side of every row, and a row of zeros.
class Planes {
 public:
  Planes(const ImageView& in, int channels)
      : height_(in.height),
        stride_(in.width + 2),
        channels_(channels),
        data_(static_cast<std::size_t>(stride_) *
              (static_cast<std::size_t>(channels) * height_ + 1)) {
    float* p = data_.get();
    for (int c = 0; c < channels; ++c)
      for (int y = 0; y < height_; ++y, p += stride_) {
        const float* from = in.data + c * in.channel_stride + y * in.row_stride;
        p[0] = p[stride_ - 1] = 0;
        for (int x = 0; x < in.width; ++x) p[1 + x] = from[x * in.column_stride];
      }
    zeros_ = p;
    std::fill(p, p + stride_, 0.0f);
  }
  // Rows y - 1, y, y + 1 of each channel, starting `column` columns in.
  void rows(int y, int column, std::vector<const float*>& rows) const {
    rows.clear();
    for (int c = 0; c < channels_; ++c)
      for (int i = y - 1; i <= y + 1; ++i)
        rows.push_back(
            (i < 0 || i >= height_
                 ? zeros_
                 : data_.get() + (static_cast<std::ptrdiff_t>(c) * height_ + i) * stride_) +
            column);
  }
  // Of one channel, from its first column on.
  const float* row(int channel, int y) const {
    return data_.get() + (static_cast<std::ptrdiff_t>(channel) * height_ + y) * stride_ + 1;
  }

 private:
  int height_;
  std::ptrdiff_t stride_;
  int channels_;
  Buffer data_;
  float* zeros_;
};

}  // namespace esrgan::cpu

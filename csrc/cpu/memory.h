// Buffers and the feature maps in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "cache_line.h"

namespace esrgan::cpu {

// Uninitialised floats. Large ones ask for huge pages: the transforms write 36 streams at once,
// more 4 KB pages than the first-level TLB holds. And the process keeps up to 128 MB of them for
// the next call, because the system clears every page it hands out (measured: 9 % of the time of
// a 128 x 128 image).
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t floats);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer();
  float* get() const { return data_; }

 private:
  float* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Planes start an odd number of cache lines apart, so that the same element of all 36 falls
// into different sets of the L1 cache.
inline std::ptrdiff_t plane_stride(std::ptrdiff_t floats) {
  return (((floats + kLineFloats - 1) / kLineFloats) | 1) * kLineFloats;
}

// Channels-last rows with zeros to the left (1 pixel, for the filter) and right (for the filter
// and the last, partial tile). Rows outside of the image read as zeros. A map may keep fewer rows
// than the image has: row y then lies where row y - rows_kept lay.
//
// Whoever writes a row for the first time clears its margins: the system clears pages as they are
// touched first, and that is best shared between the threads.
class FeatureMap {
 public:
  static constexpr int kLeft = 1, kRight = 6;  // the last tile reaches at most 5 columns further

  FeatureMap() = default;
  FeatureMap(int height, int width, int channels, int rows_kept)
      : height_(height),
        width_(width),
        channels_(channels),
        rows_kept_(rows_kept),
        stride_(static_cast<std::ptrdiff_t>(kLeft + width + kRight) * channels),
        data_((static_cast<std::size_t>(rows_kept) + 1) * stride_) {
    std::memset(data_.get() + rows_kept * stride_, 0, sizeof(float) * stride_);
  }

  void clear_margins(int first_row, int last_row) {
    for (int y = first_row; y <= last_row; ++y) {
      float* pixels = row(y);
      std::memset(pixels - kLeft * channels_, 0, sizeof(float) * kLeft * channels_);
      std::memset(pixels + static_cast<std::ptrdiff_t>(width_) * channels_, 0,
                  sizeof(float) * kRight * channels_);
    }
  }

  int height() const { return height_; }
  int width() const { return width_; }
  int channels() const { return channels_; }
  int rows_kept() const { return rows_kept_; }
  float* row(std::int64_t y) const {
    return data_.get() + static_cast<std::ptrdiff_t>(y % rows_kept_) * stride_ + kLeft * channels_;
  }
  const float* zeros() const { return data_.get() + rows_kept_ * stride_ + kLeft * channels_; }
  const float* row_or_zeros(int y) const { return y < 0 || y >= height_ ? zeros() : row(y); }

 private:
  int height_ = 0, width_ = 0, channels_ = 0, rows_kept_ = 1;
  std::ptrdiff_t stride_ = 0;
  Buffer data_;
};

}  // namespace esrgan::cpu

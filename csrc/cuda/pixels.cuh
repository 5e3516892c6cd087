// The user's pixels: any of five types, any strides, to and from the network's float32.
#pragma once

#include "network.h"
#include "ptx.cuh"

namespace esrgan::cuda {

ESRGAN_DEVICE float load_pixel(const InputImages& in, int image, int channel, int y, int x) {
  const std::int64_t at = image * in.batch_stride + channel * in.channel_stride +
                          y * in.row_stride + x * in.column_stride;
  const char* const data = static_cast<const char*>(in.data);
  float v = 0;
  switch (in.pixel) {
    case Pixel::kUint8:
      v = load_global<std::uint8_t>(data + at);
      break;
    case Pixel::kUint16:
      v = load_global<std::uint16_t>(data + 2 * at);
      break;
    case Pixel::kFloat16:
      v = float_of_f16(load_global<std::uint16_t>(data + 2 * at));
      break;
    case Pixel::kBFloat16:
      v = float_of(std::uint32_t{load_global<std::uint16_t>(data + 2 * at)} << 16);
      break;
    case Pixel::kFloat32:
      v = load_global<float>(data + 4 * at);
      break;
  }
  return v * in.scale + in.offset;
}

// NaN passes, as in torch.clamp.
ESRGAN_DEVICE float clip(float v, float low, float high) {
  return v < low ? low : (v > high ? high : v);
}

ESRGAN_DEVICE void store_pixel(const OutputImages& out, int image, int channel, int y, int x,
                               float value) {
  const std::int64_t at = image * out.batch_stride + channel * out.channel_stride +
                          y * out.row_stride + x * out.column_stride;
  char* const data = static_cast<char*>(out.data);
  const float v = clip(value * out.scale + out.offset, out.low, out.high);
  switch (out.pixel) {
    case Pixel::kUint8:
      store_global(data + at, static_cast<std::uint8_t>(round_to_int(clip(v, 0, 255))));
      break;
    case Pixel::kUint16:
      store_global(data + 2 * at, static_cast<std::uint16_t>(round_to_int(clip(v, 0, 65535))));
      break;
    case Pixel::kFloat16:
      store_global(data + 2 * at, static_cast<std::uint16_t>(pack_f16(v, 0)));
      break;
    case Pixel::kBFloat16:
      store_global(data + 2 * at, static_cast<std::uint16_t>(pack_bf16(v, 0)));
      break;
    case Pixel::kFloat32:
      store_global(data + 4 * at, v);
      break;
  }
}

}  // namespace esrgan::cuda

// The four ways to multiply, in one form: what a register holds, what one k-step of a 16x8 tile is.
// A k-step is 32 bytes of channels: 16 of 16 bits (mma.m16n8k16) or 8 of 32 bits (mma.m16n8k8),
// whose fragments sit at the same bytes, so the main loop is the same for all.
#pragma once

#include "network.h"
#include "ptx.cuh"

namespace esrgan::cuda {

// kTilesAtOnce: output tiles whose weights are in registers at a time. kResidentBlocks: 2 leaves
// 128 of an SM's 65536 registers to each thread of two blocks of 8 warps.
template <Compute C>
struct Math;

struct RawPixels {
  std::uint32_t a[4];
};
struct RawWeights {
  std::uint32_t b[2];
};

template <>
struct Math<Compute::kFloat16> {
  static constexpr Compute kCompute = Compute::kFloat16;
  static constexpr int kElementBytes = 2, kTilesAtOnce = 4, kResidentBlocks = 2;
  using Pair = std::uint32_t;  // two neighbouring channels in memory
  using Pixels = RawPixels;
  using Weights = RawWeights;

  static ESRGAN_DEVICE Pair pair(float low, float high) { return pack_f16(low, high); }
  static ESRGAN_DEVICE void unpair(Pair v, float& low, float& high) {
    low = float_of_f16(static_cast<std::uint16_t>(v));
    high = float_of_f16(static_cast<std::uint16_t>(v >> 16));
  }
  static ESRGAN_DEVICE std::uint32_t weight_word(float low, float high) {
    return pack_f16(low, high);
  }
  static ESRGAN_DEVICE Pixels pixels(const std::uint32_t (&r)[4]) {
    return {{r[0], r[1], r[2], r[3]}};
  }
  static ESRGAN_DEVICE Weights weights(std::uint32_t b0, std::uint32_t b1) { return {{b0, b1}}; }
  static ESRGAN_DEVICE void multiply(float (&d)[4], const Pixels& p, const Weights& w) {
    mma_f16(d, p.a, w.b[0], w.b[1]);
  }
};

template <>
struct Math<Compute::kBFloat16> {
  static constexpr Compute kCompute = Compute::kBFloat16;
  static constexpr int kElementBytes = 2, kTilesAtOnce = 4, kResidentBlocks = 2;
  using Pair = std::uint32_t;
  using Pixels = RawPixels;
  using Weights = RawWeights;

  static ESRGAN_DEVICE Pair pair(float low, float high) { return pack_bf16(low, high); }
  static ESRGAN_DEVICE void unpair(Pair v, float& low, float& high) {
    low = float_of(v << 16);
    high = float_of(v & 0xffff0000u);
  }
  static ESRGAN_DEVICE std::uint32_t weight_word(float low, float high) {
    return pack_bf16(low, high);
  }
  static ESRGAN_DEVICE Pixels pixels(const std::uint32_t (&r)[4]) {
    return {{r[0], r[1], r[2], r[3]}};
  }
  static ESRGAN_DEVICE Weights weights(std::uint32_t b0, std::uint32_t b1) { return {{b0, b1}}; }
  static ESRGAN_DEVICE void multiply(float (&d)[4], const Pixels& p, const Weights& w) {
    mma_bf16(d, p.a, w.b[0], w.b[1]);
  }
};

struct Float32Storage {
  static constexpr int kElementBytes = 4;
  using Pair = uint2;
  static ESRGAN_DEVICE Pair pair(float low, float high) {
    return make_uint2(bits_of(low), bits_of(high));
  }
  static ESRGAN_DEVICE void unpair(Pair v, float& low, float& high) {
    low = float_of(v.x);
    high = float_of(v.y);
  }
};

// Weights are rounded when packed, pixels when loaded: mma.sync would cut their low bits off, and
// rounding what is stored would cost the residual stream its float32.
template <>
struct Math<Compute::kTensorFloat32> : Float32Storage {
  static constexpr int kTilesAtOnce = 4, kResidentBlocks = 2;
  using Pixels = RawPixels;
  using Weights = RawWeights;
  static ESRGAN_DEVICE std::uint32_t weight_word(float low, float) { return round_tf32(low); }
  static ESRGAN_DEVICE Pixels pixels(const std::uint32_t (&r)[4]) {
    return {{round_tf32(float_of(r[0])), round_tf32(float_of(r[1])), round_tf32(float_of(r[2])),
             round_tf32(float_of(r[3]))}};
  }
  static ESRGAN_DEVICE Weights weights(std::uint32_t b0, std::uint32_t b1) { return {{b0, b1}}; }
  static ESRGAN_DEVICE void multiply(float (&d)[4], const Pixels& p, const Weights& w) {
    mma_tf32(d, p.a, w.b[0], w.b[1]);
  }
};

// float32 products from TF32 ones: v = big + small with 11 bits each, and a b is about
// big big + big small + small big. Tensor cores round the accumulator towards zero at every step,
// a bias that grows with K; so each k-step starts from zero and is added to the accumulator in
// float32, rounded to nearest (Ootomo and Yokota, arXiv 2203.03341).
template <>
struct Math<Compute::kFloat32> : Float32Storage {
  static constexpr int kTilesAtOnce = 2, kResidentBlocks = 2;
  struct Pixels {
    std::uint32_t big[4], small[4];
  };
  struct Weights {
    std::uint32_t big[2], small[2];
  };
  static ESRGAN_DEVICE std::uint32_t weight_word(float low, float) { return bits_of(low); }
  static ESRGAN_DEVICE void split(std::uint32_t v, std::uint32_t& big, std::uint32_t& small) {
    big = round_tf32(float_of(v));
    small = round_tf32(float_of(v) - float_of(big));
  }
  static ESRGAN_DEVICE Pixels pixels(const std::uint32_t (&r)[4]) {
    Pixels p;
#pragma unroll
    for (int i = 0; i < 4; ++i) split(r[i], p.big[i], p.small[i]);
    return p;
  }
  static ESRGAN_DEVICE Weights weights(std::uint32_t b0, std::uint32_t b1) {
    Weights w;
    split(b0, w.big[0], w.small[0]);
    split(b1, w.big[1], w.small[1]);
    return w;
  }
  static ESRGAN_DEVICE void multiply(float (&d)[4], const Pixels& p, const Weights& w) {
    float sum[4] = {0, 0, 0, 0};
    mma_tf32(sum, p.small, w.big[0], w.big[1]);
    mma_tf32(sum, p.big, w.small[0], w.small[1]);
    mma_tf32(sum, p.big, w.big[0], w.big[1]);
#pragma unroll
    for (int i = 0; i < 4; ++i) d[i] += sum[i];
  }
};

}  // namespace esrgan::cuda

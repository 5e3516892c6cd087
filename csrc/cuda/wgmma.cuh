// 3x3 convolutions to 64 outputs for compute capability 9.0: one warpgroup fills a ring of stages
// by TMA, two multiply with wgmma, each 8 rows of the tile. Why outputs are M, and which outputs
// are computed together, is in wgmma_tiling.h.
#pragma once

#include "epilogue.cuh"
#include "kernels.h"
#include "packing.cuh"
#include "precision.cuh"
#include "ptx90.cuh"
#include "runtime.h"
#include "tensor_map.h"
#include "wgmma_tiling.h"

namespace esrgan::cuda {

// A `WgmmaConvolution` as the kernel sees it.
struct WgmmaTask {
  TensorMap in;  // a whole buffer: [image x unit][row][column x 8 channels]
  int buffer_units, first_unit;
  int chunks;
  const char* weights;
  Rows rows;
  char* sums;
  int height, width;
  Activations out;
  Epilogue epilogue;
  Items items;
};

template <class M>
ESRGAN_DEVICE void wgmma(float (&d)[128], std::uint64_t a, std::uint64_t b, int accumulate);
template <>
ESRGAN_DEVICE void wgmma<Math<Compute::kFloat16>>(float (&d)[128], std::uint64_t a, std::uint64_t b,
                                                  int accumulate) {
  wgmma_f16(d, a, b, accumulate);
}
template <>
ESRGAN_DEVICE void wgmma<Math<Compute::kBFloat16>>(float (&d)[128], std::uint64_t a,
                                                   std::uint64_t b, int accumulate) {
  wgmma_bf16(d, a, b, accumulate);
}

// The ring of stages, seen by one who goes through it.
struct Ring {
  std::uint32_t shared;
  int stage = 0, parity = 0;

  ESRGAN_DEVICE std::uint32_t pixels() const { return shared + stage * WgmmaTile::kStageBytes; }
  ESRGAN_DEVICE std::uint32_t weights() const { return pixels() + WgmmaTile::kPixelBytes; }
  ESRGAN_DEVICE std::uint32_t full(int s) const {
    return shared + WgmmaTile::kBarriersOffset + s * 8;
  }
  ESRGAN_DEVICE std::uint32_t empty(int s) const { return full(WgmmaTile::kStages + s); }
  ESRGAN_DEVICE void advance() {
    if (++stage == WgmmaTile::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// One thread.
ESRGAN_DEVICE void fill_stages(const WgmmaTask& task, std::uint32_t shared) {
  Ring ring{shared};
  for (int index = block_index(); index < static_cast<int>(task.items.count());
       index += block_count()) {
    const Item item = task.items.at(index);
    for (int chunk = 0; chunk < task.chunks; ++chunk) {
      mbarrier_wait(ring.empty(ring.stage), ring.parity ^ 1);
      const std::uint32_t full = ring.full(ring.stage);
      mbarrier_arrive_expect(full, WgmmaTile::kStageBytes);
      tma_load(ring.pixels(), task.in, (item.column - 1) * 8, item.row - 1,
               item.image * task.buffer_units + task.first_unit + chunk * kUnitsPerChunk, full);
      bulk_load(ring.weights(),
                task.weights + static_cast<std::int64_t>(chunk) * WgmmaTile::kWeightBytes,
                WgmmaTile::kWeightBytes, full);
      ring.advance();
    }
  }
}

// One chunk: nine taps, two k-steps each.
template <class M>
ESRGAN_DEVICE void multiply_stage(float (&d)[128], std::uint32_t pixels, std::uint32_t weights,
                                  bool first) {
  using T = WgmmaTile;
  constexpr int kCoreMatrixBytes = 8 * kUnitBytes;
#pragma unroll
  for (int tap = 0; tap < T::kTaps; ++tap)
#pragma unroll
    for (int step = 0; step < kStepsPerChunk; ++step) {
      const int shift = tap / 3 * T::kPitch + tap % 3;
      const std::uint32_t a =
          weights + tap * T::kTapBytes + step * kUnitsPerStep * T::kWeightUnitStride;
      const std::uint32_t b = pixels + step * kUnitsPerStep * T::kUnitStride + shift * kUnitBytes;
      wgmma<M>(d, matrix_descriptor(a, T::kWeightUnitStride, kCoreMatrixBytes),
               matrix_descriptor(b, T::kUnitStride, kCoreMatrixBytes),
               !(first && tap == 0 && step == 0));
    }
}

// 8 channels of 8 pixels. A lane has channel `lane / 4` of pixels 2 (lane % 4) and one more in
// registers; in memory and where `valid`, 2 channels of pixel lane / 4: movmatrix turns one into
// the other, for the residuals as for the result.
template <class M>
ESRGAN_DEVICE void finish_core(const Epilogue& e, const char* residual, const char* outer,
                               std::int64_t offset, bool valid, float bias, float low, float high,
                               char* out) {
  low = leaky_relu(low + bias, e.slope);
  high = leaky_relu(high + bias, e.slope);
  float r0, r1;
  if (residual) {
    const std::uint32_t v = valid ? load_global<std::uint32_t>(residual + offset) : 0;
    M::unpair(transpose8x8(v), r0, r1);
    low = low * e.scale + r0;
    high = high * e.scale + r1;
  }
  if (outer) {
    const std::uint32_t v = valid ? load_global<std::uint32_t>(outer + offset) : 0;
    M::unpair(transpose8x8(v), r0, r1);
    low = low * e.outer_scale + r0;
    high = high * e.outer_scale + r1;
  }
  const std::uint32_t v = transpose8x8(M::pair(low, high));
  if (valid) store_global<std::uint32_t>(out + offset, v);
}

// This warp's 16 outputs of 256 pixels: two units.
template <class M>
ESRGAN_DEVICE void store_outputs(const WgmmaTask& task, const Item& item, int group, int warp,
                                 int lane, const char* sums, const float (&d)[128]) {
  using T = WgmmaTile;
  const std::int64_t image_pixels = std::int64_t{task.height} * task.width;
  const Epilogue& e = task.epilogue;
  char* const out = task.out.data + item.image * task.out.image_bytes;
  const char* const residual =
      e.residual.data ? e.residual.data + item.image * e.residual.image_bytes : nullptr;
  const char* const outer = e.outer_residual.data
                                ? e.outer_residual.data + item.image * e.outer_residual.image_bytes
                                : nullptr;
  const float bias0 = load_global<float>(e.bias + warp * 16 + lane / 4);
  const float bias1 = load_global<float>(e.bias + warp * 16 + 8 + lane / 4);
#pragma unroll
  for (int j = 0; j < kSumColumns; ++j) {
    const int y = item.row + group * T::kRowsPerGroup + j / (T::kPitch / 8);
    const int column = j % (T::kPitch / 8) * 8 + lane / 4, x = item.column + column;
    const bool valid = y < task.height && x < task.width && column < T::kColumns;
    const std::int64_t offset =
        (std::int64_t{warp * 2} * image_pixels + std::int64_t{y} * task.width + x) * kUnitBytes +
        lane % 4 * 4;
    float4 sum = make_float4(0, 0, 0, 0);
    if (sums) sum = load_global<float4>(sums + (j * 32 + lane) * 16);
    finish_core<M>(e, residual, outer, offset, valid, bias0, d[4 * j] + sum.x, d[4 * j + 1] + sum.y,
                   out);
    finish_core<M>(e, residual, outer, offset + image_pixels * kUnitBytes, valid, bias1,
                   d[4 * j + 2] + sum.z, d[4 * j + 3] + sum.w, out);
  }
}

template <class M>
ESRGAN_DEVICE void finish_item(const WgmmaTask& task, const Item& item, int index, int group,
                               const float (&d)[128]) {
  const int warp = thread_index() / 32 % 4, lane = thread_index() % 32;
  char* const sums = task.sums + (std::int64_t{index} * WgmmaTile::kGroups + group) * kSumWarps *
                                     kSumColumns * 32 * 16;
  constexpr int kWarpSumBytes = kSumColumns * 32 * 16;
  if (task.rows == Rows::kWhole) {
    store_outputs<M>(task, item, group, warp, lane, nullptr, d);
  } else if (warp < kSumWarps) {
    const bool remainder = task.rows == Rows::kRemainder;
    store_outputs<M>(task, item, group, warp, lane,
                     remainder ? sums + warp * kWarpSumBytes : nullptr, d);
  } else if (task.rows == Rows::kPair) {
    char* const to = sums + (warp - kSumWarps) * kWarpSumBytes;
#pragma unroll
    for (int j = 0; j < kSumColumns; ++j)
      store_global(to + (j * 32 + lane) * 16,
                   make_float4(d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]));
  }
}

// A warpgroup.
template <class M>
ESRGAN_DEVICE void multiply_items(const WgmmaTask& task, std::uint32_t shared, int group) {
  Ring ring{shared};
  const bool leader = thread_index() % 32 == 0;
  for (int index = block_index(); index < static_cast<int>(task.items.count());
       index += block_count()) {
    float d[128];
    int before = 0;
    for (int chunk = 0; chunk < task.chunks; ++chunk) {
      mbarrier_wait(ring.full(ring.stage), ring.parity);
      wgmma_fence();
      multiply_stage<M>(
          d, ring.pixels() + group * WgmmaTile::kRowsPerGroup * WgmmaTile::kPitch * kUnitBytes,
          ring.weights(), chunk == 0);
      wgmma_commit();
      // The stage before this one has been read when at most this one's products are under way.
      if (chunk > 0) {
        wgmma_wait<1>();
        if (leader) mbarrier_arrive(ring.empty(before));
      }
      before = ring.stage;
      ring.advance();
    }
    wgmma_wait<0>();
    wgmma_pin(d);
    if (leader) mbarrier_arrive(ring.empty(before));
    finish_item<M>(task, task.items.at(index), index, group, d);
  }
}

template <class M>
ESRGAN_KERNEL(kElementwiseThreads, 1)
wgmma_pack_kernel(const WgmmaPackTask task) {
  const std::int64_t words = wgmma_words(task.inputs);
  const auto weight = [&](const WeightPlace& p, int input) {
    const bool top = p.output < task.top_rows;
    const float* const from = top ? task.top : task.bottom;
    if (!from) return 0.0f;
    const int inputs = top ? task.top_inputs : task.bottom_inputs;
    const std::int64_t output = top ? p.output : p.output - task.top_rows;
    return load_global<float>(
        from + ((output * inputs + task.first_input + input) * 3 + p.tap_row) * 3 + p.tap_column);
  };
  for (std::int64_t i = std::int64_t{block_index()} * kElementwiseThreads + thread_index();
       i < words; i += std::int64_t{block_count()} * kElementwiseThreads) {
    const WeightPlace p = wgmma_weight_place(i);
    store_global(task.packed + i * 4, M::weight_word(weight(p, p.input), weight(p, p.input + 1)));
  }
}

template <class M>
ESRGAN_WGMMA_KERNEL(WgmmaTile::kThreads)
wgmma_kernel(const ESRGAN_GRID_CONSTANT WgmmaTask task) {
  if constexpr (kHasWgmma) {
    const std::uint32_t shared = dynamic_shared();
    const int group = thread_index() / 128;
    if (thread_index() == 0) {
      const Ring ring{shared};
      for (int stage = 0; stage < WgmmaTile::kStages; ++stage) {
        mbarrier_init(ring.full(stage), 1);
        mbarrier_init(ring.empty(stage), WgmmaTile::kGroups * 4);  // warps that multiply
      }
      mbarrier_init_fence();
    }
    synchronize_block();
    // 65536 registers for 384 threads are 168 each. 128 accumulators and an epilogue need more,
    // filling stages next to none.
    if (group == WgmmaTile::kGroups) {
      keep_registers<40>();
      if (thread_index() % 128 == 0) fill_stages(task, shared);
    } else {
      take_registers<232>();
      multiply_items<M>(task, shared, group);
    }
  }
}

template <Compute C>
int LaunchWgmma<C>::convolution(const WgmmaConvolution& c, Stream stream) {
  WgmmaTask task{};
  task.buffer_units = c.buffer_units;
  task.first_unit = c.first_unit;
  task.chunks = c.chunks;
  task.weights = c.weights;
  task.rows = c.rows;
  task.sums = c.sums;
  task.height = c.height;
  task.width = c.width;
  task.out = c.out;
  task.epilogue = c.epilogue;
  task.items = wgmma_items(c.batch, c.height, c.width);
  if (task.items.count() == 0) return kSuccess;
  Device device;
  int blocks_per_sm = 0;
  void (*const kernel)(WgmmaTask) = &wgmma_kernel<Math<C>>;
  int e = encode_tensor_map(task.in, c.buffer.data, c.width * 8, c.height,
                            std::int64_t{c.batch} * c.buffer_units, WgmmaTile::kPitch * 8,
                            WgmmaTile::kHaloRows, kUnitsPerChunk);
  if (e == kSuccess)
    e = prepare(kernel, WgmmaTile::kThreads, WgmmaTile::kSharedBytes, blocks_per_sm);
  if (e == kSuccess) e = describe_current(device);
  if (e != kSuccess) return e;
  return launch(kernel, persistent_blocks(task.items.count(), device.processors),
                WgmmaTile::kThreads, WgmmaTile::kSharedBytes, stream, task);
}

template <Compute C>
int LaunchWgmma<C>::pack(const WgmmaPackTask& task, Stream stream) {
  return launch_elementwise(&wgmma_pack_kernel<Math<C>>, wgmma_words(task.inputs), stream, task);
}

template <Compute C>
bool LaunchWgmma<C>::available() {
  return max_threads(&wgmma_kernel<Math<C>>) >= WgmmaTile::kThreads && has_tensor_maps();
}

}  // namespace esrgan::cuda

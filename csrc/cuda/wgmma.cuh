// 3x3 convolutions to 64 outputs for compute capability 9.0: one warpgroup fills a ring of stages
// by TMA, two multiply with wgmma, each a tile of its own, and write it while the other multiplies.
// Why outputs are M, which outputs are computed together, and what lies where in shared memory, is
// in wgmma_tiling.h.
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

// Activations to read or write a piece at a time: [image x unit][row][column x 8 channels].
struct PieceMap {
  TensorMap map;
  int image_units;  // from one image to the next
};

// A `WgmmaConvolution` as the kernel sees it.
struct WgmmaTask {
  TensorMap in;  // a whole buffer: [image x unit][row][column x 8 channels]
  PieceMap out, residual, outer;
  int buffer_units, first_unit;
  const char* weights;
  Rows rows;
  bool has_residual, has_outer;
  const float* bias;
  float slope, scale, outer_scale;
  Items items;
  WgmmaStages stages;
};

template <class M, int Sums>
ESRGAN_DEVICE void wgmma(float (&d)[Sums], std::uint64_t a, std::uint64_t b, int accumulate) {
  if constexpr (M::kCompute == Compute::kFloat16) wgmma_f16(d, a, b, accumulate);
  else wgmma_bf16(d, a, b, accumulate);
}

// A ring of stages, seen by one who goes through it.
struct Ring {
  int stages;
  int stage = 0, parity = 0;
  ESRGAN_DEVICE void advance(int steps = 1) {
    stage += steps;
    while (stage >= stages) {
      stage -= stages;
      parity ^= 1;
    }
  }
};

// One thread: the weights that stay, and every tile's pixels.
template <class T>
ESRGAN_DEVICE void fill_pixels(const WgmmaTask& task, std::uint32_t shared) {
  const WgmmaStages& s = task.stages;
  const int items = static_cast<int>(task.items.count());
  const auto load_resident = [&](int chunk) {
    if (s.resident_taps == 0) return;
    const std::uint32_t full = shared + s.resident_full(chunk);
    mbarrier_arrive_expect(full, s.resident_chunk_bytes());
    bulk_load(shared + s.resident() + chunk * s.resident_chunk_bytes(),
              task.weights + std::int64_t{chunk} * T::kWeightBytes, s.resident_chunk_bytes(), full);
  };
  // Weights do not depend on earlier launches. A block with one tile asks for all of them while
  // those end; one with several lets the first chunks' pixels come between.
  int loaded = 0;
  const int early = items <= block_count() ? s.chunks : 2;
  for (; loaded < early && loaded < s.chunks; ++loaded) load_resident(loaded);
  wait_for_earlier_launches();
  let_next_launch_start();
  Ring ring{s.pixel_stages};
  for (int index = block_index(); index < items; index += block_count()) {
    const Item item = task.items.at(index);
    for (int chunk = 0; chunk < s.chunks; ++chunk, ring.advance()) {
      mbarrier_wait(shared + s.pixels_empty(ring.stage), ring.parity ^ 1);
      const std::uint32_t full = shared + s.pixels_full(ring.stage);
      mbarrier_arrive_expect(full, T::kPixelBytes);
      tma_load(shared + ring.stage * T::kPixelBytes, task.in, (item.column - 1) * 8, item.row - 1,
               item.image * task.buffer_units + task.first_unit + chunk * kUnitsPerChunk, full);
      if (loaded < s.chunks) load_resident(loaded++);
    }
  }
}

// One thread: the weights that do not stay.
template <class T>
ESRGAN_DEVICE void fill_weights(const WgmmaTask& task, std::uint32_t shared) {
  const WgmmaStages& s = task.stages;
  if (s.streamed_taps() == 0) return;
  Ring ring{s.weight_stages};
  for (int index = block_index(); index < static_cast<int>(task.items.count());
       index += block_count())
    for (int chunk = 0; chunk < s.chunks; ++chunk, ring.advance()) {
      mbarrier_wait(shared + s.weights_empty(ring.stage), ring.parity ^ 1);
      const std::uint32_t full = shared + s.weights_full(ring.stage);
      mbarrier_arrive_expect(full, s.weight_stage_bytes());
      bulk_load(shared + s.weights() + ring.stage * s.weight_stage_bytes(),
                task.weights + std::int64_t{chunk} * T::kWeightBytes + s.resident_chunk_bytes(),
                s.weight_stage_bytes(), full);
    }
}

// One chunk: nine taps, two k-steps each. `resident` and `streamed` are where tap 0 of the chunk
// would be in the two places that weights lie in.
template <class M, class T>
ESRGAN_DEVICE void multiply_stage(float (&d)[T::kSums], std::uint32_t pixels,
                                  std::uint32_t resident, std::uint32_t streamed, int resident_taps,
                                  bool first) {
  constexpr int kCoreMatrixBytes = 8 * kUnitBytes;
#pragma unroll
  for (int tap = 0; tap < T::kTaps; ++tap)
#pragma unroll
    for (int step = 0; step < kStepsPerChunk; ++step) {
      const int shift = tap / 3 * T::kPitch + tap % 3;
      const std::uint32_t a = (tap < resident_taps ? resident : streamed) + tap * T::kTapBytes +
                              step * kUnitsPerStep * T::kWeightUnitStride;
      const std::uint32_t b = pixels + step * kUnitsPerStep * T::kUnitStride + shift * kUnitBytes;
      wgmma<M>(d, matrix_descriptor(a, T::kWeightUnitStride, kCoreMatrixBytes),
               matrix_descriptor(b, T::kUnitStride, kCoreMatrixBytes),
               !(first && tap == 0 && step == 0));
    }
}

// A warp's way of getting its results out, a piece (wgmma_tiling.h) at a time.
template <class M, class T>
class PieceWriter {
 public:
  ESRGAN_DEVICE PieceWriter(const WgmmaTask& task, std::uint32_t shared, int warp)
      : task_(task),
        lane_(thread_index() % 32),
        warp_(warp % 4),
        staging_(shared + task.stages.staging() + warp * T::kStagingBytes),
        full_(shared + task.stages.piece_full(warp)) {
    const bool sums = task.rows == Rows::kPair && warp_ >= 2;
    bias_[0] = sums ? 0 : load_global<float>(task.bias + warp_ * 16 + lane_ / 4);
    bias_[1] = sums ? 0 : load_global<float>(task.bias + warp_ * 16 + 8 + lane_ / 4);
    slope_ = sums ? 1 : task.slope;
    if (lane_ >= T::kColumns) store_shared16(place(0), make_uint4(0, 0, 0, 0));
  }

  // This warp's 16 outputs: two units.
  ESRGAN_DEVICE void write(const Item& item, float (&d)[T::kSums]) {
    if (task_.rows == Rows::kRemainder && warp_ >= 2) return;  // empty rows
#pragma unroll
    for (int unit = 0; unit < 2; ++unit)
#pragma unroll
      for (int row = 0; row < T::kRows; row += T::kPieceRows) write_piece(item, d, unit, row);
  }

  ESRGAN_DEVICE void end() {
    if (lane_ == 0) tma_store_wait();
  }

 private:
  // Rows `row` and on of the tile.
  ESRGAN_DEVICE void write_piece(const Item& item, float (&d)[T::kSums], int unit, int row) {
    const int x = item.column * 8, y = item.row + row;
    const bool remainder = task_.rows == Rows::kRemainder;
    if (lane_ == 0) tma_store_wait_read();  // the piece before has left
    if (remainder) add(task_.residual, item.image, x, y, d, unit, row, 1);
#pragma unroll
    for (int at = row * 16; at < (row + T::kPieceRows) * 16; at += 4)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& v = d[at + 2 * unit + i];
        v = leaky_relu(v + bias_[unit], slope_);
      }
    if (task_.has_residual) add(task_.residual, item.image, x, y, d, unit, row, task_.scale);
    if (task_.has_outer) add(task_.outer, item.image, x, y, d, unit, row, task_.outer_scale);
    synchronize_warp();  // all have read, and the piece before has left
#pragma unroll
    for (int i = 0; i < T::kPieceRows; ++i) {
      std::uint32_t r[4];
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const int at = 4 * ((row + i) * 4 + q) + 2 * unit;
        r[q] = M::pair(d[at], d[at + 1]);
      }
      stmatrix4_transposed(place(i), r);
    }
    fence_for_tma();
    synchronize_warp();
    if (lane_ == 0) {
      tma_store(task_.out.map, x, y, item.image * task_.out.image_units + warp_ * 2 + unit,
                staging_);
      tma_store_commit();
    }
  }

  // Where pixel `lane` of a row of the piece lies.
  ESRGAN_DEVICE std::uint32_t place(int row) const {
    return staging_ + (lane_ < T::kColumns ? row * T::kPieceRowBytes + lane_ * kUnitBytes
                                           : T::kUnused + (lane_ - T::kColumns) * kUnitBytes);
  }

  // d = d * scale + `from`.
  ESRGAN_DEVICE void add(const PieceMap& from, int image, int x, int y, float (&d)[T::kSums],
                         int unit, int row, float scale) {
    synchronize_warp();  // nobody reads the staging any more
    if (lane_ == 0) {
      mbarrier_arrive_expect(full_, T::kPieceBytes);
      tma_load(staging_, from.map, x, y, image * from.image_units + warp_ * 2 + unit, full_);
    }
    mbarrier_wait(full_, parity_);
    parity_ ^= 1;
#pragma unroll
    for (int i = 0; i < T::kPieceRows; ++i) {
      std::uint32_t r[4];
      ldmatrix4_transposed(r, place(i));
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        float low, high;
        M::unpair(r[q], low, high);
        const int at = 4 * ((row + i) * 4 + q) + 2 * unit;
        d[at] = d[at] * scale + low;
        d[at + 1] = d[at + 1] * scale + high;
      }
    }
  }

  const WgmmaTask& task_;
  int lane_, warp_;  // of the warpgroup
  std::uint32_t staging_, full_;
  float bias_[2], slope_;
  int parity_ = 0;
};

// A warpgroup: every second one of the block's tiles.
template <class M, class T>
ESRGAN_DEVICE void multiply_items(const WgmmaTask& task, std::uint32_t shared, int group) {
  const WgmmaStages& s = task.stages;
  const bool leader = thread_index() % 32 == 0;
  const bool streams = s.streamed_taps() > 0;
  wait_for_earlier_launches();
  let_next_launch_start();
  PieceWriter<M, T> writer(task, shared, thread_index() / 32);
  Ring pixels{s.pixel_stages}, weights{s.weight_stages};
  if (group == 1) {
    pixels.advance(s.chunks);
    if (streams) weights.advance(s.chunks);
  }
  // Group 0's first turn comes unasked.
  int turn = group == 0 ? 1 : 0;
  for (int index = block_index() + group * block_count();
       index < static_cast<int>(task.items.count()); index += T::kGroups * block_count()) {
    float d[T::kSums];
    const auto release = [&](int pixel_stage, int weight_stage) {
      if (!leader) return;
      mbarrier_arrive(shared + s.pixels_empty(pixel_stage));
      if (streams) mbarrier_arrive(shared + s.weights_empty(weight_stage));
    };
    mbarrier_wait(shared + s.turn(group), turn);
    turn ^= 1;
    int pixels_before = 0, weights_before = 0;
    for (int chunk = 0; chunk < s.chunks; ++chunk) {
      if (s.resident_taps > 0) mbarrier_wait(shared + s.resident_full(chunk), 0);
      if (streams) mbarrier_wait(shared + s.weights_full(weights.stage), weights.parity);
      mbarrier_wait(shared + s.pixels_full(pixels.stage), pixels.parity);
      if (leader && chunk == s.chunks - 1) mbarrier_arrive(shared + s.turn(1 - group));
      wgmma_fence();
      multiply_stage<M, T>(
          d, shared + pixels.stage * T::kPixelBytes,
          shared + s.resident() + chunk * s.resident_chunk_bytes(),
          shared + s.weights() + weights.stage * s.weight_stage_bytes() - s.resident_chunk_bytes(),
          s.resident_taps, chunk == 0);
      wgmma_commit();
      // The stage before this one has been read when at most this one's products are under way.
      if (chunk > 0) {
        wgmma_wait<1>();
        release(pixels_before, weights_before);
      }
      pixels_before = pixels.stage;
      weights_before = weights.stage;
      pixels.advance();
      if (streams) weights.advance();
    }
    wgmma_wait<0>();
    wgmma_pin(d);
    release(pixels_before, weights_before);
    pixels.advance(s.chunks);  // the other warpgroup's
    if (streams) weights.advance(s.chunks);
    writer.write(task.items.at(index), d);
  }
  writer.end();
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

template <class M, class T>
ESRGAN_WGMMA_KERNEL(T::kThreads)
wgmma_kernel(const ESRGAN_GRID_CONSTANT WgmmaTask task) {
  if constexpr (kHasWgmma) {
    const std::uint32_t shared = dynamic_shared();
    const int warp = thread_index() / 32, group = warp / 4;
    if (thread_index() == 0) {
      const WgmmaStages& s = task.stages;
      for (int stage = 0; stage < s.pixel_stages; ++stage) {
        mbarrier_init(shared + s.pixels_full(stage), 1);
        mbarrier_init(shared + s.pixels_empty(stage), 4);  // a warpgroup's warps
      }
      for (int stage = 0; stage < s.weight_stages; ++stage) {
        mbarrier_init(shared + s.weights_full(stage), 1);
        mbarrier_init(shared + s.weights_empty(stage), 4);
      }
      for (int chunk = 0; chunk < s.chunks; ++chunk)
        mbarrier_init(shared + s.resident_full(chunk), 1);
      for (int w = 0; w < WgmmaStages::kWarps; ++w) mbarrier_init(shared + s.piece_full(w), 1);
      for (int g = 0; g < T::kGroups; ++g) mbarrier_init(shared + s.turn(g), 4);
      mbarrier_init_fence();
    }
    synchronize_block();
    // 65536 registers for 384 threads are 168 each. 128 accumulators and an epilogue need more,
    // filling stages next to none.
    if (group == T::kGroups) {
      keep_registers<40>();
      if (thread_index() % 32 == 0) {
        if (warp == 4 * T::kGroups) fill_pixels<T>(task, shared);
        else if (warp == 4 * T::kGroups + 1) fill_weights<T>(task, shared);
      }
    } else {
      take_registers<232>();
      multiply_items<M, T>(task, shared, group);
    }
  }
}

// Of `units` units of each image.
template <class T>
int encode_piece_map(PieceMap& p, const Activations& a, int batch, int height, int width,
                     int units) {
  const std::int64_t unit_bytes = std::int64_t{height} * width * kUnitBytes;
  p.image_units = static_cast<int>(a.image_bytes / unit_bytes);
  return encode_tensor_map(p.map, a.data, width * 8, height,
                           std::int64_t{batch - 1} * p.image_units + units, T::kColumns * 8,
                           T::kPieceRows, 1);
}

template <Compute C, class T>
int launch_wgmma(const WgmmaConvolution& c, const Device& device, Stream stream) {
  WgmmaTask task{};
  task.buffer_units = c.buffer_units;
  task.first_unit = c.first_unit;
  task.weights = c.weights;
  task.rows = c.rows;
  task.bias = c.epilogue.bias;
  task.slope = c.epilogue.slope;
  task.scale = c.epilogue.scale;
  task.outer_scale = c.epilogue.outer_scale;
  task.has_residual = c.epilogue.residual.data != nullptr;
  task.has_outer = c.epilogue.outer_residual.data != nullptr;
  task.items = wgmma_items<T>(c.batch, c.height, c.width);
  task.stages = wgmma_stages<T>(c.chunks);
  if (task.items.count() == 0) return kSuccess;
  int blocks_per_sm = 0;
  void (*const kernel)(WgmmaTask) = &wgmma_kernel<Math<C>, T>;
  const auto piece_map = [&](PieceMap& map, const Activations& a) {
    const int units = (c.rows == Rows::kRemainder ? 32 : 64) / 8;
    return encode_piece_map<T>(map, a, c.batch, c.height, c.width, units);
  };
  int e = encode_tensor_map(task.in, c.buffer.data, c.width * 8, c.height,
                            std::int64_t{c.batch} * c.buffer_units, T::kPitch * 8, T::kHaloRows,
                            kUnitsPerChunk);
  if (e == kSuccess) e = piece_map(task.out, c.out);
  if (e == kSuccess && c.rows == Rows::kRemainder) e = piece_map(task.residual, c.out);
  else if (e == kSuccess && task.has_residual) e = piece_map(task.residual, c.epilogue.residual);
  if (e == kSuccess && task.has_outer) e = piece_map(task.outer, c.epilogue.outer_residual);
  if (e == kSuccess) e = prepare(kernel, T::kThreads, task.stages.bytes(), blocks_per_sm);
  if (e != kSuccess) return e;
  return launch(kernel, persistent_blocks(task.items.count(), device.processors), T::kThreads,
                task.stages.bytes(), stream, task, Overlap::kYes);
}

template <Compute C>
int LaunchWgmma<C>::convolution(const WgmmaConvolution& c, Stream stream) {
  Device device;
  const int e = describe_current(device);
  if (e != kSuccess) return e;
  return prefers_low_tiles(c.batch, c.height, c.width, device.processors)
             ? launch_wgmma<C, LowTile>(c, device, stream)
             : launch_wgmma<C, TallTile>(c, device, stream);
}

template <Compute C>
int LaunchWgmma<C>::pack(const WgmmaPackTask& task, Stream stream) {
  return launch_elementwise(&wgmma_pack_kernel<Math<C>>, wgmma_words(task.inputs), stream, task);
}

template <Compute C>
bool LaunchWgmma<C>::available() {
  return max_threads(&wgmma_kernel<Math<C>, TallTile>) >= TallTile::kThreads && has_tensor_maps();
}

}  // namespace esrgan::cuda

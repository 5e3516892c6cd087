// The convolution as an implicit matrix product with mma.sync: pixels are M, outputs N, and K runs
// over taps and channels. Moves tiles to shared memory with cp.async, a pipeline that does not stop
// between work items, and multiplies. What becomes of the accumulators is the caller's.
#pragma once

#include "kernels.h"
#include "precision.cuh"
#include "tiling.h"
#include "warp.cuh"

namespace esrgan::cuda {

// Fills the stages, always ahead of the multiplication: weights by two tap columns, pixels by a
// chunk. Runs through this block's items, every block_count()-th from block_index(). An item's
// divisions are done once for each, not in every step: on compute capability 9.0 the multiplication
// leaves few issue slots.
// `Persistent`: whether a block has more than one item.
template <class T, bool Persistent>
class Producer {
 public:
  ESRGAN_DEVICE Producer(const ConvolutionTask& task, std::uint32_t shared)
      : task_(task), shared_(shared) {
    weight_item_ = pixel_item_ = block_index();
    find_weights();
    find_pixels();
  }

  ESRGAN_DEVICE void next_weights() {
    if (weight_item_ >= item_count()) return;
    const std::uint32_t to = shared_ + T::kWeightsOffset + weight_stage_ * T::kWeightStageBytes;
    for (int i = thread_index() * kUnitBytes; i < T::kWeightStageBytes;
         i += T::kThreads * kUnitBytes)
      cp_async16(to + i, weights_ + i, true);
    weights_ += T::kWeightStageBytes;
    weight_stage_ = weight_stage_ + 1 == T::kWeightStages ? 0 : weight_stage_ + 1;
    if (++weight_step_ == task_.chunks * T::kTapColumns) {
      weight_step_ = 0;
      weight_item_ = Persistent ? weight_item_ + block_count() : item_count();
      if (Persistent) find_weights();
    }
  }

  ESRGAN_DEVICE void next_pixels() {
    if (pixel_item_ >= item_count()) return;
    const std::int64_t unit_stride = std::int64_t{task_.height} * task_.width * kUnitBytes;
    const int units = task_.in_units - pixel_chunk_ * kUnitsPerChunk;
    const std::uint32_t to = shared_ + pixel_stage_ * T::kPixelStageBytes;
    for (int i = thread_index(); i < T::kHaloPixels; i += T::kThreads) {
      const int y = row_ + i / T::kHaloColumns, x = column_ + i % T::kHaloColumns;
      // Unsigned: negative positions are large ones. What is outside the image is zero.
      const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(task_.height) &&
                          static_cast<unsigned>(x) < static_cast<unsigned>(task_.width);
      const char* const pixel =
          pixels_ + (inside ? (std::int64_t{y} * task_.width + x) * kUnitBytes : std::int64_t{0});
#pragma unroll
      for (int u = 0; u < kUnitsPerChunk; ++u) {
        const bool valid = inside && u < units;
        cp_async16(to + (u * T::kHaloPixels + i) * kUnitBytes,
                   valid ? pixel + u * unit_stride : task_.in.data, valid);
      }
    }
    pixels_ += kUnitsPerChunk * unit_stride;
    pixel_stage_ = 1 - pixel_stage_;
    if (++pixel_chunk_ == task_.chunks) {
      pixel_chunk_ = 0;
      pixel_item_ = Persistent ? pixel_item_ + block_count() : item_count();
      if (Persistent) find_pixels();
    }
  }

 private:
  ESRGAN_DEVICE int item_count() const { return static_cast<int>(task_.items.count()); }

  ESRGAN_DEVICE void find_weights() {
    const Item item = task_.items.at(weight_item_);
    weights_ = task_.weights + std::int64_t{item.phase * task_.items.slices + item.slice} *
                                   (task_.chunks * T::kTapColumns * T::kWeightStageBytes);
  }
  ESRGAN_DEVICE void find_pixels() {
    const Item item = task_.items.at(pixel_item_);
    row_ = item.row - 1;
    column_ = item.column - 1;
    pixels_ = task_.in.data + item.image * task_.in.image_bytes;
  }

  const ConvolutionTask& task_;
  std::uint32_t shared_;
  const char* weights_;  // of the next step
  int weight_item_, weight_step_ = 0, weight_stage_ = 0;
  const char* pixels_;  // the next chunk's first unit of the item's image
  int row_, column_;    // of the halo
  int pixel_item_, pixel_chunk_ = 0, pixel_stage_ = 0;
};

// One tap column of one chunk: every row of pixels that the warp's outputs reach is read once and
// multiplied with the weights of each tap row that reaches it.
template <class M, class T>
ESRGAN_DEVICE void multiply_column(Accumulators<T>& acc, const WarpPlace<T>& warp,
                                   std::uint32_t pixels, std::uint32_t weights, int first_row,
                                   int first_column) {
  // ldmatrix: lanes 0-7 and 8-15 address the 16 pixels' first unit of the k-step, 16-31 the second:
  // the A fragment in its order.
  const std::uint32_t row0 =
      pixels + ((warp.lane / 16 * T::kHaloRows + warp.row + first_row) * T::kHaloColumns +
                warp.column + first_column + warp.lane % 16) *
                   kUnitBytes;
  constexpr int kTiles = M::kTilesAtOnce < T::kOutputTiles ? M::kTilesAtOnce : T::kOutputTiles;
  // Where operands are split (kTilesAtOnce 2), groups of tiles and k-steps are passes of loops that
  // are not unrolled, else the compiler gathers the operands of several and registers spill. The
  // accumulators' indices still have to be constants: each pass picks its group's code.
  [[maybe_unused]] constexpr bool kSplit = M::kTilesAtOnce < 4;
  constexpr int kPasses = T::kOutputTiles / kTiles;
#pragma unroll(kSplit ? 1 : kStepsPerChunk * kPasses)
  for (int pass = 0; pass < kStepsPerChunk * kPasses; ++pass) {
    const int step = pass / kPasses;
#pragma unroll
    for (int first = 0; first < T::kOutputTiles; first += kTiles) {
      if (first / kTiles != pass % kPasses) continue;
      typename M::Weights w[T::kTapRows][kTiles];
#pragma unroll
      for (int tap = 0; tap < T::kTapRows; ++tap)
#pragma unroll
        for (int n = 0; n < kTiles; n += 2) {
          const int pair = (step * T::kTapRows + tap) * (T::kOutputs / kMmaOutputs / 2) +
                           (warp.output + first + n) / 2;
          const uint4 v = load_shared16(weights + (pair * 32 + warp.lane) * 16);
          w[tap][n] = M::weights(v.x, v.y);
          w[tap][n + 1] = M::weights(v.z, v.w);
        }
#pragma unroll
      for (int row = 0; row < T::kRowsPerWarp + T::kTapRows - 1; ++row) {
        std::uint32_t raw[4];
        ldmatrix4(raw, row0 + (step * kUnitsPerStep * T::kHaloPixels + row * T::kHaloColumns) *
                                  kUnitBytes);
        const typename M::Pixels p = M::pixels(raw);
#pragma unroll
        for (int tap = 0; tap < T::kTapRows; ++tap) {
          const int m = row - tap;
          if (m < 0 || m >= T::kRowsPerWarp) continue;
#pragma unroll
          for (int n = 0; n < kTiles; ++n) M::multiply(acc.d[m][first + n], p, w[tap][n]);
        }
      }
    }
  }
}

// Runs this block's items; `finish(item, accumulators)` is called at the end of each, with the next
// item's first tiles already on their way.
template <class M, class T, bool Persistent, class Finish>
ESRGAN_DEVICE void convolve_items(const ConvolutionTask& task, std::uint32_t shared,
                                  const WarpPlace<T>& warp, const Finish& finish) {
  Producer<T, Persistent> producer(task, shared);
  producer.next_pixels();
  producer.next_weights();
  cp_async_commit();
  producer.next_weights();
  cp_async_commit();
  int pixel_stage = 0, weight_stage = 0;
  for (int index = block_index(); index < static_cast<int>(task.items.count());
       index = Persistent ? index + block_count() : static_cast<int>(task.items.count())) {
    const Item item = task.items.at(index);
    Accumulators<T> acc;
    acc.clear();
    for (int chunk = 0; chunk < task.chunks; ++chunk) {
#pragma unroll 1
      for (int column = 0; column < T::kTapColumns; ++column) {
        // All groups but the last have arrived: this column's weights were in the last but one,
        // this chunk's pixels in that or an earlier one. After the barrier everybody sees
        // them, and nobody reads the stages any more that are filled next.
        cp_async_wait<1>();
        synchronize_block();
        if (column == 0) producer.next_pixels();
        producer.next_weights();
        cp_async_commit();
        // The upsampling convolution's phase shifts its 2x2 taps within the halo.
        const int first_row = T::kTapRows == 2 ? item.phase / 2 : 0;
        const int first_column = T::kTapColumns == 2 ? item.phase % 2 : 0;
        multiply_column<M, T>(acc, warp, shared + pixel_stage * T::kPixelStageBytes,
                              shared + T::kWeightsOffset + weight_stage * T::kWeightStageBytes,
                              first_row, first_column + column);
        weight_stage = weight_stage + 1 == T::kWeightStages ? 0 : weight_stage + 1;
      }
      pixel_stage = 1 - pixel_stage;
    }
    finish(item, acc);
  }
}

}  // namespace esrgan::cuda

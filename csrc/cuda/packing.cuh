// Weights in the form that the kernels read: sums in float32, rounded once. And activations between
// plain NHWC and units, which only a single dense block needs.
#pragma once

#include "epilogue.cuh"
#include "kernels.h"
#include "runtime.h"

namespace esrgan::cuda {

constexpr int kElementwiseThreads = 256;

template <class Task>
int launch_elementwise(void (*kernel)(Task), std::int64_t count, Stream stream, const Task& task) {
  if (count <= 0) return kSuccess;
  constexpr std::int64_t kMostBlocks = 4096;  // enough for any device; further work is looped over
  const std::int64_t blocks = (count + kElementwiseThreads - 1) / kElementwiseThreads;
  return launch(kernel, static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks),
                kElementwiseThreads, 0, stream, task);
}

// The weight at `place`, 0 in padding. Presummed for a phase of the upsampling convolution.
ESRGAN_DEVICE float weight_at(const PackTask& task, const WeightPlace& place, int input) {
  const WeightLayout& w = task.layout;
  if (place.output >= w.out_channels || input >= w.in_channels) return 0;
  const float* const taps =
      task.weights + (static_cast<std::int64_t>(place.output) * w.in_channels + input) * 9;
  if (task.form != WeightForm::kUpsample)
    return load_global<float>(taps + place.tap_row * 3 + place.tap_column);
  const TapRange rows = upsample_taps(place.phase / 2, place.tap_row);
  const TapRange columns = upsample_taps(place.phase % 2, place.tap_column);
  float sum = 0;
  for (int y = rows.first; y <= rows.last; ++y)
    for (int x = columns.first; x <= columns.last; ++x) sum += load_global<float>(taps + y * 3 + x);
  return sum;
}

template <class M>
ESRGAN_KERNEL(kElementwiseThreads, 1)
pack_kernel(const PackTask task) {
  const WeightLayout& w = task.layout;
  const std::int64_t words = packed_words(task.form, w);
  for (std::int64_t i = std::int64_t{block_index()} * kElementwiseThreads + thread_index();
       i < words; i += std::int64_t{block_count()} * kElementwiseThreads) {
    std::uint32_t word;
    if (task.form == WeightForm::kFirst) {
      const int output = static_cast<int>(i % w.out_channels);
      const int tap = static_cast<int>(i / w.out_channels);
      word = bits_of(load_global<float>(
          task.weights + (std::int64_t{output} * w.in_channels + tap / 9) * 9 + tap % 9));
    } else {
      const WeightPlace place = task.form == WeightForm::kLast
                                    ? last_weight_place(w.element_bytes, static_cast<int>(i))
                                    : weight_place(w, i);
      // The second is only used where a word holds two.
      word = M::weight_word(weight_at(task, place, place.input),
                            weight_at(task, place, place.input + 1));
    }
    store_global(task.packed_weights + i * 4, word);
  }
  if (block_index() == 0)
    for (int i = thread_index(); i < task.bias_floats; i += kElementwiseThreads)
      store_global(task.packed_bias + i,
                   i < w.out_channels ? load_global<float>(task.bias + i) : 0.0f);
}

// `ToUnits`: from N, H, W, channels to units, else back. A thread moves one unit of one pixel.
template <class M, bool ToUnits>
ESRGAN_KERNEL(kElementwiseThreads, 1)
reorder_kernel(const ReorderTask task) {
  const int units = task.channels * M::kElementBytes / kUnitBytes;
  const std::int64_t pixels = std::int64_t{task.height} * task.width;
  const std::int64_t count = pixels * task.batch * units;
  for (std::int64_t i = std::int64_t{block_index()} * kElementwiseThreads + thread_index();
       i < count; i += std::int64_t{block_count()} * kElementwiseThreads) {
    const std::int64_t pixel = i / units % pixels, image = i / units / pixels;
    char* const unit = task.units.data + image * task.units.image_bytes +
                       (i % units * pixels + pixel) * kUnitBytes;
    if (ToUnits) store_global(unit, load_global<uint4>(task.pixels + i * kUnitBytes));
    else store_global(task.pixels + i * kUnitBytes, load_global<uint4>(unit));
  }
}

}  // namespace esrgan::cuda

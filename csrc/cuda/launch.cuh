// Kernels of one Compute and their launchers. Included by one .cu file for each, so that they are
// compiled in parallel.
#pragma once

#include "epilogue.cuh"
#include "first.cuh"
#include "head.cuh"
#include "kernels.h"
#include "mainloop.cuh"
#include "packing.cuh"
#include "runtime.h"

namespace esrgan::cuda {

// What the compiler must leave registers for: the 3x3 kernels, where the time goes, fit into 128
// without spilling; the others would not.
template <class M, class T>
constexpr int resident_blocks() {
  return T::kTapRows == 3 ? M::kResidentBlocks : 1;
}

template <class M, class T>
ESRGAN_KERNEL(T::kThreads, (resident_blocks<M, T>()))
convolution_kernel(const ConvolutionTask task) {
  const WarpPlace<T> warp;
  convolve_items<M, T, true>(task, dynamic_shared(), warp,
                             [&](const Item& item, const Accumulators<T>& acc) {
                               constexpr int kZoom = T::kTapRows == 2 ? 2 : 1;
                               store_tile<M>(task, item, kZoom, warp, acc);
                             });
}

// One item a block: the features take the stages' place, so nothing may be on its way there.
template <class M>
ESRGAN_KERNEL(HeadTile::kThreads, 1)
head_kernel(const HeadTask task) {
  const WarpPlace<HeadTile> warp;
  const std::uint32_t shared = dynamic_shared();
  convolve_items<M, HeadTile, false>(task.hr, shared, warp,
                                     [&](const Item& item, const Accumulators<HeadTile>& acc) {
                                       cp_async_wait<0>();
                                       synchronize_block();
                                       store_features<M>(task, item, shared, warp, acc);
                                       synchronize_block();
                                       last_convolution<M>(task, item, shared, warp.lane);
                                     });
}

// As many blocks as run at once, each going through its share of the items.
template <class M, class T>
int launch_convolution(ConvolutionTask task, int phases, Stream stream) {
  task.items = items_of<T>(task.batch, task.height, task.width, phases, task.out_channels);
  if (task.items.count() == 0) return kSuccess;
  void (*const kernel)(ConvolutionTask) = &convolution_kernel<M, T>;
  int blocks_per_sm = 0;
  Device device;
  int e = prepare(kernel, T::kThreads, T::kSharedBytes, blocks_per_sm);
  if (e == kSuccess) e = describe_current(device);
  if (e != kSuccess) return e;
  const int blocks = persistent_blocks(task.items.count(), device.processors * blocks_per_sm);
  return launch(kernel, blocks, T::kThreads, T::kSharedBytes, stream, task);
}

template <Compute C>
int Launch<C>::convolution(const ConvolutionTask& task, Stream stream) {
  // Split float32 operands need twice the registers. Small tiles leave them, and three products
  // for each value make up for reading it more often.
  if constexpr (C != Compute::kFloat32) {
    Device device;
    const int e = describe_current(device);
    if (e != kSuccess) return e;
    if (prefers_large_tiles(task.batch, task.height, task.width, task.out_channels,
                            device.processors))
      return launch_convolution<Math<C>, LargeTile>(task, 1, stream);
  }
  return launch_convolution<Math<C>, SmallTile>(task, 1, stream);
}

template <Compute C>
int Launch<C>::upsample(const ConvolutionTask& task, Stream stream) {
  return launch_convolution<Math<C>, UpsampleTile>(task, 4, stream);
}

template <Compute C>
int Launch<C>::head(HeadTask task, Stream stream) {
  task.hr.items = head_items(task.hr.batch, task.hr.height, task.hr.width);
  const std::int64_t items = task.hr.items.count();
  if (items == 0) return kSuccess;
  void (*const kernel)(HeadTask) = &head_kernel<Math<C>>;
  int blocks_per_sm = 0;
  const int e = prepare(kernel, HeadTile::kThreads, HeadTile::kSharedBytes, blocks_per_sm);
  if (e != kSuccess) return e;
  return launch(kernel, static_cast<int>(items), HeadTile::kThreads, HeadTile::kSharedBytes, stream,
                task);
}

template <Compute C>
int Launch<C>::first(FirstTask task, Stream stream) {
  task.items = items_of<FirstTile>(task.batch, task.height, task.width, 1, task.nf);
  if (task.items.count() == 0) return kSuccess;
  return launch(&first_kernel<Math<C>>, static_cast<int>(task.items.count()), FirstTile::kThreads,
                FirstTile::kSharedBytes, stream, task);
}

template <Compute C>
int Launch<C>::pack(const PackTask& task, Stream stream) {
  return launch_elementwise(&pack_kernel<Math<C>>, packed_words(task.form, task.layout), stream,
                            task);
}

template <Compute C, bool ToUnits>
int launch_reorder(const ReorderTask& task, Stream stream) {
  const int units = task.channels * Math<C>::kElementBytes / kUnitBytes;
  return launch_elementwise(&reorder_kernel<Math<C>, ToUnits>,
                            std::int64_t{task.batch} * task.height * task.width * units, stream,
                            task);
}

template <Compute C>
int Launch<C>::to_units(const ReorderTask& task, Stream stream) {
  return launch_reorder<C, true>(task, stream);
}

template <Compute C>
int Launch<C>::from_units(const ReorderTask& task, Stream stream) {
  return launch_reorder<C, false>(task, stream);
}

template <Compute C>
bool Launch<C>::available() {
  return max_threads(&convolution_kernel<Math<C>, SmallTile>) >= SmallTile::kThreads;
}

}  // namespace esrgan::cuda

// A warp's share of a tile: where it stands and what it has summed up.
#pragma once

#include "ptx.cuh"
#include "tiling.h"

namespace esrgan::cuda {

// Where a thread's warp stands in the tile.
template <class T>
struct WarpPlace {
  int lane, row, column, output;  // of the warp's first pixel and output tile
  ESRGAN_DEVICE WarpPlace() {
    const int warp = thread_index() / 32;
    lane = thread_index() % 32;
    row = warp % T::kWarpRows * T::kRowsPerWarp;
    column = warp / T::kWarpRows % T::kWarpColumns * kMmaPixels;
    output = warp / (T::kWarpRows * T::kWarpColumns) * T::kOutputTiles;
  }
};

template <class T>
struct Accumulators {
  float d[T::kRowsPerWarp][T::kOutputTiles][4];
  ESRGAN_DEVICE void clear() {
#pragma unroll
    for (int m = 0; m < T::kRowsPerWarp; ++m)
#pragma unroll
      for (int n = 0; n < T::kOutputTiles; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) d[m][n][i] = 0;
  }
};

}  // namespace esrgan::cuda

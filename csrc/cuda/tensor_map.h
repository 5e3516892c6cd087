// TMA's description of a tensor, made by the driver: found through the runtime, so that nothing
// links libcuda. Belongs to runtime.h; the emulator stands in for it.
#ifndef ESRGAN_CUDA_TENSOR_MAP_H
#define ESRGAN_CUDA_TENSOR_MAP_H

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace esrgan::cuda {

using TensorMapEncoder = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                      const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                      const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                      CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// Null where the driver is too old for it.
inline TensorMapEncoder tensor_map_encoder() {
  static const TensorMapEncoder encoder = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    const cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                           12000, cudaEnableDefault, &found);
    if (e != cudaSuccess || found != cudaDriverEntryPointSuccess) function = nullptr;
    return reinterpret_cast<TensorMapEncoder>(function);
  }();
  return encoder;
}

inline bool has_tensor_maps() { return tensor_map_encoder() != nullptr; }

// Contiguous planes x rows x columns of 16-bit elements, read in boxes of the size given; what a
// box has outside is zero.
inline int encode_tensor_map(CUtensorMap& map, void* data, int columns, int rows,
                             std::int64_t planes, int box_columns, int box_rows, int box_planes) {
  const TensorMapEncoder encode = tensor_map_encoder();
  if (!encode) return cudaErrorNotSupported;
  const cuuint64_t row_bytes = static_cast<cuuint64_t>(columns) * 2;
  const cuuint64_t dimensions[3] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows),
                                    static_cast<cuuint64_t>(planes)};
  const cuuint64_t strides[2] = {row_bytes, row_bytes * static_cast<cuuint64_t>(rows)};
  const cuuint32_t box[3] = {static_cast<cuuint32_t>(box_columns),
                             static_cast<cuuint32_t>(box_rows),
                             static_cast<cuuint32_t>(box_planes)};
  const cuuint32_t steps[3] = {1, 1, 1};
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 3, data, dimensions, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace esrgan::cuda

#endif  // ESRGAN_CUDA_TENSOR_MAP_H

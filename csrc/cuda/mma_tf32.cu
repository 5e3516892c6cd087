#include "launch.cuh"

template struct esrgan::cuda::Launch<esrgan::cuda::Compute::kTensorFloat32>;

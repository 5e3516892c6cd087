#include "wgmma.cuh"

template struct esrgan::cuda::LaunchWgmma<esrgan::cuda::Compute::kBFloat16>;

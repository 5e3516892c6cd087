// What the operators take and give, for every device.
#pragma once

#include <torch/library.h>

namespace esrgan {

inline void define_operators(torch::Library& m) {
  m.def(
      "dense_block(Tensor x, Tensor[] weights, Tensor[] biases, float negative_slope, "
      "float residual_scale) -> Tensor");
  // `compute`: float16, bfloat16, tf32 or float32; what the tensors' type implies if empty.
  m.def("rrdbnet_pack(Tensor[] weights, Tensor[] biases, int[] shape, str compute=\"\") -> Tensor");
  m.def("rrdbnet(Tensor x, Tensor packed, int[] shape, str compute=\"\") -> Tensor");
  // The network sees x * in_scale + in_offset; what it makes of that, times out_scale plus
  // out_offset, within out_low and out_high, is stored in out. x and out may be integers.
  m.def(
      "rrdbnet_into(Tensor x, Tensor packed, int[] shape, Tensor(a!) out, Tensor(b!)? control, "
      "str compute=\"\", float in_scale=1., float in_offset=0., float out_scale=1., "
      "float out_offset=0., float? out_low=None, float? out_high=None, "
      "Tensor(c!)? nonfinite=None) -> ()");
}

}  // namespace esrgan

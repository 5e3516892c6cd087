// What a dense block is on every device: the shapes that belong together, and its definition out
// of torch's own operations, for types and widths that no kernels take.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/leaky_relu.h>

#include <cstdint>
#include <vector>

namespace esrgan {

inline void check_dense_block(const at::Tensor& x, at::TensorList weights, at::TensorList biases) {
  TORCH_CHECK(x.dim() == 4, "x must be N,C,H,W, got ", x.sizes());
  TORCH_CHECK(weights.size() == 5 && biases.size() == 5,
              "a dense block has five weights and five biases, got ", weights.size(), " and ",
              biases.size());
  const std::int64_t nf = x.size(1), gc = weights[0].size(0);
  for (std::int64_t k = 0; k < 5; ++k) {
    const std::int64_t outputs = k < 4 ? gc : nf;
    TORCH_CHECK(weights[k].sizes() == at::IntArrayRef({outputs, nf + k * gc, 3, 3}), "weight ", k,
                " must have the shape [", outputs, ", ", nf + k * gc, ", 3, 3], got ",
                weights[k].sizes());
    TORCH_CHECK(biases[k].sizes() == at::IntArrayRef({outputs}), "bias ", k,
                " must have the shape [", outputs, "], got ", biases[k].sizes());
    TORCH_CHECK(weights[k].device() == x.device() && biases[k].device() == x.device(),
                "x, weights and biases must be on one device");
  }
}

// What ops/reference.py does.
inline at::Tensor dense_block_composed(const at::Tensor& x, at::TensorList weights,
                                       at::TensorList biases, double negative_slope,
                                       double residual_scale) {
  std::vector<at::Tensor> features{x};
  for (int k = 0; k < 4; ++k)
    features.push_back(at::leaky_relu(at::conv2d(at::cat(features, 1), weights[k], biases[k], 1, 1),
                                      negative_slope));
  return at::add(x, at::conv2d(at::cat(features, 1), weights[4], biases[4], 1, 1), residual_scale);
}

}  // namespace esrgan

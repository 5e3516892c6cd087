// Where everything of a network lies in its packed weights and in its workspace, in bytes. Host
// only, no CUDA: sizes and offsets follow from the shape alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.h"
#include "network.h"
#include "tiling.h"
#include "wgmma_tiling.h"

namespace esrgan::cuda {

constexpr int kDenseLayers = 5;

inline std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

constexpr int element_bytes(Compute compute) {
  return compute == Compute::kFloat16 || compute == Compute::kBFloat16 ? 2 : 4;
}

struct PackedLayer {
  WeightForm form;
  WeightLayout layout;
  std::size_t weights, bias;
  int bias_floats;
};

// What one wgmma kernel of the trunk multiplies with: rows of convolution `layer`, and with
// Rows::kPair of the next one.
struct WgmmaPiece {
  Rows rows;
  int layer;
  int first_input, inputs;
  std::size_t weights;
};

constexpr bool has_wgmma_trunk(int nf, int gc, Compute compute, Path path) {
  return path == Path::kWgmma && nf == TallTile::kOutputs && gc == kWgmmaChunkChannels &&
         element_bytes(compute) == 2;
}

class PackedLayout {
 public:
  explicit PackedLayout(Compute compute) : element_bytes_(element_bytes(compute)) {}

  static PackedLayout of(const NetworkShape& s, Compute compute, Path path) {
    PackedLayout p(compute);
    p.add(WeightForm::kFirst, s.in_channels, s.nf, 1);
    for (int i = 0; i < 3 * s.rrdbs; ++i) p.add_dense_block(s.nf, s.gc);
    p.add(WeightForm::kConvolution, s.nf, s.nf, 1);
    for (int i = 0; i < s.upsamplings; ++i) p.add(WeightForm::kUpsample, s.nf, s.nf, 4);
    p.add(WeightForm::kConvolution, s.nf, s.nf, 1, HeadTile::kOutputs);
    p.add(WeightForm::kLast, s.nf, s.out_channels, 1);
    if (has_wgmma_trunk(s.nf, s.gc, compute, path)) {
      p.first_piece_layer_ = 1;
      for (int i = 0; i < 3 * s.rrdbs; ++i) p.add_wgmma_block(s.nf, s.gc);
      p.add_piece(Rows::kWhole, 0, s.nf);
    }
    return p;
  }
  static PackedLayout of(const DenseBlockShape& s, Compute compute, Path path) {
    PackedLayout p(compute);
    p.add_dense_block(s.nf, s.gc);
    if (has_wgmma_trunk(s.nf, s.gc, compute, path)) p.add_wgmma_block(s.nf, s.gc);
    return p;
  }

  int count() const { return static_cast<int>(layers_.size()); }
  std::size_t bytes() const { return end_; }
  const PackedLayer& operator[](int i) const { return layers_[static_cast<std::size_t>(i)]; }

  const std::vector<WgmmaPiece>& pieces() const { return pieces_; }
  const WgmmaPiece& piece_of(int layer) const {
    return pieces_[static_cast<std::size_t>(layer - first_piece_layer_)];
  }

 private:
  void add(WeightForm form, int in_channels, int out_channels, int phases, int outputs = kSlice) {
    const int taps = form == WeightForm::kUpsample ? 2 : 3;
    PackedLayer layer;
    layer.form = form;
    layer.layout = {element_bytes_, taps, taps, outputs, in_channels, out_channels, phases};
    layer.weights = end_;
    layer.bias = aligned(end_ + static_cast<std::size_t>(packed_words(form, layer.layout)) * 4);
    layer.bias_floats = round_up(out_channels, HeadTile::kOutputs);
    end_ = aligned(layer.bias + static_cast<std::size_t>(layer.bias_floats) * sizeof(float));
    layers_.push_back(layer);
  }
  void add_dense_block(int nf, int gc) {
    for (int k = 0; k < kDenseLayers; ++k)
      add(WeightForm::kConvolution, nf + k * gc, k < kDenseLayers - 1 ? gc : nf, 1);
  }

  void add_piece(Rows rows, int first_input, int inputs) {
    const int layer = first_piece_layer_ + static_cast<int>(pieces_.size());
    pieces_.push_back({rows, layer, first_input, inputs, end_});
    end_ = aligned(end_ + static_cast<std::size_t>(wgmma_words(inputs)) * 4);
  }
  void add_wgmma_block(int nf, int gc) {
    add_piece(Rows::kPair, 0, nf);
    add_piece(Rows::kRemainder, nf, gc);
    add_piece(Rows::kPair, 0, nf + 2 * gc);
    add_piece(Rows::kRemainder, nf + 2 * gc, gc);
    add_piece(Rows::kWhole, 0, nf + 4 * gc);
  }

  int element_bytes_;
  std::size_t end_ = 0;
  std::vector<PackedLayer> layers_;
  std::vector<WgmmaPiece> pieces_;
  int first_piece_layer_ = 0;
};

// Activations of `channels` channels for a whole batch.
inline std::size_t activation_bytes(Compute compute, int channels, int batch, int height,
                                    int width) {
  return aligned(static_cast<std::size_t>(channels) * element_bytes(compute) * batch * height *
                 width);
}

// The trunk has conv_first's output and three blocks' buffers, through which the dense blocks of an
// RRDB go round; conv_body's output and the upsampled activations follow, each read by the next
// only, in two places in turn. The first place begins where nothing of the trunk is, so that
// conv_body does not write over what it reads; the rest reuses the trunk's memory.
struct Workspace {
  static constexpr int kBlocks = 3, kMaxTail = 4;
  std::size_t features, blocks[kBlocks];
  std::size_t tail[kMaxTail];  // conv_body's output, then after each upsampling
  std::size_t bytes;

  Workspace(const NetworkShape& s, Compute compute, int batch, int height, int width) {
    std::size_t even = 0, odd = 0;
    for (int i = 0; i <= s.upsamplings; ++i) {
      std::size_t& place = i % 2 ? odd : even;
      place = std::max(place, activation_bytes(compute, s.nf, batch, height << i, width << i));
    }
    for (int i = 0; i <= s.upsamplings; ++i) tail[i] = i % 2 ? even : 0;
    std::size_t end = activation_bytes(compute, s.nf, batch, height, width);  // tail[0]
    features = end;
    end += activation_bytes(compute, s.nf, batch, height, width);
    for (std::size_t& block : blocks) {
      block = end;
      end += activation_bytes(compute, s.nf + 4 * s.gc, batch, height, width);
    }
    bytes = std::max(end, even + odd);
  }
};

// The block's buffer and its output.
struct DenseBlockWorkspace {
  std::size_t block, result, bytes;
  DenseBlockWorkspace(const DenseBlockShape& s, Compute compute, int batch, int height, int width)
      : block(0),
        result(activation_bytes(compute, s.nf + 4 * s.gc, batch, height, width)),
        bytes(result + activation_bytes(compute, s.nf, batch, height, width)) {}
};

}  // namespace esrgan::cuda

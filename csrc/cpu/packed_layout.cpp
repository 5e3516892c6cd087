#include "packed_layout.h"

#include <algorithm>

#include "parallel_for.h"

namespace esrgan::cpu {

void pack(const PackedLayout& layout, const Kernels& kernels, const Convolution* convolutions,
          int threads, float* packed) {
  // Pieces of 32 input channels: a few thousand for a network, so that threads end together.
  constexpr int kPiece = 32;
  struct Piece {
    int convolution, first, last;
  };
  std::vector<Piece> pieces;
  for (int i = 0; i < layout.count(); ++i) {
    const bool whole = layout[i].form == Form::kFirst || layout[i].form == Form::kLast;
    const int channels = layout[i].in_channels, step = whole ? channels : kPiece;
    for (int first = 0; first < channels; first += step)
      pieces.push_back({i, first, std::min(first + step, channels)});
  }
  parallel_for(static_cast<int>(pieces.size()), threads, [&](int k) {
    const Piece& piece = pieces[static_cast<std::size_t>(k)];
    const Packed& p = layout[piece.convolution];
    const Convolution& conv = convolutions[piece.convolution];
    float* weights = packed + p.weights;
    switch (p.form) {
      case Form::kFirst:
        pack_first(conv, weights);
        break;
      case Form::kLast:
        pack_last(conv, kernels, weights);
        break;
      case Form::kWinograd:
        pack_winograd(conv, kernels, piece.first, piece.last, weights);
        break;
      case Form::kUpsample:
        pack_upsample(conv, kernels, piece.first, piece.last, weights);
        break;
    }
    if (piece.first == 0) std::copy(conv.bias, conv.bias + conv.out_channels, packed + p.bias);
    if (piece.first == 0 && p.slopes < p.end)
      std::copy(conv.slopes, conv.slopes + conv.out_channels, packed + p.slopes);
  });
}

}  // namespace esrgan::cpu

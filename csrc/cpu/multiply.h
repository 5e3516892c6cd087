// The multiplication of transformed tiles by transformed weights: for each of the 36 points a
// matrix product M[tile][output] = sum over channels of V[tile][channel] * U[channel][output].
#pragma once

#include "kernels.h"
#include "simd.h"

namespace esrgan {
namespace {

// A panel is kTilePanel tiles by two vectors of outputs, all of whose sums stay in registers.
// Each step over one input channel loads two weight vectors and broadcasts one value a tile for
// 2 * kTilePanel fused multiply-adds, so the more tiles, the fewer loads an FMA.
// AVX-512 and NEON have 32 registers: 12 tiles = 24 sums + 2 weights + broadcasts in flight
// (14 loads for 24 FMAs; two units of 4 cycles' latency need 8 independent sums).
// AVX2 and SSE2 have 16: 6 tiles = 12 sums + 2 weights + 2.
#if ESRGAN_VECTOR_FLOATS == 16 || defined(__aarch64__)
constexpr int kTilePanel = 12;
#else
constexpr int kTilePanel = 6;
#endif

// Where the multiplication looks ahead while it computes one panel.
struct Ahead {
  std::ptrdiff_t next_panel;  // floats from this panel to the one that follows: into L1
  std::ptrdiff_t next_point;  // and to the same panel at the next point: into L2
  const float* next_weights;  // a piece of the next slab of weights: into L2
};

// Tiles x Vectors sums over `segments` segments of Channels channels each.
template <int Tiles, int Vectors, int Channels>
__attribute__((noinline)) void panel(const float* v, std::ptrdiff_t segment_stride, int segments,
                                     const float* weights, float* out, std::ptrdiff_t out_stride,
                                     Ahead ahead) {
  // Channels that one turn of the loop takes: enough to hide the loop's own instructions, few
  // enough that the body (4 * 24 FMAs) stays in the instruction cache.
  constexpr int kStep = 4;
  constexpr int kTurns = Channels / kStep;
  constexpr int kLine = 16;  // floats
  // Cache lines of a panel's segment, and of the next slab of weights (all of it within the
  // panels of one task), spread over the turns.
  constexpr int kLinesPerTurn = (Tiles * Channels / kLine + kTurns - 1) / kTurns;
  constexpr int kWeightLines = Channels * Vectors * kLanes / kLine;
  constexpr int kTaskPanels = (kTaskTiles + kTilePanel - 1) / kTilePanel;
  constexpr int kWeightLinesPerTurn =
      (kWeightLines + kTaskPanels * kTurns - 1) / (kTaskPanels * kTurns);
  // A sum of K products in one chain rounds K times, and by ever larger values: the error grows
  // with sqrt(K / 2). Chains of 64 channels, added up in `out` (which is in L1), lose 2 dB
  // less than one of 192 over a whole network and cost 2 %.
  constexpr int kChunk = 64 / Channels;
  for (int first = 0; first < segments; first += kChunk) {
    const int end = first + kChunk < segments ? first + kChunk : segments;
    Vec sum[Tiles][Vectors] = {};
    for (int s = first; s < end; ++s) {
      const float* a = v;
      const float* prefetch = v;
      for (int turn = 0; turn < kTurns; ++turn) {
        ESRGAN_UNROLL
        for (int i = 0; i < kLinesPerTurn; ++i) {
          __builtin_prefetch(prefetch + ahead.next_panel + i * kLine, 0, 3);
          __builtin_prefetch(prefetch + ahead.next_point + i * kLine, 0, 2);
        }
        ESRGAN_UNROLL
        for (int i = 0; i < kWeightLinesPerTurn; ++i)
          __builtin_prefetch(ahead.next_weights + i * kLine, 0, 2);
        prefetch += kLinesPerTurn * kLine;
        ahead.next_weights += kWeightLinesPerTurn * kLine;
        ESRGAN_UNROLL
        for (int k = 0; k < kStep; ++k) {
          Vec w[Vectors];
          ESRGAN_UNROLL
          for (int n = 0; n < Vectors; ++n) w[n] = load(weights + (k * Vectors + n) * kLanes);
          ESRGAN_UNROLL
          for (int t = 0; t < Tiles; ++t) {
            const Vec b = broadcast(a[t * Channels + k]);
            ESRGAN_UNROLL
            for (int n = 0; n < Vectors; ++n) sum[t][n] = multiply_add(w[n], b, sum[t][n]);
          }
        }
        a += kStep;
        weights += kStep * Vectors * kLanes;
      }
      v += segment_stride;
    }
    ESRGAN_UNROLL
    for (int t = 0; t < Tiles; ++t) {
      ESRGAN_UNROLL
      for (int n = 0; n < Vectors; ++n) {
        float* p = out + t * out_stride + n * kLanes;
        store(p, first == 0 ? sum[t][n] : sum[t][n] + load(p));
      }
    }
  }
}

using PanelFunction = void (*)(const float*, std::ptrdiff_t, int, const float*, float*,
                               std::ptrdiff_t, Ahead);

template <int Vectors, int Channels>
PanelFunction panel_function(int tiles) {
  static constexpr PanelFunction kFunctions[] = {
      panel<1, Vectors, Channels>,  panel<2, Vectors, Channels>,  panel<3, Vectors, Channels>,
      panel<4, Vectors, Channels>,  panel<5, Vectors, Channels>,  panel<6, Vectors, Channels>,
#if ESRGAN_VECTOR_FLOATS == 16 || defined(__aarch64__)
      panel<7, Vectors, Channels>,  panel<8, Vectors, Channels>,  panel<9, Vectors, Channels>,
      panel<10, Vectors, Channels>, panel<11, Vectors, Channels>, panel<12, Vectors, Channels>,
#endif
  };
  return kFunctions[tiles - 1];
}

template <int Vectors, int Channels>
void multiply(const Multiply& m) {
  constexpr int kPanelOutputs = Vectors * kLanes;
  const int panels = (m.tiles + kTilePanel - 1) / kTilePanel;
  // Panels of nearly equal size: the last one is never a sliver with too few independent sums.
  const int small = m.tiles / panels, larger = m.tiles % panels;
  const PanelFunction run_small = panel_function<Vectors, Channels>(small);
  const PanelFunction run_large = larger ? panel_function<Vectors, Channels>(small + 1) : nullptr;
  const std::ptrdiff_t slab = static_cast<std::ptrdiff_t>(m.segments) * Channels * kPanelOutputs;
  const float* weights = m.weights;
  for (int point = 0; point < kPoints; ++point) {
    const float* v = m.in.data + point * m.in.point_stride;
    float* out = m.out + point * m.out_point_stride;
    // The weights of one slab (at most 192 x 32 x 4 B = 24 KB) stay in L1 while the tiles pass.
    for (int n = 0; n < m.outputs; n += kPanelOutputs, weights += slab) {
      Ahead ahead;
      ahead.next_point = m.in.point_stride;
      ahead.next_weights = weights + slab;
      const std::ptrdiff_t weights_per_panel = slab / panels;
      for (int i = 0, tile = 0; i < panels; ++i) {
        const int tiles = i < larger ? small + 1 : small;
        ahead.next_panel =
            i + 1 < panels
                ? tiles * Channels
                : (n + kPanelOutputs < m.outputs ? 0 : m.in.point_stride) - tile * Channels;
        (i < larger ? run_large : run_small)(v + tile * Channels, m.in.segment_stride, m.segments,
                                             weights, out + tile * m.outputs + n, m.outputs, ahead);
        ahead.next_weights += weights_per_panel;
        tile += tiles;
      }
    }
  }
}

}  // namespace
}  // namespace esrgan

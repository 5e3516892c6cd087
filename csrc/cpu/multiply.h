// The multiplication of transformed tiles by transformed weights: for each of the 36 points a
// matrix product M[tile][output] = sum over channels of V[tile][channel] * U[channel][output].
#pragma once

#include "kernels.h"
#include "simd.h"

namespace esrgan::cpu {
namespace {

// A panel is a few tiles by a few vectors of outputs, all of whose sums stay in registers. Two
// units of 4 cycles' latency need 8 independent sums; more sums mean fewer loads for each fused
// multiply-add.
// AVX-512 and NEON have 32 registers: 24 sums, as 12 tiles by 2 vectors (14 loads for 24 FMAs).
// AVX2 and SSE2 have 16: 12 sums. 3 tiles by 4 vectors take 7 loads for 12 FMAs and just fit with 3
// broadcasts and 1 weight; 6 by 2 take 8 loads and spill (measured on Zen 3: 93 and 85 GFLOP/s of
// 111).
#if ESRGAN_VECTOR_FLOATS == 16 || defined(__aarch64__)
constexpr int kSums = 24;
#else
constexpr int kSums = 12;
#endif
// Half of the sums are enough to hide the latency where there is only one vector of outputs.
template <int Vectors>
constexpr int kTilePanel = kSums / (Vectors > 2 ? Vectors : 2);

// Channels that one turn of a panel's loop takes: enough to hide the loop's own instructions, few
// enough that the body (4 * 24 FMAs) stays in the instruction cache.
constexpr int kStep = 4;

// Lines of `Multiply::next` that a turn fetches. Wider panels make half as many turns.
template <int Vectors>
constexpr int kSpanLines = kLanes == 16 && Vectors > 2 ? 2 : 1;

// Where the multiplication looks ahead while it computes one panel.
struct Ahead {
  std::ptrdiff_t next_panel;  // floats from this panel to the one that follows: into L1
  std::ptrdiff_t next_point;  // and to the same panel at the next point: into L2
  const float* next_weights;  // a piece of the next slab of weights: into L2
  const float* next_span;     // lines of `Multiply::next` in each turn: into L2
  std::ptrdiff_t next_line;   // floats between these
};

// Deals the lines of `Multiply::next` to panels, so that the last are due with the last panel:
// fetched early they would be gone from L2, which a task's tiles and weights pass through.
class NextSpans {
 public:
  // A panel makes so many turns and fetches so many lines in each.
  NextSpans(const Multiply& m, int panels, int turns, int lines)
      : m_(m), lines_a_panel_(turns * lines), lines_a_turn_(lines), early_panels_(panels) {
    for (int i = 0; i < m.next_spans; ++i)
      early_panels_ -= (m.next[i].lines + lines_a_panel_ - 1) / lines_a_panel_;
  }
  void deal(Ahead& ahead) {
    if (early_panels_-- > 0 || span_ == m_.next_spans) {
      ahead.next_span = m_.weights;  // any address that is mapped
      ahead.next_line = 0;
      return;
    }
    ahead.next_span = m_.next[span_].first + std::ptrdiff_t{line_} * kLineFloats;
    ahead.next_line = std::ptrdiff_t{lines_a_turn_} * kLineFloats;
    line_ += lines_a_panel_;
    if (line_ >= m_.next[span_].lines) {
      line_ = 0;
      ++span_;
    }
  }

 private:
  const Multiply& m_;
  int lines_a_panel_, lines_a_turn_, early_panels_, span_ = 0, line_ = 0;
};

// Adds the products of one input channel to all sums. Whichever there are fewer of, broadcast tiles
// or vectors of weights, stays in registers while the others pass.
template <int Tiles, int Vectors, int Channels>
ESRGAN_INLINE void step(const float* a, const float* weights, Vec (&sum)[Tiles][Vectors]) {
  if constexpr (Tiles < Vectors) {
    Vec b[Tiles];
    ESRGAN_UNROLL
    for (int t = 0; t < Tiles; ++t) b[t] = broadcast(a[t * Channels]);
    ESRGAN_UNROLL
    for (int n = 0; n < Vectors; ++n) {
      const Vec w = load(weights + n * kLanes);
      ESRGAN_UNROLL
      for (int t = 0; t < Tiles; ++t) sum[t][n] = multiply_add(w, b[t], sum[t][n]);
    }
  } else {
    Vec w[Vectors];
    ESRGAN_UNROLL
    for (int n = 0; n < Vectors; ++n) w[n] = load(weights + n * kLanes);
    ESRGAN_UNROLL
    for (int t = 0; t < Tiles; ++t) {
      const Vec b = broadcast(a[t * Channels]);
      ESRGAN_UNROLL
      for (int n = 0; n < Vectors; ++n) sum[t][n] = multiply_add(w[n], b, sum[t][n]);
    }
  }
}

// Tiles x Vectors sums over `segments` segments of Channels channels each, `offset` floats into
// each.
template <int Tiles, int Vectors, int Channels>
__attribute__((noinline)) void panel(const float* const* in, std::ptrdiff_t offset, int segments,
                                     const float* weights, float* out, std::ptrdiff_t out_stride,
                                     Ahead ahead) {
  constexpr int kTurns = Channels / kStep;
  // Cache lines of a panel's segment, and of the next slab of weights (all of it within the
  // panels of one task), spread over the turns.
  constexpr int kLinesPerTurn = (Tiles * Channels / kLineFloats + kTurns - 1) / kTurns;
  constexpr int kWeightLines = Channels * Vectors * kLanes / kLineFloats;
  constexpr int kTaskPanels = (kSharedTaskTiles + kTilePanel<Vectors> - 1) / kTilePanel<Vectors>;
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
      const float* a = in[s] + offset;
      const float* prefetch = a;
      for (int turn = 0; turn < kTurns; ++turn) {
        ESRGAN_UNROLL
        for (int i = 0; i < kLinesPerTurn; ++i) {
          __builtin_prefetch(prefetch + ahead.next_panel + i * kLineFloats, 0, 3);
          __builtin_prefetch(prefetch + ahead.next_point + i * kLineFloats, 0, 2);
        }
        ESRGAN_UNROLL
        for (int i = 0; i < kWeightLinesPerTurn; ++i)
          __builtin_prefetch(ahead.next_weights + i * kLineFloats, 0, 2);
        ESRGAN_UNROLL
        for (int i = 0; i < kSpanLines<Vectors>; ++i)
          __builtin_prefetch(ahead.next_span + i * kLineFloats, 0, 2);
        ahead.next_span += ahead.next_line;
        prefetch += kLinesPerTurn * kLineFloats;
        ahead.next_weights += kWeightLinesPerTurn * kLineFloats;
        ESRGAN_UNROLL
        for (int k = 0; k < kStep; ++k)
          step<Tiles, Vectors, Channels>(a + k, weights + k * Vectors * kLanes, sum);
        a += kStep;
        weights += kStep * Vectors * kLanes;
      }
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

using PanelFunction = void (*)(const float* const*, std::ptrdiff_t, int, const float*, float*,
                               std::ptrdiff_t, Ahead);

template <int Vectors, int Channels, int Largest = kTilePanel<Vectors>>
PanelFunction panel_function(int tiles) {
  if constexpr (Largest > 1) {
    if (tiles < Largest) return panel_function<Vectors, Channels, Largest - 1>(tiles);
  }
  return panel<Largest, Vectors, Channels>;
}

template <int Vectors, int Channels>
void multiply(const Multiply& m) {
  constexpr int kPanelOutputs = Vectors * kLanes;
  const int panels = (m.tiles + kTilePanel<Vectors> - 1) / kTilePanel<Vectors>;
  // Panels of nearly equal size: the last one is never a sliver with too few independent sums.
  const int small = m.tiles / panels, larger = m.tiles % panels;
  const PanelFunction run_small = panel_function<Vectors, Channels>(small);
  const PanelFunction run_large = larger ? panel_function<Vectors, Channels>(small + 1) : nullptr;
  const std::ptrdiff_t slab = static_cast<std::ptrdiff_t>(m.segments) * Channels * kPanelOutputs;
  NextSpans next(m, kPoints * (m.outputs / kPanelOutputs) * panels, m.segments * Channels / kStep,
                 kSpanLines<Vectors>);
  const float* weights = m.weights;
  for (int point = 0; point < kPoints; ++point) {
    const std::ptrdiff_t plane = point * m.in_point_stride;
    float* out = m.out + point * m.out_point_stride;
    // The weights of one slab (at most 192 x 32 x 4 B = 24 KB) stay in L1 while the tiles pass.
    for (int n = 0; n < m.outputs; n += kPanelOutputs, weights += slab) {
      Ahead ahead;
      ahead.next_point = m.in_point_stride;
      ahead.next_weights = weights + slab;
      const std::ptrdiff_t weights_per_panel = slab / panels;
      for (int i = 0, tile = 0; i < panels; ++i) {
        const int tiles = i < larger ? small + 1 : small;
        ahead.next_panel =
            i + 1 < panels
                ? tiles * Channels
                : (n + kPanelOutputs < m.outputs ? 0 : m.in_point_stride) - tile * Channels;
        next.deal(ahead);
        (i < larger ? run_large : run_small)(m.in, plane + tile * Channels, m.segments, weights,
                                             out + tile * m.outputs + n, m.outputs, ahead);
        ahead.next_weights += weights_per_panel;
        tile += tiles;
      }
    }
  }
}

}  // namespace
}  // namespace esrgan::cpu

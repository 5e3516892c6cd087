// The arithmetic that depends on the instruction set, behind one table of functions. Everything
// else (packing, scheduling, memory) is compiled once and calls through this table, a few times
// per tile row, so the indirection costs nothing.
#pragma once

#include <cstddef>

#include "cache_line.h"

namespace esrgan::cpu {

// Winograd F(4x4, 3x3): a tile of 6x6 inputs gives 4x4 outputs through 36 products. The same
// 6x6 inputs give 5x5 outputs of a 2x2 filter, which the upsampling convolutions use.
constexpr int kTileInput = 6;
constexpr int kTileOutput = 4;
constexpr int kUpsampleTileOutput = 5;
constexpr int kPoints = kTileInput * kTileInput;

// Tiles of one task, give or take a half. A task streams all of a layer's transformed weights (up
// to 1.8 MB from the last-level cache) once, so more tiles share them; but its products M (36 x 32
// tiles x 64 outputs x 4 B = 295 KB) and the tiles it has just transformed (295 KB) have to stay in
// a 1 MB L2 cache. Measured on Zen 5: 16 tiles 638, 32 tiles 704, 64 tiles 660, 128 tiles 626
// GFLOP/s.
constexpr int kTaskTiles = 32;
// With several threads a group is cut into as many parts, so that each thread keeps to its own part
// and its tiles stay in its caches. Half as many tiles are then as fast (256 x 256 to 512 x 512,
// Zen 4, 2 cores), and the rings half as large.
constexpr int kSharedTaskTiles = 16;

// Transformed tiles, "V": for each group of `segment_channels` channels (a segment) and each of
// the 36 points, a plane [tile][segment_channels].
struct TilesView {
  float* data;
  std::ptrdiff_t segment_stride;  // floats between segments
  std::ptrdiff_t point_stride;    // floats between the planes of neighbouring points
};

struct InputTransform {
  const float* rows[kTileInput];  // first column of the first tile, channels-last pixels
  int channels;                   // of a pixel, a multiple of the segment's
  int step;                       // columns between tiles: kTileOutput or kUpsampleTileOutput
  int tiles;
  TilesView out;  // of the first tile
};

// nf + 4 gc channels in segments of gc: most with nf 64 and gc 16.
constexpr int kMaxSegments = 8;

// Memory that is used soon, from a cache line's first float on.
struct Span {
  const float* first;
  int lines;  // of the cache
};
constexpr int kMaxSpans = 24;

struct Multiply {
  const float* in[kMaxSegments];  // the segments' tiles, which may lie anywhere
  std::ptrdiff_t in_point_stride;
  int segments;
  int tiles;
  const float* weights;  // packed: [point][output panel][input channel][panel_outputs]
  int outputs;           // a multiple of panel_outputs
  float* out;            // "M": [point][tile][outputs]
  std::ptrdiff_t out_point_stride;
  // What is touched next, by the output transform or the next task's input transform: fetched into
  // L2 by the last panels.
  Span next[kMaxSpans];
  int next_spans;

  void add_input(const TilesView& v, int count) {
    for (int i = 0; i < count; ++i) in[segments++] = v.data + i * v.segment_stride;
    in_point_stride = v.point_stride;
  }
  void add_next(const float* first, std::ptrdiff_t floats) {
    if (next_spans < kMaxSpans)
      next[next_spans++] = {first, static_cast<int>((floats + kLineFloats - 1) / kLineFloats)};
  }
};

struct OutputTransform {
  const float* in;  // M at the first tile
  std::ptrdiff_t point_stride;
  int in_channels;   // floats between tiles of M
  int out_channels;  // of those, the ones to write (panels are padded)
  int tiles;
  int tile_output;  // kTileOutput or kUpsampleTileOutput
  const float* bias;
  bool activate;  // and add no residuals
  float negative_slope;
  const float* slopes;  // in place of it a PReLU with one slope a channel, if given
  // Output rows at column 0 of the image, null where the row lies outside of it.
  float* rows[kUpsampleTileOutput];
  std::ptrdiff_t pixel_stride;  // floats between output columns
  int first_column;             // of the first tile; columns outside [0, columns) are not written
  int columns;
  // out = (conv * scale + inner) and then out * outer_scale + outer, where the rows are given;
  // the residuals have the output's column stride `residual_stride`.
  float scale;
  const float* inner[kUpsampleTileOutput];
  float outer_scale;
  const float* outer[kUpsampleTileOutput];
  std::ptrdiff_t residual_stride;
};

// Direct 3x3 convolution of few input channels: a row of `columns` pixels.
struct FirstConvolution {
  const float* const* rows;  // [input channel][3]: planar rows, padded by a zero on each side
  int in_channels;
  int out_channels;  // a multiple of 32
  int columns;
  const float* weights;  // [input channel][3][3][out_channels]
  const float* bias;
  const float* slopes;  // of a PReLU, or null
  float* out;           // channels-last
};

// Direct 3x3 convolution to few output channels: a row of `columns` pixels.
struct LastConvolution {
  const float* rows[3];  // channels-last, pixel -1 readable (zero padding)
  int in_channels;       // a multiple of 32
  int out_channels;      // 1 to 4
  int columns;
  const float* weights;  // [3][3][in_channels / lanes][out_channels][lanes]
  const float* bias;
  float* out;
  std::ptrdiff_t channel_stride;
  std::ptrdiff_t column_stride;
};

struct Kernels {
  const char* name;
  int lanes;  // floats of a vector
  int segment_channels;
  int panel_outputs;  // outputs that one pass of the multiplication computes
  void (*transform_input)(const InputTransform&);
  void (*multiply)(const Multiply&);
  void (*transform_output)(const OutputTransform&);
  void (*first_convolution)(const FirstConvolution&);
  void (*last_convolution)(const LastConvolution&);
  int peak_vectors;  // multiply-adds of a whole vector in each round of:
  float (*multiply_adds)(long rounds, float factor);
};

constexpr int kMaxLastOutputs = 4;

// The fastest set that this CPU runs, or the one that ESRGAN_CPU_ISA names (avx512, avx2,
// baseline). Chosen once; `isa_error` says why a forced one could not be taken.
struct IsaChoice {
  enum Isa { kBaseline, kAvx2, kAvx512 } isa;
  const char* error;  // null, or what was wrong with ESRGAN_CPU_ISA
};
const IsaChoice& chosen_isa();
const char* isa_name();

// Growth channels of 16 need segments of 16 channels; all else takes 32.
const Kernels& kernels_for(int segment_channels);
// Segments of 32, for products of which all have outputs in multiples of 64. Panels of 4 vectors of
// AVX-512 by 6 tiles take 10 loads for 24 FMAs, those of 2 by 12 take 14: 3 to 4 % faster
// (Sapphire Rapids, 64 -> 64 channels).
const Kernels& kernels_for_wide_outputs();

}  // namespace esrgan::cpu

// How an image is cut into tile rows, groups of tile rows and parts: what one task computes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace esrgan::cpu {

// Neighbouring tiles of one tile row.
struct Run {
  int tile_row;
  int first;  // column of tiles
  int tiles;
  int offset;  // of the first tile within the part
};

// To the nearest: one tile more than fits should not halve the parts (132 pixels wide: 11 %).
inline int nearest_parts(int tiles, int tiles_per_part) {
  return std::max(1, (tiles + tiles_per_part / 2) / tiles_per_part);
}

struct Tiling {
  int tile_rows = 0, tile_columns = 0;
  int rows_per_group = 1;
  int parts = 1;
  // The columns that each part begins at, and the last one's end, where parts are not equally many
  // tiles; only with one row of tiles a group.
  std::vector<int> cuts;

  static Tiling of(int height, int width, int tile, int rows_per_group, int tiles_per_part) {
    Tiling t;
    t.tile_rows = (height + tile - 1) / tile;
    t.tile_columns = (width + tile - 1) / tile;
    t.rows_per_group = std::max(1, std::min(rows_per_group, t.tile_rows));
    t.parts = nearest_parts(t.rows_per_group * t.tile_columns, tiles_per_part);
    return t;
  }
  int groups() const { return (tile_rows + rows_per_group - 1) / rows_per_group; }
  int group_tiles(int group) const {
    return std::min(rows_per_group, tile_rows - group * rows_per_group) * tile_columns;
  }
  int part_begin(int group, int part) const {
    if (!cuts.empty()) return cuts[part];
    return static_cast<int>(static_cast<long long>(group_tiles(group)) * part / parts);
  }
  int part_tiles(int group, int part) const {
    return part_begin(group, part + 1) - part_begin(group, part);
  }
  int max_part_tiles() const {
    int most = 0;
    for (int part = 0; part < parts; ++part) most = std::max(most, part_tiles(0, part));
    return most;
  }

  template <class Visit>
  void for_each_run(int group, int part, const Visit& visit) const {
    for_each_run(group, part, 0, tile_columns, visit);
  }
  // Of the part's tiles, those in the columns [first_column, end_column).
  template <class Visit>
  void for_each_run(int group, int part, int first_column, int end_column,
                    const Visit& visit) const {
    const int begin = part_begin(group, part), end = part_begin(group, part + 1);
    for (int tile = begin; tile < end;) {
      const int column = tile % tile_columns;
      const int tiles = std::min(tile_columns - column, end - tile);
      const int first = std::max(column, first_column);
      const int last = std::min(column + tiles, end_column);
      if (first < last)
        visit(Run{group * rows_per_group + tile / tile_columns, first, last - first,
                  tile - begin + first - column});
      tile += tiles;
    }
  }
};

// What one thread works in.
struct Scratch {
  Buffer v, m;
};

// Reads `map` around a run of tiles of `step` pixels.
inline InputTransform input_of(const FeatureMap& map, const Run& run, int step, TilesView out) {
  InputTransform t;
  for (int i = 0; i < kTileInput; ++i)
    t.rows[i] = map.row_or_zeros(run.tile_row * step - 1 + i) +
                (static_cast<std::ptrdiff_t>(run.first) * step - 1) * map.channels();
  t.channels = map.channels();
  t.step = step;
  t.tiles = run.tiles;
  t.out = out;
  return t;
}

// The pixels that input_of reads, for a product to fetch that comes before.
inline void fetch_input_of(const FeatureMap& map, const Run& run, int step, Multiply& m) {
  const int column = run.first * step, columns = std::min(run.tiles * step, map.width() - column);
  for (int i = 0; i < kTileInput; ++i) {
    const int y = run.tile_row * step - 1 + i;
    if (y >= 0 && y < map.height())
      m.add_next(map.row(y) + std::ptrdiff_t{column} * map.channels(),
                 std::ptrdiff_t{columns} * map.channels());
  }
}

}  // namespace esrgan::cpu

// How tiles and rows of x take turns where a few rows of x stay in registers.
#pragma once

#include "product.h"

namespace kernels {
namespace { // each file its own copy, compiled for its own instructions

constexpr int TILE_GROUP = 4;  // tiles that stay in the second cache while all rows pass
constexpr int PREFETCH = 4096; // bytes ahead

// The product of some rows of x, from row m on, with one tile.
using Multiply = void (*)(const Weights&, const QuantizedRows&, int64_t m, int64_t tile, float* y);

// Tiles first to last - 1, with groups of rows of nearly equal size: of at most 12 rows, 13 rows are
// 7 and 6. `by_rows` has a function for each number of rows from 1 to `max_rows`.
inline void multiply_groups(const Multiply* by_rows, int max_rows, const Weights& w,
                            const QuantizedRows& rows, float* y, int64_t first, int64_t last) {
  const int64_t groups = (rows.num_rows + max_rows - 1) / max_rows;
  for (int64_t start = first; start < last; start += TILE_GROUP) {
    const int64_t end = start + TILE_GROUP < last ? start + TILE_GROUP : last;
    for (int64_t group = 0; group < groups; group++) {
      const int64_t m = rows.num_rows * group / groups;
      const int64_t count = rows.num_rows * (group + 1) / groups - m;
      for (int64_t tile = start; tile < end; tile++) by_rows[count](w, rows, m, tile, y);
    }
  }
}

} // namespace
} // namespace kernels

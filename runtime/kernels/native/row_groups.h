// What instruction sets share whose products keep a few rows of x in registers: how x is cut into
// blocks, how tiles and rows take turns.
#pragma once

#include "product.h"

namespace kernels {
namespace { // each file its own copy, compiled for its own instructions

constexpr int TILE_GROUP = 4;  // tiles that stay in the second cache while all rows pass
constexpr int PREFETCH = 4096; // bytes ahead

// Every block of rows first to last - 1 of x by itself; the last block of a row is filled with zeros.
using QuantizeBlock = void (*)(const float* x, int block_size, int zero, int8_t* levels,
                               float* scale, int32_t* offset);
template <QuantizeBlock QUANTIZE>
inline void quantize_blocks(const Weights& w, const float* x, const QuantizedRows& rows,
                            int64_t first, int64_t last) {
  for (int64_t row = first; row < last; row++)
    for (int64_t block = 0; block < w.num_blocks(); block++) {
      const int64_t start = block * w.block_size, place = block * rows.num_rows + row;
      const float* from = x + row * w.num_columns + start;
      float padded[MAX_BLOCK];
      if (start + w.block_size > w.num_columns) {
        for (int i = 0; i < w.block_size; i++)
          padded[i] = start + i < w.num_columns ? from[i] : 0.0f;
        from = padded;
      }
      QUANTIZE(from, w.block_size, 1 << (w.bits - 1), rows.levels + place * w.block_size,
               rows.scales + place, rows.offsets + place);
    }
}

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

// The attention of attention.h around the product of one instruction set, which includes this last.
#pragma once

#include "cached_rows.h"
#include "softmax.h"

#include <stdlib.h>

namespace kernels {
namespace { // each file its own copy, compiled for its own instructions

constexpr int64_t ROWS = 24; // of queries that pass the laid out positions together

// Scales of cached levels, as float16: all are 1, since queries and results have taken them.
struct Ones {
  uint16_t scales[MAX_HEAD_DIM * POSITIONS / PROBABILITIES];
  constexpr Ones() : scales() {
    for (uint16_t& scale : scales) scale = 0x3c00;
  }
};
constexpr Ones ONES;

// Levels of rows that share one weight.
ALONE Weights int8_weights(const uint8_t* levels, int64_t rows, int64_t columns,
                           int64_t block_size) {
  return {levels, ONES.scales, rows, columns, static_cast<int>(block_size), 8};
}

ALONE int64_t rounded_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// Memory of a part, from one allocation.
struct Workspace {
  char* memory = nullptr;
  int64_t used = 0;

  template <class T> ALONE T* take(int64_t count) {
    T* taken = memory ? reinterpret_cast<T*>(memory + used) : nullptr; // without: to be counted
    used += rounded_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return taken;
  }
  ALONE QuantizedRows take_rows(int64_t rows, int64_t columns, int64_t block_size) {
    const int64_t blocks = columns / block_size;
    return {take<int8_t>(rows * columns), take<float>(rows * blocks), take<int32_t>(rows * blocks),
            rows};
  }
};

// Some rows of the queries that share a head of keys and values: row i is of new row i / group.
struct Part {
  const Attention& a;
  int64_t batch, head, first, num_rows;
  int64_t columns;       // D in whole blocks
  QuantizedRows queries; // of every ROWS rows: their levels, then those of what is left over
  Seen* seen;            // (num_rows,)
  float* sums;           // (num_rows, D) of values
  float* scores;         // (2 ROWS, POSITIONS)
  float* weighed;        // (ROWS, D)
  QuantizedRows levels;  // of probabilities
  Block block;

  ALONE int64_t new_row(int64_t row) const { return (first + row) / a.group(); }
  ALONE int64_t position(int64_t row) const { return a.start(batch) + new_row(row); }
  // Of the queries, and of the result.
  ALONE int64_t row_of_all(int64_t row) const { return batch * a.num_rows + new_row(row); }
  ALONE int64_t query_head(int64_t row) const {
    return head * a.group() + (first + row) % a.group();
  }
  ALONE bool few() const { return num_rows <= FEW_ROWS; }
  // Of ROWS rows or fewer, from row `row` on.
  ALONE QuantizedRows queries_from(int64_t row, int64_t count) const {
    return {queries.levels + 2 * row * columns, queries.scales + 2 * row, queries.offsets + 2 * row,
            2 * count};
  }
};

ALONE Part make_part(const Attention& a, int64_t part, Workspace& space) {
  const int64_t parts = a.parts_of_a_head(), most = a.rows_of_a_part(), first = part % parts * most;
  const int64_t left = a.num_rows * a.group() - first, head_dim = a.head_dim;
  const int64_t rows = left < most ? left : most;
  const int64_t together = rows < ROWS ? rows : ROWS, columns = rounded_up(head_dim, COLUMNS);
  return {a,
          part / parts / a.kv_num_heads,
          part / parts % a.kv_num_heads,
          first,
          rows,
          columns,
          space.take_rows(2 * rows, columns, columns),
          space.take<Seen>(rows),
          space.take<float>(rows * head_dim),
          space.take<float>(2 * together * POSITIONS),
          space.take<float>(together * head_dim),
          space.take_rows(together, POSITIONS, PROBABILITIES),
          {nullptr, nullptr, 0, space.take<uint8_t>(rows > FEW_ROWS ? POSITIONS * columns : 0),
           space.take<uint8_t>(rows > FEW_ROWS ? POSITIONS * columns : 0)}};
}

// Turns `count` rows, takes the scales of keys into them, and makes levels of them.
void make_queries(Part& part, int64_t row, int64_t count) {
  const Attention& a = part.a;
  const Weights shape = int8_weights(nullptr, 0, a.head_dim, part.columns);
  const QuantizedRows rows = part.queries_from(row, count);
  const float* scale = a.key_scale + part.head * a.head_dim;
  const float softer = 1.0f / sqrtf(static_cast<float>(a.head_dim));
  float* x = part.scores; // (2 count, D)
  float* rest = x + count * a.head_dim;
  for (int64_t r = 0; r < count; r++) {
    const float* query = a.query + part.row_of_all(row + r) * a.query_stride +
                         part.query_head(row + r) * a.head_dim;
    rotate(a, query, part.position(row + r), x + r * a.head_dim);
    for (int64_t j = 0; j < a.head_dim; j++) x[r * a.head_dim + j] *= scale[j] * softer;
  }
  quantize(shape, x, rows, 0, count);
  for (int64_t r = 0; r < count; r++)
    for (int64_t j = 0; j < a.head_dim; j++) {
      const float level = rows.levels[r * part.columns + j];
      rest[r * a.head_dim + j] = x[r * a.head_dim + j] - level * rows.scales[r];
    }
  quantize(shape, x, rows, count, 2 * count);
}

// Scores (2 count, padded) of the block's positions.
ALONE void score_rows(Part& part, int64_t row, int64_t count, const Block& block, int64_t padded) {
  const QuantizedRows rows = part.queries_from(row, count);
  const int64_t head_dim = part.a.head_dim;
  if (!part.few()) {
    const Weights keys = int8_weights(block.key_levels, padded, head_dim, part.columns);
    multiply(keys, rows, part.scores, 0, keys.num_tiles());
    return;
  }
  for (int64_t r = 0; r < count; r++) {
    int16_t levels[2 * MAX_HEAD_DIM];
    for (int64_t i = 0; i < head_dim; i++) {
      levels[i] = rows.levels[r * part.columns + i];
      levels[head_dim + i] = rows.levels[(count + r) * part.columns + i];
    }
    const float scales[] = {rows.scales[r], rows.scales[count + r]};
    score(block, head_dim, levels, scales, part.scores + r * padded, count * padded);
  }
}

// What the rows get of the block's values, (count, D), from their probabilities.
ALONE void weigh_rows(Part& part, int64_t count, const Block& block, int64_t padded) {
  const int64_t head_dim = part.a.head_dim;
  QuantizedRows levels = part.levels;
  levels.num_rows = count;
  quantize(int8_weights(nullptr, 0, padded, PROBABILITIES), part.scores, levels, 0, count);
  if (part.few()) {
    for (int64_t r = 0; r < count; r++)
      weigh(block, head_dim, levels, r, part.weighed + r * head_dim);
    return;
  }
  const int64_t columns = rounded_up(part.block.count, PROBABILITIES); // of all positions laid out
  for (int64_t channel = 0; channel < head_dim; channel += TILE) {
    float tile[ROWS * TILE];
    const uint8_t* values = block.value_levels + channel * columns;
    multiply(int8_weights(values, TILE, padded, PROBABILITIES), levels, tile, 0, 1);
    for (int64_t r = 0; r < count; r++)
      memcpy(part.weighed + r * head_dim + channel, tile + r * TILE, TILE * sizeof *tile);
  }
}

// What `count` rows, from row `row` on, see of the block whose first position is `start`.
void see_block(Part& part, int64_t row, int64_t count, int64_t start) {
  Block block = part.block;
  const int64_t reach = part.position(row + count - 1) + 1 - start;
  if (reach <= 0) return;
  if (reach < block.count) block.count = reach;
  const int64_t padded = rounded_up(block.count, LANES);
  score_rows(part, row, count, block, padded);
  float kept[ROWS]; // what earlier sums are worth
  for (int64_t r = 0; r < count; r++) {
    const int64_t visible = part.position(row + r) + 1 - start;
    float* scores = part.scores + r * padded;
    kept[r] = 1.0f;
    if (visible <= 0)
      memset(scores, 0, static_cast<size_t>(padded) * sizeof *scores);
    else
      kept[r] = probabilities(scores, scores + count * padded, visible, padded, part.seen[row + r]);
  }
  weigh_rows(part, count, block, padded);
  const int64_t head_dim = part.a.head_dim;
  float* sums = part.sums + row * head_dim;
  for (int64_t r = 0; r < count; r++)
    for (int64_t i = r * head_dim; i < (r + 1) * head_dim; i++)
      sums[i] = sums[i] * kept[r] + part.weighed[i];
}

ALONE void write_result(const Part& part) {
  const Attention& a = part.a;
  for (int64_t row = 0; row < part.num_rows; row++) {
    const int64_t to = part.row_of_all(row) * a.num_heads + part.query_head(row);
    const float* scale = a.value_scale + part.head * a.head_dim;
    for (int64_t j = 0; j < a.head_dim; j++)
      a.y[to * a.head_dim + j] =
          part.sums[row * a.head_dim + j] / part.seen[row].sum * scale[j];
  }
}

// Part `number` of the queries; false where there is no memory for it.
bool attend(const Attention& a, int64_t number) {
  Workspace space;
  make_part(a, number, space);
  space.memory = static_cast<char*>(aligned_alloc(64, static_cast<size_t>(space.used)));
  if (!space.memory) return false;
  space.used = 0;
  Part part = make_part(a, number, space);
  const int64_t num_rows = part.num_rows, last = part.position(num_rows - 1);
  for (int64_t row = 0; row < num_rows; row++) part.seen[row] = {-__FLT_MAX__, 0.0f};
  memset(part.sums, 0, static_cast<size_t>(num_rows * a.head_dim) * sizeof *part.sums);
  for (int64_t row = 0; row < num_rows; row += ROWS)
    make_queries(part, row, num_rows - row < ROWS ? num_rows - row : ROWS);
  const int64_t cached = a.head_of(part.batch, part.head);
  for (int64_t start = 0; start <= last; start += POSITIONS) {
    part.block.keys = a.keys + cached + start * a.head_dim;
    part.block.values = a.values + cached + start * a.head_dim;
    part.block.count = last + 1 - start < POSITIONS ? last + 1 - start : POSITIONS;
    if (!part.few()) {
      lay_out_keys(part.block, a.head_dim, part.columns);
      lay_out_values(part.block, a.head_dim, rounded_up(part.block.count, PROBABILITIES));
    }
    for (int64_t row = 0; row < num_rows; row += ROWS)
      see_block(part, row, num_rows - row < ROWS ? num_rows - row : ROWS, start);
  }
  write_result(part);
  free(space.memory);
  return true;
}

} // namespace
} // namespace kernels

// Attention of new rows over a cache in int8, as every instruction set computes it.
//
// Both products are those of product.h and never go through float32: positions are the rows of the
// one's weight, channels those of the other's. The scales of the cache go into the queries and into
// the result. A query is the sum of two rows of levels, the second of what the first leaves over:
// the channels of keys differ much in size, and one row alone would follow the largest.
//
// Softmax takes POSITIONS at a time and PROBABILITIES of them share a scale. Both are counted from
// the first position of the cache, so a result depends neither on the number of new rows nor on
// that of threads.
#pragma once

#include "product.h"

namespace kernels {

constexpr int POSITIONS = 512;
constexpr int PROBABILITIES = 32;
constexpr int MAX_HEAD_DIM = MAX_BLOCK;
constexpr int64_t MOST_ROWS = 512;   // of queries of a part: they lay keys and values out once
constexpr int64_t FEW_ROWS = 4;      // that read the cache as it lies, since that costs less
constexpr int64_t ENOUGH_PARTS = 16; // for the threads that there may be

// One layer. B sequences of S new rows, H heads of queries, G of keys and values, D channels each.
struct Attention {
  int64_t batch_size, num_rows, num_heads, kv_num_heads, head_dim, cache_rows;
  const float *query, *key, *value; // (B, S, heads, D), and what follows a row up to its stride
  int64_t query_stride, key_stride, value_stride;
  const float *cos, *sin;              // (rows, D / 2)
  const float *key_scale, *value_scale; // (G, D): what 1 in the cache stands for
  const int32_t* last_positions;       // (B,): of each sequence's last new row
  int8_t *keys, *values;               // (B, G, cache_rows, D)
  float* y;                            // (B, S, H, D)

  // Queries that share a head of keys and values.
  ALONE int64_t group() const { return num_heads / kv_num_heads; }
  ALONE int64_t start(int64_t batch) const {
    return int64_t{last_positions[batch]} + 1 - num_rows;
  }
  ALONE int64_t head_of(int64_t batch, int64_t head) const {
    return (batch * kv_num_heads + head) * cache_rows * head_dim;
  }
  // What threads take: some of the queries of a head, fewer where there are few heads.
  ALONE int64_t rows_of_a_part() const {
    const int64_t heads = batch_size * kv_num_heads;
    const int64_t wanted = (ENOUGH_PARTS + heads - 1) / heads;
    const int64_t rows = (num_rows * group() + wanted - 1) / wanted;
    return rows < FEW_ROWS ? FEW_ROWS : rows > MOST_ROWS ? MOST_ROWS : rows;
  }
  ALONE int64_t parts_of_a_head() const {
    return (num_rows * group() + rows_of_a_part() - 1) / rows_of_a_part();
  }
  ALONE int64_t num_parts() const {
    return batch_size * num_rows == 0 ? 0 : batch_size * kv_num_heads * parts_of_a_head();
  }
};

// Whether attention is made for such sizes.
ALONE bool supported(const Attention& a) {
  return a.head_dim >= TILE && a.head_dim <= MAX_HEAD_DIM && a.head_dim % TILE == 0 &&
         a.kv_num_heads >= 1 && a.num_heads % a.kv_num_heads == 0 && a.num_rows >= 0;
}

// Whether every new row lies in the cache.
ALONE bool inside(const Attention& a) {
  for (int64_t batch = 0; batch < a.batch_size; batch++)
    if (a.start(batch) < 0 || a.last_positions[batch] >= a.cache_rows) return false;
  return true;
}

} // namespace kernels

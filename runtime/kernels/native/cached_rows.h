// Rows of an int8 cache: how they are written, how a product reads them.
#pragma once

#include "attention.h"

#include <string.h>

namespace kernels {
namespace { // each file its own copy, compiled for its own instructions

// Turns the D channels of a head by the angles of a position.
ALONE void rotate(const Attention& a, const float* x, int64_t position, float* turned) {
  const int64_t half = a.head_dim / 2;
  const float *cos = a.cos + position * half, *sin = a.sin + position * half;
  for (int64_t i = 0; i < half; i++) {
    turned[i] = x[i] * cos[i] - x[i + half] * sin[i];
    turned[i + half] = x[i + half] * cos[i] + x[i] * sin[i];
  }
}

// The nearest levels. One that is no number becomes 0.
ALONE void to_levels(const float* x, const float* scale, int64_t count, int8_t* levels) {
  const float rounds = 0x1.8p23f; // what is added to it becomes an integer
  for (int64_t i = 0; i < count; i++) {
    float level = x[i] / scale[i];
    level = level == level ? level : 0.0f;
    level = level > -128.0f ? level : -128.0f;
    level = level < 127.0f ? level : 127.0f;
    levels[i] = static_cast<int8_t>(static_cast<int32_t>(level + rounds - rounds));
  }
}

// A new row of a sequence goes into the cache.
void append(const Attention& a, int64_t batch, int64_t row) {
  const int64_t position = a.start(batch) + row, from = batch * a.num_rows + row;
  float turned[MAX_HEAD_DIM];
  for (int64_t head = 0; head < a.kv_num_heads; head++) {
    const int64_t channels = head * a.head_dim;
    const int64_t to = a.head_of(batch, head) + position * a.head_dim;
    rotate(a, a.key + from * a.key_stride + channels, position, turned);
    to_levels(turned, a.key_scale + channels, a.head_dim, a.keys + to);
    to_levels(a.value + from * a.value_stride + channels, a.value_scale + channels, a.head_dim,
              a.values + to);
  }
}

// Some positions of a head.
struct Block {
  const int8_t *keys, *values;      // (count, D), as they are cached
  int64_t count;                    // POSITIONS at most
  uint8_t *key_levels, *value_levels; // as weights of int8
};

// Positions become rows of a weight: (tiles, columns / 4, 16 positions, 4 channels).
void lay_out_keys(const Block& block, int64_t head_dim, int64_t columns) {
  for (int64_t position = 0; position < block.count; position++) {
    uint8_t* to = block.key_levels + position / TILE * TILE * columns + position % TILE * 4;
    for (int64_t i = 0; i < head_dim; i += 4) {
      uint32_t four;
      memcpy(&four, block.keys + position * head_dim + i, 4);
      four ^= 0x80808080u; // a level of 0 is 128
      memcpy(to + i * TILE, &four, 4);
    }
  }
}

// Channels become rows of a weight: (tiles, columns / 4, 16 channels, 4 positions).
void lay_out_values(const Block& block, int64_t head_dim, int64_t columns) {
  for (int64_t position = 0; position < block.count; position += 4) {
    const uint8_t* v[4]; // the last position stands for those that are missing
    for (int64_t i = 0; i < 4; i++) {
      const int64_t at = position + i < block.count ? position + i : block.count - 1;
      v[i] = reinterpret_cast<const uint8_t*>(block.values) + at * head_dim;
    }
    for (int64_t channel = 0; channel < head_dim; channel += TILE) {
      uint32_t four[TILE];
      for (int i = 0; i < TILE; i++) {
        const uint32_t a = v[0][channel + i], b = v[1][channel + i];
        const uint32_t c = v[2][channel + i], d = v[3][channel + i];
        four[i] = (a | b << 8 | c << 16 | d << 24) ^ 0x80808080u;
      }
      memcpy(block.value_levels + channel * columns + position * TILE, four, sizeof four);
    }
  }
}

// Scores of two rows of levels (2, D), as the product of key_levels gives them; y is (2, stride).
ALONE void score(const Block& block, int64_t head_dim, const int16_t* levels, const float* scales,
                 float* y, int64_t stride) {
  const int16_t *one = levels, *two = levels + head_dim;
  for (int64_t position = 0; position < block.count; position++) {
    const int8_t* key = block.keys + position * head_dim;
    int32_t first = 0, second = 0;
    for (int64_t i = 0; i < head_dim; i++) {
      const int16_t level = key[i];
      first += one[i] * level;
      second += two[i] * level;
    }
    y[position] = static_cast<float>(first) * scales[0];
    y[stride + position] = static_cast<float>(second) * scales[1];
  }
}

// Values times a row of probabilities, as the product of value_levels gives them.
ALONE void weigh(const Block& block, int64_t head_dim, const QuantizedRows& x, int64_t row,
                 float* y) {
  memset(y, 0, static_cast<size_t>(head_dim) * sizeof *y);
  for (int64_t first = 0; first < block.count; first += PROBABILITIES) {
    const int64_t at = first / PROBABILITIES * x.num_rows + row, left = block.count - first;
    const int8_t* levels = x.levels + at * PROBABILITIES;
    const int8_t* values = block.values + first * head_dim;
    int32_t sums[MAX_HEAD_DIM] = {};
    for (int64_t j = 0; j < PROBABILITIES && j < left; j += 4, values += 4 * head_dim) {
      const int8_t* v[4]; // the last position stands for those that are missing: their levels are 0
      int16_t l[4];
      for (int64_t k = 0; k < 4; k++) {
        v[k] = values + (j + k < left ? k : left - 1 - j) * head_dim;
        l[k] = levels[j + k];
      }
      for (int64_t i = 0; i < head_dim; i++) { // two products of 127 and 128 at most fit 16 bits
        const int16_t one = static_cast<int16_t>(l[0] * v[0][i] + l[1] * v[1][i]);
        const int16_t two = static_cast<int16_t>(l[2] * v[2][i] + l[3] * v[3][i]);
        sums[i] += one + two;
      }
    }
    for (int64_t i = 0; i < head_dim; i++)
      y[i] = __builtin_fmaf(static_cast<float>(sums[i]), x.scales[at], y[i]);
  }
}

} // namespace
} // namespace kernels

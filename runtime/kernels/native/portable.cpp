// The product in plain C++: what the other instruction sets are compared with.
#include "product.h"

#include <math.h>
#include <string.h>

namespace kernels {
namespace {

float from_float16(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const float sign = half & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 0) return sign * ldexpf(static_cast<float>(fraction), -24);
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * ldexpf(static_cast<float>(1024 + fraction), exponent - 25);
}

void quantize_block(const float* x, int64_t count, int block_size, int zero, int8_t* levels,
                    float* scale, int32_t* offset) {
  uint32_t largest_bits = 0; // as integers, magnitudes are ordered and NaN is above infinity
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    bits &= 0x7fffffff;
    if (bits > largest_bits) largest_bits = bits;
  }
  float largest;
  memcpy(&largest, &largest_bits, 4);
  memset(levels, 0, static_cast<size_t>(block_size));
  *offset = 0;
  *scale = __builtin_isfinite(largest) ? 0.0f : NAN;
  if (!__builtin_isfinite(largest) || largest < SMALLEST) return;
  const float inverse = 127.0f / largest;
  int sum = 0;
  for (int64_t i = 0; i < count; i++) {
    levels[i] = static_cast<int8_t>(lrintf(x[i] * inverse));
    sum += levels[i];
  }
  *scale = largest / 127.0f;
  *offset = -zero * sum;
}

void quantize(const Weights& w, const float* x, const QuantizedRows& rows, int64_t first,
              int64_t last) {
  for (int64_t row = first; row < last; row++)
    for (int64_t block = 0; block < w.num_blocks(); block++) {
      const int64_t start = block * w.block_size, place = block * rows.num_rows + row;
      const int64_t left = w.num_columns - start;
      quantize_block(x + row * w.num_columns + start, left < w.block_size ? left : w.block_size,
                     w.block_size, 1 << (w.bits - 1), rows.levels + place * w.block_size,
                     rows.scales + place, rows.offsets + place);
    }
}

// The level of a row of the tile and a column of the block.
int level(const Weights& w, const uint8_t* block, int row, int column) {
  if (w.bits == 8) return block[(column / 4 * TILE + row) * 4 + column % 4];
  const int byte = block[(column / 8 * TILE + row) * 4 + column % 4];
  return column % 8 < 4 ? byte & 15 : byte >> 4;
}

float entry(const Weights& w, const QuantizedRows& rows, int64_t m, int64_t tile, int row) {
  float y = 0;
  for (int64_t block = 0; block < w.num_blocks(); block++) {
    const int64_t place = tile * w.num_blocks() + block, at = block * rows.num_rows + m;
    const int8_t* x = rows.levels + at * w.block_size;
    int32_t sum = rows.offsets[at];
    for (int i = 0; i < w.block_size; i++)
      sum += x[i] * level(w, w.levels + place * w.block_bytes(), row, i);
    const float scaled = static_cast<float>(sum) * from_float16(w.scales[place * TILE + row]);
    y = fmaf(scaled, rows.scales[at], y);
  }
  return y;
}

void multiply(const Weights& w, const QuantizedRows& rows, float* y, int64_t first,
              int64_t last) {
  for (int64_t m = 0; m < rows.num_rows; m++)
    for (int64_t n = first * TILE; n < last * TILE && n < w.num_rows; n++)
      y[m * w.num_rows + n] = entry(w, rows, m, n / TILE, static_cast<int>(n % TILE));
}

bool available() { return true; }

} // namespace
} // namespace kernels

#include "attend.h"

namespace kernels {

const InstructionSet PORTABLE = {"portable", available, quantize, multiply, append, attend};

} // namespace kernels

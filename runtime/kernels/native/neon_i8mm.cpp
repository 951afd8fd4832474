// The product with NEON's product of 8-bit matrices: usmmla multiplies two rows of a tile with two
// rows of x, eight columns at a time.
//
// A row of x without a neighbour takes usdot, which adds four products per row of the tile.
#include "neon.h"

namespace kernels {
namespace {

constexpr int MAX_ROWS = 4; // of x at a time: 16 integer sums of 32 registers

// Integer sums of one block of one row of x; moves on.
template <int BITS>
inline void add_block(const uint8_t*& levels, const int8_t* x, int64_t block_size, Sums& sum) {
  for (int64_t column = 0; column < block_size; column += 8) {
    const Columns columns = unpack<BITS>(levels);
    const int8x8_t eight = vld1_s8(x + column);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      sum.v[i] = vusdotq_lane_s32(sum.v[i], columns.v[0][i], eight, 0);
      sum.v[i] = vusdotq_lane_s32(sum.v[i], columns.v[1][i], eight, 1);
    }
  }
}

// Of two rows of x: v[i] has rows 2 i and 2 i + 1 of the tile, each with both rows of x.
struct PairSums {
  int32x4_t v[8];
};

// Integer sums of one block of P pairs of rows of x; moves on.
template <int BITS, int P>
inline void add_block(const uint8_t*& levels, const int8_t* x, int64_t block_size,
                      PairSums sum[P]) {
  for (int64_t column = 0; column < block_size; column += 8) {
    const Columns columns = unpack<BITS>(levels);
    int8x16_t pairs[P];
#pragma GCC unroll 2
    for (int p = 0; p < P; p++) {
      const int8_t* from = x + 2 * p * block_size + column;
      pairs[p] = vcombine_s8(vld1_s8(from), vld1_s8(from + block_size));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const uint32x4_t first = vreinterpretq_u32_u8(columns.v[0][i]);
      const uint32x4_t second = vreinterpretq_u32_u8(columns.v[1][i]);
      const uint8x16_t low = vreinterpretq_u8_u32(vzip1q_u32(first, second));
      const uint8x16_t high = vreinterpretq_u8_u32(vzip2q_u32(first, second));
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) {
        sum[p].v[2 * i] = vusmmlaq_s32(sum[p].v[2 * i], low, pairs[p]);
        sum[p].v[2 * i + 1] = vusmmlaq_s32(sum[p].v[2 * i + 1], high, pairs[p]);
      }
    }
  }
}

inline PairSums both(const int32_t* offsets) {
  const int32x2_t two = vld1_s32(offsets);
  const int32x4_t four = vcombine_s32(two, two);
  return {{four, four, four, four, four, four, four, four}};
}

// The sums of the first row of x, or of the second.
inline Sums first_of(const PairSums& sum) {
  Sums own;
  for (int i = 0; i < 4; i++) own.v[i] = vuzp1q_s32(sum.v[2 * i], sum.v[2 * i + 1]);
  return own;
}

inline Sums second_of(const PairSums& sum) {
  Sums own;
  for (int i = 0; i < 4; i++) own.v[i] = vuzp2q_s32(sum.v[2 * i], sum.v[2 * i + 1]);
  return own;
}

// P pairs of rows of x and, where there is one, a single row after them, with one tile.
template <int BITS, int P, bool SINGLE>
void multiply_rows(const Weights& w, const QuantizedRows& rows, int64_t m, int64_t tile, float* y) {
  constexpr int R = 2 * P + SINGLE;
  const int64_t num_blocks = w.num_blocks(), block_size = w.block_size;
  const uint8_t* levels = w.levels + tile * num_blocks * w.block_bytes();
  const uint16_t* scales = w.scales + tile * num_blocks * TILE;
  Floats total[R] = {};
  for (int64_t block = 0; block < num_blocks; block++, scales += TILE) {
    const int64_t at = block * rows.num_rows + m;
    const int8_t* x = rows.levels + at * block_size;
    const uint8_t* next = levels + w.block_bytes();
    if constexpr (P > 0) {
      PairSums sum[P];
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) sum[p] = both(rows.offsets + at + 2 * p);
      const uint8_t* from = levels;
      add_block<BITS, P>(from, x, block_size, sum);
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) {
        add_scaled(total[2 * p], first_of(sum[p]), scales, rows.scales[at + 2 * p]);
        add_scaled(total[2 * p + 1], second_of(sum[p]), scales, rows.scales[at + 2 * p + 1]);
      }
    }
    if constexpr (SINGLE) {
      Sums sum = all(rows.offsets[at + 2 * P]);
      add_block<BITS>(levels, x + 2 * P * block_size, block_size, sum);
      add_scaled(total[2 * P], sum, scales, rows.scales[at + 2 * P]);
    }
    levels = next;
  }
  for (int r = 0; r < R; r++) store(w, y, m + r, tile, total[r]);
}

// By the number of rows.
template <int BITS>
constexpr Multiply MULTIPLY[MAX_ROWS + 1] = {
    nullptr, multiply_rows<BITS, 0, true>, multiply_rows<BITS, 1, false>,
    multiply_rows<BITS, 1, true>, multiply_rows<BITS, 2, false>};

void multiply(const Weights& w, const QuantizedRows& rows, float* y, int64_t first,
              int64_t last) {
  multiply_groups(w.bits == 4 ? MULTIPLY<4> : MULTIPLY<8>, MAX_ROWS, w, rows, y, first, last);
}

bool available() { return has_dotprod() && has_i8mm(); }

} // namespace
} // namespace kernels

#include "attend.h"

namespace kernels {

const InstructionSet NEON_I8MM = {"neon_i8mm", available, quantize, multiply, append, attend};

} // namespace kernels

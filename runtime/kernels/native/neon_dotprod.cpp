// The product with NEON's dot product of signed bytes: sdot adds four products per row.
//
// A nibble is a signed byte as it is. A level of int8 is unsigned and becomes one by its zero, 128,
// so that the sum begins at zero instead of the offset.
#include "neon.h"

namespace kernels {
namespace {

constexpr int MAX_ROWS = 4; // of x at a time: 16 integer sums of 32 registers

template <int BITS>
inline int8x16_t as_signed(uint8x16_t levels) {
  if constexpr (BITS == 8) levels = veorq_u8(levels, vdupq_n_u8(128));
  return vreinterpretq_s8_u8(levels);
}

// Integer sums of one block of R rows of x; moves on.
template <int BITS, int R>
inline void add_block(const uint8_t*& levels, const int8_t* x, int64_t block_size, Sums sum[R]) {
  for (int64_t column = 0; column < block_size; column += 8) {
    const Columns columns = unpack<BITS>(levels);
    int8x8_t eight[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) eight[r] = vld1_s8(x + r * block_size + column);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const int8x16_t first = as_signed<BITS>(columns.v[0][i]);
      const int8x16_t second = as_signed<BITS>(columns.v[1][i]);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        sum[r].v[i] = vdotq_lane_s32(sum[r].v[i], first, eight[r], 0);
        sum[r].v[i] = vdotq_lane_s32(sum[r].v[i], second, eight[r], 1);
      }
    }
  }
}

// R rows of x, from row m on, with one tile.
template <int BITS, int R>
void multiply_rows(const Weights& w, const QuantizedRows& rows, int64_t m, int64_t tile, float* y) {
  const int64_t num_blocks = w.num_blocks(), block_size = w.block_size;
  const uint8_t* levels = w.levels + tile * num_blocks * w.block_bytes();
  const uint16_t* scales = w.scales + tile * num_blocks * TILE;
  Floats total[R] = {};
  for (int64_t block = 0; block < num_blocks; block++, scales += TILE) {
    const int64_t at = block * rows.num_rows + m;
    Sums sum[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) sum[r] = all(BITS == 4 ? rows.offsets[at + r] : 0);
    add_block<BITS, R>(levels, rows.levels + at * block_size, block_size, sum);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) add_scaled(total[r], sum[r], scales, rows.scales[at + r]);
  }
  for (int r = 0; r < R; r++) store(w, y, m + r, tile, total[r]);
}

// By the number of rows.
template <int BITS>
constexpr Multiply MULTIPLY[MAX_ROWS + 1] = {nullptr, multiply_rows<BITS, 1>, multiply_rows<BITS, 2>,
                                             multiply_rows<BITS, 3>, multiply_rows<BITS, 4>};

void multiply(const Weights& w, const QuantizedRows& rows, float* y, int64_t first,
              int64_t last) {
  multiply_groups(w.bits == 4 ? MULTIPLY<4> : MULTIPLY<8>, MAX_ROWS, w, rows, y, first, last);
}

bool available() { return has_dotprod(); }

} // namespace
} // namespace kernels

#include "attend.h"

namespace kernels {

const InstructionSet NEON_DOTPROD = {"neon_dotprod", available, quantize, multiply, append, attend};

} // namespace kernels

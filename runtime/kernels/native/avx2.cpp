// The product with AVX2: two vectors hold four columns of the 16 rows of a tile.
//
// vpmaddubsw adds two products in 16 bits. A nibble is at most 15, so the sums of 32 columns stay
// below 2 * 8 * 15 * 127 = 30,480 and cannot overflow; levels of int8 are taken as two nibbles.
#include "x86_256.h"
#include "x86_features.h"

namespace kernels {
namespace {

constexpr int MAX_ROWS = 4;   // of x at a time
constexpr int MANY_ROWS = 8;  // of x: from here on a block is unpacked once for all of them
constexpr int ROW_GROUP = 64; // of x whose sums stay in the first cache

// Adds four columns in 16 bits.
inline void add_columns(Pair& sum, Pair nibbles, const int8_t* x) {
  const __m256i four = four_columns(x);
  sum.a = _mm256_add_epi16(sum.a, _mm256_maddubs_epi16(nibbles.a, four));
  sum.b = _mm256_add_epi16(sum.b, _mm256_maddubs_epi16(nibbles.b, four));
  // Here, or the compiler computes the products of all rows first and runs out of registers.
  __asm__ volatile("" : "+x"(sum.a), "+x"(sum.b));
}

// Adds sums of 16 bits, times a factor, in 32 bits.
inline void widen(Pair& sum, Pair sum16, int factor) {
  const __m256i factors = _mm256_set1_epi16(static_cast<short>(factor));
  sum.a = _mm256_add_epi32(sum.a, _mm256_madd_epi16(sum16.a, factors));
  sum.b = _mm256_add_epi32(sum.b, _mm256_madd_epi16(sum16.b, factors));
}

// 32 columns of R rows of x, nibbles unpacked on the way; moves on.
template <int BITS, int R>
inline void add_32_columns(const uint8_t*& levels, const int8_t* x, int64_t stride, Pair sum[R]) {
  constexpr int STEP = BITS == 4 ? 8 : 4; // columns of a pair of vectors
  Pair low16[R] = {}, high16[R] = {};
#pragma GCC unroll 8
  for (int i = 0; i < 32 / STEP; i++) {
    _mm_prefetch(reinterpret_cast<const char*>(levels) + PREFETCH, _MM_HINT_T0);
    const Pair packed = load(levels);
    const Pair low = low_nibbles(packed), high = high_nibbles(packed);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const int8_t* columns = x + r * stride + STEP * i;
      add_columns(low16[r], low, columns);
      add_columns(BITS == 4 ? low16[r] : high16[r], high, BITS == 4 ? columns + 4 : columns);
    }
    levels += 4 * TILE;
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    widen(sum[r], low16[r], 1);
    if (BITS == 8) widen(sum[r], high16[r], 16);
  }
}

// Few rows of x, from row m on, with one tile.
template <int BITS, int R>
void multiply_rows(const Weights& w, const QuantizedRows& rows, int64_t m, int64_t tile, float* y) {
  const int64_t num_blocks = w.num_blocks(), block_size = w.block_size;
  const uint8_t* levels = w.levels + tile * num_blocks * w.block_bytes();
  const uint16_t* scales = w.scales + tile * num_blocks * TILE;
  Floats total[R] = {};
  for (int64_t block = 0; block < num_blocks; block++, scales += TILE) {
    const int64_t at = block * rows.num_rows + m;
    Pair sum[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const __m256i offset = _mm256_set1_epi32(rows.offsets[at + r]);
      sum[r] = {offset, offset};
    }
#pragma GCC unroll 1
    for (int64_t column = 0; column < block_size; column += 32)
      add_32_columns<BITS, R>(levels, rows.levels + at * block_size + column, block_size, sum);
    const Floats scale = from_float16(scales);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) add_scaled(total[r], sum[r], scale, rows.scales[at + r]);
  }
  for (int r = 0; r < R; r++) store(w, y, m + r, tile, total[r]);
}

// By the number of rows.
template <int BITS>
constexpr Multiply FEW[MAX_ROWS + 1] = {nullptr, multiply_rows<BITS, 1>, multiply_rows<BITS, 2>,
                                        multiply_rows<BITS, 3>, multiply_rows<BITS, 4>};

// A block of a tile as nibbles: pairs of vectors, four columns each; int8 low nibbles first, then
// high ones, 32 columns at a time.
template <int BITS>
inline void unpack(const uint8_t* levels, int64_t block_size, Pair* nibbles) {
  constexpr int PAIRS = BITS == 4 ? 4 : 8; // of packed vectors for 32 columns
  for (int64_t column = 0; column < block_size; column += 32, nibbles += 2 * PAIRS)
    for (int i = 0; i < PAIRS; i++, levels += 4 * TILE) {
      _mm_prefetch(reinterpret_cast<const char*>(levels) + PREFETCH, _MM_HINT_T0);
      const Pair packed = load(levels);
      nibbles[BITS == 4 ? 2 * i : i] = low_nibbles(packed);
      nibbles[BITS == 4 ? 2 * i + 1 : i + 8] = high_nibbles(packed);
    }
}

// 32 columns of four rows of x with unpacked nibbles.
inline void add_unpacked(const Pair* nibbles, const int8_t* x, int64_t stride, int factor,
                         Pair sum[4]) {
  Pair sum16[4] = {};
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    const Pair columns = load(nibbles + i);
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) add_columns(sum16[r], columns, x + r * stride + 4 * i);
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) widen(sum[r], sum16[r], factor);
}

template <int BITS>
inline void add_block(const Pair* nibbles, const QuantizedRows& rows, int64_t at,
                      int64_t block_size, Floats scale, Floats total[4]) {
  Pair sum[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) {
    const __m256i offset = _mm256_set1_epi32(rows.offsets[at + r]);
    sum[r] = {offset, offset};
  }
  const int8_t* x = rows.levels + at * block_size;
#pragma GCC unroll 1
  for (int64_t column = 0; column < block_size; column += 32) {
    add_unpacked(nibbles, x + column, block_size, 1, sum);
    nibbles += 8;
    if constexpr (BITS == 8) {
      add_unpacked(nibbles, x + column, block_size, 16, sum);
      nibbles += 8;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) add_scaled(total[r], sum[r], scale, rows.scales[at + r]);
}

// A group of rows, a multiple of four, with one tile: each block is unpacked once for all.
template <int BITS>
void multiply_group(const Weights& w, const QuantizedRows& rows, int64_t m, int64_t count,
                    int64_t tile, float* y) {
  const int64_t num_blocks = w.num_blocks();
  Pair nibbles[MAX_BLOCK / 4 * (BITS / 4)];
  Floats total[ROW_GROUP] = {};
  for (int64_t block = 0; block < num_blocks; block++) {
    const int64_t place = tile * num_blocks + block;
    unpack<BITS>(w.levels + place * w.block_bytes(), w.block_size, nibbles);
    const Floats scale = from_float16(w.scales + place * TILE);
    for (int64_t r = 0; r < count; r += 4)
      add_block<BITS>(nibbles, rows, block * rows.num_rows + m + r, w.block_size, scale, total + r);
  }
  for (int64_t r = 0; r < count; r++) store(w, y, m + r, tile, total[r]);
}

template <int BITS>
void multiply_tiles(const Weights& w, const QuantizedRows& rows, float* y, int64_t first,
                    int64_t last) {
  const int64_t many = rows.num_rows < MANY_ROWS ? 0 : rows.num_rows / 4 * 4;
  for (int64_t m = 0; m < many; m += ROW_GROUP)
    for (int64_t tile = first; tile < last; tile++)
      multiply_group<BITS>(w, rows, m, m + ROW_GROUP < many ? ROW_GROUP : many - m, tile, y);
  for (int64_t m = many; m < rows.num_rows; m += MAX_ROWS) {
    const int64_t left = rows.num_rows - m;
    for (int64_t tile = first; tile < last; tile++)
      FEW<BITS>[left < MAX_ROWS ? left : MAX_ROWS](w, rows, m, tile, y);
  }
}

void multiply(const Weights& w, const QuantizedRows& rows, float* y, int64_t first,
              int64_t last) {
  const auto tiles = w.bits == 4 ? multiply_tiles<4> : multiply_tiles<8>;
  for (int64_t start = first; start < last; start += TILE_GROUP)
    tiles(w, rows, y, start, start + TILE_GROUP < last ? start + TILE_GROUP : last);
}

bool available() { return x86_features().avx2(); }

} // namespace
} // namespace kernels

#include "attend.h"

namespace kernels {

const InstructionSet AVX2 = {"avx2", available, quantize, multiply, append, attend};

} // namespace kernels

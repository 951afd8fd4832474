// The product with AVX-VNNI: two vectors hold four columns of the 16 rows of a tile.
//
// vpdpbusd adds four products per row, as with AVX-512 VNNI, in vectors half as wide. AVX-512VL has
// the same instruction in another encoding: compiled for it, this file runs where AVX-VNNI is not,
// which is how it is tested there.
#include "x86_256.h"
#include "x86_features.h"

namespace kernels {
namespace {

constexpr int MAX_ROWS = 5; // of x at a time: 10 integer sums of 16 registers

#if defined(__AVXVNNI__)
bool available() { return x86_features().avx_vnni(); }
inline __m256i add_products(__m256i sum, __m256i levels, __m256i x) {
  return _mm256_dpbusd_avx_epi32(sum, levels, x);
}
#else
bool available() { return x86_features().avx512_vnni(); }
inline __m256i add_products(__m256i sum, __m256i levels, __m256i x) {
  return _mm256_dpbusd_epi32(sum, levels, x);
}
#endif

// Four columns of R rows of x.
template <int R>
inline void add_columns(Pair levels, const int8_t* x, int64_t stride, Pair sum[R]) {
#pragma GCC unroll 5
  for (int r = 0; r < R; r++) {
    const __m256i four = four_columns(x + r * stride);
    sum[r].a = add_products(sum[r].a, levels.a, four);
    sum[r].b = add_products(sum[r].b, levels.b, four);
  }
}

// Integer sums of one block of R rows of x; moves on.
template <int BITS, int R>
inline void add_block(const uint8_t*& levels, const int8_t* x, int64_t block_size, Pair sum[R]) {
  Pair other[R] = {}; // of every second four columns, since vpdpbusd takes 4 or 5 cycles
#pragma GCC unroll 2
  for (int64_t column = 0; column < block_size; column += 8) {
    _mm_prefetch(reinterpret_cast<const char*>(levels) + PREFETCH, _MM_HINT_T0);
    const Pair first = load(levels);
    const Pair second = BITS == 4 ? high_nibbles(first) : load(levels + 4 * TILE);
    add_columns<R>(BITS == 4 ? low_nibbles(first) : first, x + column, block_size, sum);
    add_columns<R>(second, x + column + 4, block_size, R <= 2 ? other : sum);
    levels += BITS * TILE;
  }
  if constexpr (R <= 2) {
#pragma GCC unroll 2
    for (int r = 0; r < R; r++) {
      sum[r].a = _mm256_add_epi32(sum[r].a, other[r].a);
      sum[r].b = _mm256_add_epi32(sum[r].b, other[r].b);
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
    Pair sum[R];
#pragma GCC unroll 5
    for (int r = 0; r < R; r++) {
      const __m256i offset = _mm256_set1_epi32(rows.offsets[at + r]);
      sum[r] = {offset, offset};
    }
    add_block<BITS, R>(levels, rows.levels + at * block_size, block_size, sum);
    const Floats scale = from_float16(scales);
#pragma GCC unroll 5
    for (int r = 0; r < R; r++) add_scaled(total[r], sum[r], scale, rows.scales[at + r]);
  }
  for (int r = 0; r < R; r++) store(w, y, m + r, tile, total[r]);
}

// By the number of rows.
template <int BITS>
constexpr Multiply MULTIPLY[MAX_ROWS + 1] = {
    nullptr,
    multiply_rows<BITS, 1>, multiply_rows<BITS, 2>, multiply_rows<BITS, 3>,
    multiply_rows<BITS, 4>, multiply_rows<BITS, 5>,
};

void multiply(const Weights& w, const QuantizedRows& rows, float* y, int64_t first,
              int64_t last) {
  multiply_groups(w.bits == 4 ? MULTIPLY<4> : MULTIPLY<8>, MAX_ROWS, w, rows, y, first, last);
}

} // namespace
} // namespace kernels

#include "attend.h"

namespace kernels {

const InstructionSet AVX_VNNI = {"avx_vnni", available, quantize, multiply, append, attend};

} // namespace kernels

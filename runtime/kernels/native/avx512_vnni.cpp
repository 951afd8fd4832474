// The product with AVX-512 VNNI: one vector holds four columns of all 16 rows of a tile.
//
// vpdpbusd adds four products per row. Up to R rows of x stay in registers, integer sums and float
// sums both, so weights are unpacked once for R rows.
#include "row_groups.h"
#include "x86_features.h"

#include <immintrin.h>

namespace kernels {
namespace {

constexpr int MAX_ROWS = 12; // of x at a time: 12 integer and 12 float sums of 32 registers

void quantize_block(const float* x, int64_t count, int block_size, int zero, int8_t* levels,
                    float* scale, int32_t* offset) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const int vectors = block_size / 16;
  __m512 v[MAX_BLOCK / 16];
  __m512i largest_bits = _mm512_setzero_si512(); // as integers NaN is above infinity
  for (int i = 0; i < vectors; i++) {
    const int64_t left = count - 16 * i;
    const int mask = left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
    v[i] = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x + 16 * i);
    const __m512i bits = _mm512_and_si512(_mm512_castps_si512(v[i]), magnitude);
    largest_bits = _mm512_max_epu32(largest_bits, bits);
  }
  const int bits = static_cast<int>(_mm512_reduce_max_epu32(largest_bits));
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
  const bool finite = largest < __builtin_inff(), zeros = !finite || largest < SMALLEST;
  // A NaN or an infinity is no level: the block counts as zero and its scale is NaN.
  const __mmask16 kept = zeros ? 0 : 0xffff;
  const __m512 inverse = _mm512_set1_ps(127.0f / (zeros ? 1.0f : largest));
  __m512i sum = _mm512_setzero_si512();
  for (int i = 0; i < vectors; i++) {
    const __m512i level = _mm512_maskz_cvtps_epi32(kept, _mm512_mul_ps(v[i], inverse));
    sum = _mm512_add_epi32(sum, level);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(levels + 16 * i), _mm512_cvtepi32_epi8(level));
  }
  *scale = !finite ? __builtin_nanf("") : zeros ? 0.0f : largest / 127.0f;
  *offset = -zero * _mm512_reduce_add_epi32(sum);
}

void quantize(const Weights& w, const float* x, const QuantizedRows& rows, int64_t first,
              int64_t last) {
  for (int64_t row = first; row < last; row++)
    for (int64_t block = 0; block < w.num_blocks(); block++) {
      const int64_t start = block * w.block_size, place = block * rows.num_rows + row;
      quantize_block(x + row * w.num_columns + start, w.num_columns - start, w.block_size,
                     1 << (w.bits - 1), rows.levels + place * w.block_size, rows.scales + place,
                     rows.offsets + place);
    }
}

// Eight columns of a tile as two vectors of unsigned levels; moves on.
template <int BITS>
inline void unpack(const uint8_t*& levels, __m512i parts[2]) {
  _mm_prefetch(reinterpret_cast<const char*>(levels) + PREFETCH, _MM_HINT_T0);
  parts[0] = _mm512_loadu_si512(levels);
  if constexpr (BITS == 4) {
    const __m512i low = _mm512_set1_epi8(15);
    parts[1] = _mm512_and_si512(_mm512_srli_epi16(parts[0], 4), low);
    parts[0] = _mm512_and_si512(parts[0], low);
  } else {
    parts[1] = _mm512_loadu_si512(levels + 64);
  }
  levels += 16 * BITS;
}

// Integer sums of one block of R rows of x.
template <int BITS, int R>
inline void add_block(const uint8_t*& levels, const int8_t* x, int64_t block_size,
                      const int32_t* offsets, __m512i sums[R]) {
  constexpr int SPLIT = R == 1 ? 4 : R <= 3 ? 2 : 1; // vpdpbusd takes 4 or 5 cycles
  __m512i sum[R][SPLIT];
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) {
    sum[r][0] = _mm512_set1_epi32(offsets[r]);
    for (int s = 1; s < SPLIT; s++) sum[r][s] = _mm512_setzero_si512();
  }
#pragma GCC unroll 1
  for (int64_t column = 0; column < block_size; column += 16) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      __m512i parts[2];
      unpack<BITS>(levels, parts);
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
          int32_t four;
          __builtin_memcpy(&four, x + r * block_size + column + 8 * half + 4 * i, 4);
          __m512i& into = sum[r][(2 * half + i) % SPLIT];
          into = _mm512_dpbusd_epi32(into, parts[i], _mm512_set1_epi32(four));
        }
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) {
    sums[r] = sum[r][0];
    for (int s = 1; s < SPLIT; s++) sums[r] = _mm512_add_epi32(sums[r], sum[r][s]);
  }
}

// R rows of x, from row m on, with one tile.
template <int BITS, int R>
void multiply_rows(const Weights& w, const QuantizedRows& rows, int64_t m, int64_t tile, float* y) {
  const int64_t num_blocks = w.num_blocks(), block_size = w.block_size;
  const uint8_t* levels = w.levels + tile * num_blocks * w.block_bytes();
  const uint16_t* scales = w.scales + tile * num_blocks * TILE;
  __m512 total[R];
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) total[r] = _mm512_setzero_ps();
  for (int64_t block = 0; block < num_blocks; block++, scales += TILE) {
    const int64_t at = block * rows.num_rows + m;
    __m512i sums[R];
    add_block<BITS, R>(levels, rows.levels + at * block_size, block_size, rows.offsets + at, sums);
    const __m512 scale =
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), scale);
      total[r] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(rows.scales[at + r]), total[r]);
    }
  }
  const int64_t left = w.num_rows - tile * TILE;
  const __mmask16 mask = static_cast<__mmask16>(left >= TILE ? 0xffff : (1 << left) - 1);
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
    _mm512_mask_storeu_ps(y + (m + r) * w.num_rows + tile * TILE, mask, total[r]);
}

// By the number of rows.
template <int BITS>
constexpr Multiply MULTIPLY[MAX_ROWS + 1] = {
    nullptr,
    multiply_rows<BITS, 1>, multiply_rows<BITS, 2>, multiply_rows<BITS, 3>,
    multiply_rows<BITS, 4>, multiply_rows<BITS, 5>, multiply_rows<BITS, 6>,
    multiply_rows<BITS, 7>, multiply_rows<BITS, 8>, multiply_rows<BITS, 9>,
    multiply_rows<BITS, 10>, multiply_rows<BITS, 11>, multiply_rows<BITS, 12>,
};

void multiply(const Weights& w, const QuantizedRows& rows, float* y, int64_t first,
              int64_t last) {
  multiply_groups(w.bits == 4 ? MULTIPLY<4> : MULTIPLY<8>, MAX_ROWS, w, rows, y, first, last);
}

bool available() { return x86_features().avx512_vnni(); }

} // namespace
} // namespace kernels

#include "attend.h"

namespace kernels {

const InstructionSet AVX512_VNNI = {"avx512_vnni", available, quantize, multiply, append, attend};

} // namespace kernels

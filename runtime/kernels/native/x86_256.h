// What the instruction sets with vectors of 256 bits share: rows of x become levels, two vectors
// hold the 16 rows of a tile.
#pragma once

#include "row_groups.h"

#include <immintrin.h>

namespace kernels {
namespace { // each file its own copy, compiled for its own instructions

float largest_magnitude(const float* x, int vectors) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256(); // as integers NaN is above infinity
  for (int i = 0; i < vectors; i++) {
    const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + 8 * i));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
  }
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(half));
}

int add_lanes(__m256i v) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtsi128_si32(half);
}

void quantize_block(const float* x, int block_size, int zero, int8_t* levels, float* scale,
                    int32_t* offset) {
  const float largest = largest_magnitude(x, block_size / 8);
  const bool finite = largest < __builtin_inff(), zeros = !finite || largest < SMALLEST;
  const __m256 inverse = _mm256_set1_ps(zeros ? 0.0f : 127.0f / largest);
  // A NaN or an infinity is no level: the block counts as zero and its scale is NaN.
  const __m256i kept = _mm256_set1_epi32(zeros ? 0 : -1);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < block_size; i += 32) {
    __m256i four[4];
    for (int j = 0; j < 4; j++) {
      const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * j), inverse);
      four[j] = _mm256_and_si256(_mm256_cvtps_epi32(scaled), kept);
      sum = _mm256_add_epi32(sum, four[j]);
    }
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(four[0], four[1]),
                                              _mm256_packs_epi32(four[2], four[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(levels + i),
                        _mm256_permutevar8x32_epi32(packed, order));
  }
  *scale = !finite ? __builtin_nanf("") : zeros ? 0.0f : largest / 127.0f;
  *offset = -zero * add_lanes(sum);
}

void quantize(const Weights& w, const float* x, const QuantizedRows& rows, int64_t first,
              int64_t last) {
  quantize_blocks<quantize_block>(w, x, rows, first, last);
}

struct Pair { // of vectors: rows 0 to 7 and 8 to 15 of a tile
  __m256i a, b;
};

inline Pair load(const void* from) {
  const __m256i* vectors = static_cast<const __m256i*>(from);
  return {_mm256_loadu_si256(vectors), _mm256_loadu_si256(vectors + 1)};
}

inline Pair low_nibbles(Pair v) {
  const __m256i low = _mm256_set1_epi8(15);
  return {_mm256_and_si256(v.a, low), _mm256_and_si256(v.b, low)};
}

inline Pair high_nibbles(Pair v) {
  return low_nibbles({_mm256_srli_epi16(v.a, 4), _mm256_srli_epi16(v.b, 4)});
}

inline __m256i four_columns(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

struct Floats {
  __m256 a, b;
};

inline Floats from_float16(const uint16_t* scales) {
  const __m128i* halves = reinterpret_cast<const __m128i*>(scales);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}

inline void add_scaled(Floats& total, Pair sum, Floats scale, float x_scale) {
  const __m256 factor = _mm256_set1_ps(x_scale);
  const __m256 a = _mm256_mul_ps(_mm256_cvtepi32_ps(sum.a), scale.a);
  const __m256 b = _mm256_mul_ps(_mm256_cvtepi32_ps(sum.b), scale.b);
  total.a = _mm256_fmadd_ps(a, factor, total.a);
  total.b = _mm256_fmadd_ps(b, factor, total.b);
}

// Where the sums of R rows of x go: y, without the rows that only fill the last tile.
inline void store(const Weights& w, float* y, int64_t m, int64_t tile, Floats total) {
  float* to = y + m * w.num_rows + tile * TILE;
  const int64_t left = w.num_rows - tile * TILE;
  if (left >= TILE) {
    _mm256_storeu_ps(to, total.a);
    _mm256_storeu_ps(to + 8, total.b);
    return;
  }
  float entries[TILE];
  _mm256_storeu_ps(entries, total.a);
  _mm256_storeu_ps(entries + 8, total.b);
  for (int64_t i = 0; i < left; i++) to[i] = entries[i];
}

} // namespace
} // namespace kernels

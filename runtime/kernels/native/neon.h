// What the instruction sets of aarch64 share: rows of x become levels, four vectors hold the 16 rows
// of a tile.
#pragma once

#include "row_groups.h"

#include <arm_neon.h>
#include <sys/auxv.h>

namespace kernels {
namespace { // each file its own copy, compiled for its own instructions

// Bits of getauxval in arch/arm64/include/uapi/asm/hwcap.h of Linux.
inline bool has_dotprod() { return getauxval(AT_HWCAP) & 1ul << 20; }
inline bool has_i8mm() { return getauxval(AT_HWCAP2) & 1ul << 13; }

void quantize_block(const float* x, int block_size, int zero, int8_t* levels, float* scale,
                    int32_t* offset) {
  uint32x4_t bits = vdupq_n_u32(0); // as integers NaN is above infinity
  for (int i = 0; i < block_size; i += 4)
    bits = vmaxq_u32(bits, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
  const float largest = vgetq_lane_f32(vreinterpretq_f32_u32(vdupq_n_u32(vmaxvq_u32(bits))), 0);
  const bool finite = largest < __builtin_inff(), zeros = !finite || largest < SMALLEST;
  const float inverse = zeros ? 0.0f : 127.0f / largest;
  // A NaN or an infinity is no level: the block counts as zero and its scale is NaN.
  const int32x4_t kept = vdupq_n_s32(zeros ? 0 : -1);
  int32x4_t sum = vdupq_n_s32(0);
  for (int i = 0; i < block_size; i += 8) {
    int32x4_t four[2];
    for (int j = 0; j < 2; j++) {
      four[j] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4 * j), inverse));
      four[j] = vandq_s32(four[j], kept);
      sum = vaddq_s32(sum, four[j]);
    }
    vst1_s8(levels + i, vmovn_s16(vcombine_s16(vmovn_s32(four[0]), vmovn_s32(four[1]))));
  }
  *scale = !finite ? __builtin_nanf("") : zeros ? 0.0f : largest / 127.0f;
  *offset = -zero * vaddvq_s32(sum);
}

void quantize(const Weights& w, const float* x, const QuantizedRows& rows, int64_t first,
              int64_t last) {
  quantize_blocks<quantize_block>(w, x, rows, first, last);
}

// Sums of a tile's 16 rows, four in a vector.
struct Sums {
  int32x4_t v[4];
};

struct Floats {
  float32x4_t v[4];
};

inline Sums all(int32_t value) {
  const int32x4_t four = vdupq_n_s32(value);
  return {{four, four, four, four}};
}

inline void add_scaled(Floats& total, const Sums& sum, const uint16_t* scales, float x_scale) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const float16x4_t halves = vreinterpret_f16_u16(vld1_u16(scales + 4 * i));
    const float32x4_t scaled = vmulq_f32(vcvtq_f32_s32(sum.v[i]), vcvt_f32_f16(halves));
    total.v[i] = vfmaq_n_f32(total.v[i], scaled, x_scale);
  }
}

// Where the sums of a row of x go: y, without the rows that only fill the last tile.
inline void store(const Weights& w, float* y, int64_t m, int64_t tile, const Floats& total) {
  float* to = y + m * w.num_rows + tile * TILE;
  const int64_t left = w.num_rows - tile * TILE;
  float entries[TILE];
  float* into = left >= TILE ? to : entries;
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) vst1q_f32(into + 4 * i, total.v[i]);
  if (into == to) return;
  for (int64_t i = 0; i < left; i++) to[i] = entries[i];
}

// Eight columns of a tile's 16 rows as levels: v[0] the first four columns, v[1] the others.
struct Columns {
  uint8x16_t v[2][4];
};

template <int BITS>
inline Columns unpack(const uint8_t*& levels) {
  __builtin_prefetch(levels + PREFETCH);
  Columns columns;
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const uint8x16_t packed = vld1q_u8(levels + 16 * i);
    if constexpr (BITS == 4) {
      columns.v[0][i] = vandq_u8(packed, vdupq_n_u8(15));
      columns.v[1][i] = vshrq_n_u8(packed, 4);
    } else {
      columns.v[0][i] = packed;
      columns.v[1][i] = vld1q_u8(levels + 4 * TILE + 16 * i);
    }
  }
  levels += BITS * TILE;
  return columns;
}

} // namespace
} // namespace kernels

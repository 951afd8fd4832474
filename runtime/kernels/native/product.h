// The product y = x W^T of float rows with int4 or int8 weights, as every instruction set computes it.
//
// Weights lie in tiles of 16 output rows, for all instruction sets alike, and are read where they
// are mapped. Rows of x are quantised to int8, one scale per row and block of columns. Inside a
// block all sums are exact integers; across blocks each output adds, in the order of the blocks,
//
//     y = fma(float(sum of x_level * (w_level - zero)) * w_scale, x_scale, y)
//
// so every instruction set gives the same bits, for any number of threads and of rows.
#pragma once

#include <stdint.h>

// Never a function of its own: the linker would keep one of the files' copies for all, and with it
// the instructions of that file.
#define ALONE __attribute__((always_inline)) inline

namespace kernels {

constexpr int TILE = 16;              // output rows of a tile
constexpr int COLUMNS = 32;           // a block is a multiple of so many columns
constexpr int MAX_BLOCK = 256;        // columns that share a scale, at most
constexpr float SMALLEST = 0x1p-100f; // a block of x whose largest entry is smaller counts as zero

// W (num_rows, num_columns), padded with zeros to whole tiles and blocks.
struct Weights {
  // int4: (tiles, blocks, block_size / 8, 16 rows, 4): the low nibbles of the four bytes are
  // columns 8 i to 8 i + 3, the high ones 8 i + 4 to 8 i + 7. int8: (tiles, blocks,
  // block_size / 4, 16 rows, 4 columns). A level stands for level - 2^(bits - 1).
  const uint8_t* levels;
  const uint16_t* scales; // float16 (tiles, blocks, 16)
  int64_t num_rows;
  int64_t num_columns;
  int block_size;
  int bits; // 4 or 8

  ALONE int64_t num_blocks() const { return (num_columns + block_size - 1) / block_size; }
  ALONE int64_t num_tiles() const { return (num_rows + TILE - 1) / TILE; }
  ALONE int block_bytes() const { return TILE * block_size * bits / 8; } // of one tile and block
};

// Rows of x, quantised: block after block, so that the rows of one block lie together.
struct QuantizedRows {
  int8_t* levels;   // (blocks, num_rows, block_size), -127 to 127
  float* scales;    // (blocks, num_rows); NaN where a block has a NaN or an infinity
  int32_t* offsets; // (blocks, num_rows): -2^(bits - 1) times the sum of the levels
  int64_t num_rows;
};

struct Attention; // attention.h

struct InstructionSet {
  const char* name;
  bool (*available)();
  // Quantises rows first to last - 1 of x (num_rows, num_columns).
  void (*quantize)(const Weights&, const float* x, const QuantizedRows&, int64_t first,
                   int64_t last);
  // Tiles first to last - 1 of y (num_rows of x, num_rows of W).
  void (*multiply)(const Weights&, const QuantizedRows&, float* y, int64_t first, int64_t last);
  // Puts a new row of a sequence into the cache.
  void (*append)(const Attention&, int64_t batch, int64_t row);
  // One of num_parts() parts of the result; false where there is no memory for it.
  bool (*attend)(const Attention&, int64_t part);
};

extern const InstructionSet PORTABLE;
#if defined(__x86_64__)
extern const InstructionSet AVX2;
extern const InstructionSet AVX_VNNI;
extern const InstructionSet AVX512_VNNI;
#elif defined(__aarch64__)
extern const InstructionSet NEON_DOTPROD;
extern const InstructionSet NEON_I8MM;
#endif

} // namespace kernels

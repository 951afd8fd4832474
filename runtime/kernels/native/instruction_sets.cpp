// The list of instruction sets, the choice among them, and what Python calls directly.
#include "attention.h"
#include "instruction_sets.h"

#include <stdlib.h>
#include <string.h>

namespace kernels {
namespace {

constexpr int LIBRARY_VERSION = 2; // of the operators and of the functions below
constexpr int64_t LARGEST = 1 << 24;

// Fastest first.
const InstructionSet* const SETS[] = {
#if defined(__x86_64__)
    &AVX512_VNNI,
    &AVX_VNNI,
    &AVX2,
#elif defined(__aarch64__)
    &NEON_I8MM,
    &NEON_DOTPROD,
#endif
    &PORTABLE,
};

const InstructionSet* selected = nullptr;

} // namespace

const InstructionSet& chosen() {
  if (selected) return *selected;
  for (const InstructionSet* set : SETS)
    if (set->available()) return *set;
  return PORTABLE;
}

bool supported(int64_t num_rows, int64_t num_columns, int64_t block_size, int64_t bits) {
  return num_rows >= 1 && num_rows <= LARGEST && num_columns >= 1 && num_columns <= LARGEST &&
         block_size >= COLUMNS && block_size <= MAX_BLOCK && block_size % COLUMNS == 0 &&
         (bits == 4 || bits == 8);
}

size_t quantized_bytes(const Weights& w, int64_t num_rows) {
  return static_cast<size_t>(num_rows * w.num_blocks() * (w.block_size + 8));
}

QuantizedRows quantized_rows(const Weights& w, int64_t num_rows, void* memory) {
  const int64_t count = num_rows * w.num_blocks();
  int8_t* levels = static_cast<int8_t*>(memory);
  float* scales = reinterpret_cast<float*>(levels + count * w.block_size);
  return {levels, scales, reinterpret_cast<int32_t*>(scales + count), num_rows};
}

} // namespace kernels

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int kernels_version() { return kernels::LIBRARY_VERSION; }

// The name of the i-th instruction set that this CPU has, fastest first; null after the last.
EXPORTED const char* kernels_instruction_set(int i) {
  for (const kernels::InstructionSet* set : kernels::SETS)
    if (set->available() && i-- == 0) return set->name;
  return nullptr;
}

// Makes later sessions use an instruction set; null for the fastest. 0, or -1 for an unknown name.
EXPORTED int kernels_select(const char* name) {
  kernels::selected = nullptr;
  if (!name) return 0;
  for (const kernels::InstructionSet* set : kernels::SETS)
    if (set->available() && strcmp(set->name, name) == 0) {
      kernels::selected = set;
      return 0;
    }
  return -1;
}

// y (M, N) = x (M, K) W^T with what is selected, in this thread. 0, or -1.
EXPORTED int kernels_multiply(const float* x, int64_t M, int64_t K, const uint8_t* levels,
                              const uint16_t* scales, int64_t N, int64_t block_size, int64_t bits,
                              float* y) {
  using namespace kernels;
  if (!supported(N, K, block_size, bits)) return -1;
  const Weights w = {levels, scales, N, K, static_cast<int>(block_size), static_cast<int>(bits)};
  void* memory = malloc(quantized_bytes(w, M) + 1);
  if (!memory) return -1;
  const QuantizedRows rows = quantized_rows(w, M, memory);
  chosen().quantize(w, x, rows, 0, M);
  chosen().multiply(w, rows, y, 0, w.num_tiles());
  free(memory);
  return 0;
}

// Appends new rows and computes their attention with what is selected, in this thread. 0, or -1.
EXPORTED int kernels_attend(const kernels::Attention* a) {
  using namespace kernels;
  if (!supported(*a) || !inside(*a)) return -1;
  for (int64_t i = 0; i < a->batch_size * a->num_rows; i++)
    chosen().append(*a, i / a->num_rows, i % a->num_rows);
  for (int64_t part = 0; part < a->num_parts(); part++)
    if (!chosen().attend(*a, part)) return -1;
  return 0;
}

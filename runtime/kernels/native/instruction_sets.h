// Which instruction set computes, and the memory that quantised rows take.
#pragma once

#include "product.h"

#include <stddef.h>

namespace kernels {

// The instruction set of sessions that are opened from now on: the fastest, or what was selected.
const InstructionSet& chosen();

// Whether the product is made for such weights.
bool supported(int64_t num_rows, int64_t num_columns, int64_t block_size, int64_t bits);

size_t quantized_bytes(const Weights&, int64_t num_rows);
QuantizedRows quantized_rows(const Weights&, int64_t num_rows, void* memory);

} // namespace kernels

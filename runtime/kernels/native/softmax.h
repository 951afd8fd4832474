// Scores become probabilities: the same bits from every instruction set.
#pragma once

#include "product.h"

#include <math.h>

namespace kernels {
namespace { // each file its own copy, compiled for its own instructions

constexpr int LANES = 16;
typedef float Lanes __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES), may_alias));

// x becomes e^x, for x <= 0; what is below -87 counts as -87. As expf of Cephes.
ALONE void exponential(Lanes& x) {
  x = x < -87.0f ? Lanes{} - 87.0f : x;
  const float rounds = 0x1.8p23f; // what is added to it becomes an integer
  const Lanes shifted = x * 1.44269504f + rounds, n = shifted - rounds;
  const Lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  x = (Lanes)((Bits)p + ((Bits)shifted << 23));
}

// What a row of queries has seen up to now.
struct Seen {
  float largest; // score
  float sum;     // of e^(score - largest)
};

// The sum of two rows of scores becomes e^(score - largest) in the first, with zeros from `count`
// on. Returns what earlier sums are worth beside it. Rows are whole vectors of `padded` entries.
ALONE float probabilities(float* scores, const float* others, int64_t count, int64_t padded,
                          Seen& seen) {
  const Lanes lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  Lanes* const row = reinterpret_cast<Lanes*>(scores);
  const Lanes* const other = reinterpret_cast<const Lanes*>(others);
  const int64_t vectors = padded / LANES;
  Lanes largest = Lanes{} + seen.largest;
  for (int64_t i = 0; i < vectors; i++) {
    const Lanes score = row[i] + other[i];
    row[i] = lane < static_cast<float>(count - i * LANES) ? score : Lanes{} - INFINITY;
    largest = row[i] > largest ? row[i] : largest;
  }
  float most = largest[0];
  for (int i = 1; i < LANES; i++) most = largest[i] > most ? largest[i] : most;
  Lanes sums = {};
  for (int64_t i = 0; i < vectors; i++) {
    Lanes p = row[i] - most;
    exponential(p);
    row[i] = lane < static_cast<float>(count - i * LANES) ? p : Lanes{};
    sums += row[i];
  }
  Lanes kept = Lanes{} + (seen.largest - most);
  exponential(kept);
  float sum = sums[0];
  for (int i = 1; i < LANES; i++) sum += sums[i];
  seen = {most, seen.sum * kept[0] + sum};
  return kept[0];
}

} // namespace
} // namespace kernels

// Products and attention of another machine's library, for tests that run this under an emulator.
//
//   products                         names of the instruction sets that the CPU has, a line each
//   products NAME < IN > OUT         IN: int64 M, K, N, block size, bits; x, levels, scales; again
//                                    and again until it ends. OUT: each y (M, N).
//   products NAME attend < IN > OUT  IN: the six sizes of Attention and its arrays, again and again.
//                                    OUT: each y, then the cache.
#include "attention.h"

#include <stdint.h>
#include <stdio.h>
#include <vector>

extern "C" const char* kernels_instruction_set(int i);
extern "C" int kernels_select(const char* name);
extern "C" int kernels_multiply(const float* x, int64_t M, int64_t K, const uint8_t* levels,
                                const uint16_t* scales, int64_t N, int64_t block_size,
                                int64_t bits, float* y);

template <class T>
std::vector<T> read(int64_t count) {
  std::vector<T> all(static_cast<size_t>(count));
  if (fread(all.data(), sizeof(T), all.size(), stdin) != all.size()) all.clear();
  return all;
}

extern "C" int kernels_attend(const kernels::Attention* a);

int attend() {
  int64_t n[6];
  while (fread(n, sizeof(int64_t), 6, stdin) == 6) {
    const auto [B, S, H, G, D, rows] = n;
    const auto query = read<float>(B * S * H * D), key = read<float>(B * S * G * D);
    const auto value = read<float>(B * S * G * D);
    const auto cos = read<float>(rows * D / 2), sin = read<float>(rows * D / 2);
    const auto key_scale = read<float>(G * D), value_scale = read<float>(G * D);
    const auto last = read<int32_t>(B);
    auto keys = read<int8_t>(B * G * rows * D), values = read<int8_t>(B * G * rows * D);
    std::vector<float> y(static_cast<size_t>(B * S * H * D));
    const kernels::Attention a = {
        B, S, H, G, D, rows, query.data(), key.data(), value.data(), H * D, G * D, G * D,
        cos.data(), sin.data(), key_scale.data(), value_scale.data(), last.data(), keys.data(),
        values.data(), y.data()};
    if (kernels_attend(&a)) return 3;
    fwrite(y.data(), sizeof(float), y.size(), stdout);
    fwrite(keys.data(), 1, keys.size(), stdout);
    fwrite(values.data(), 1, values.size(), stdout);
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 1) {
    for (int i = 0; const char* name = kernels_instruction_set(i); i++) puts(name);
    return 0;
  }
  if (kernels_select(argv[1])) return 2;
  if (argc == 3) return attend();
  int64_t sizes[5];
  while (fread(sizes, sizeof(int64_t), 5, stdin) == 5) {
    const auto [M, K, N, block_size, bits] = sizes;
    const int64_t blocks = (N + 15) / 16 * ((K + block_size - 1) / block_size);
    const auto x = read<float>(M * K);
    const auto levels = read<uint8_t>(blocks * 16 * block_size * bits / 8);
    const auto scales = read<uint16_t>(blocks * 16);
    std::vector<float> y(static_cast<size_t>(M * N));
    if (kernels_multiply(x.data(), M, K, levels.data(), scales.data(), N, block_size, bits, y.data()))
      return 3;
    fwrite(y.data(), sizeof(float), y.size(), stdout);
  }
  return 0;
}

// Products of another machine's library, for tests that run this under an emulator.
//
//   products                     names of the instruction sets that the CPU has, a line each
//   products NAME < IN > OUT     IN: int64 M, K, N, block size, bits; x, levels, scales; again and
//                                again until it ends. OUT: each y (M, N).
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

int main(int argc, char** argv) {
  if (argc == 1) {
    for (int i = 0; const char* name = kernels_instruction_set(i); i++) puts(name);
    return 0;
  }
  if (kernels_select(argv[1])) return 2;
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

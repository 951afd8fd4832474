// What an x86 CPU and its system can do, asked of the CPU: not every compiler's library fills what
// __builtin_cpu_supports reads. Bits are those of CPUID in Intel's manual, volume 2A.
#pragma once

#include <cpuid.h>

namespace kernels {
namespace { // each file its own copy: none is shared across flags of the compiler

struct X86Features {
  unsigned leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_1_eax;
  unsigned saved; // registers that the system keeps, XCR0

  bool avx2() const {
    constexpr unsigned FMA = 1u << 12, F16C = 1u << 29, AVX2 = 1u << 5;
    return (leaf1_ecx & FMA) && (leaf1_ecx & F16C) && (leaf7_ebx & AVX2) && (saved & 0x6) == 0x6;
  }

  bool avx_vnni() const { return avx2() && (leaf7_1_eax & 1u << 4); }

  bool avx512_vnni() const {
    constexpr unsigned F = 1u << 16, BW = 1u << 30, VL = 1u << 31, VNNI = 1u << 11;
    constexpr unsigned ALL = F | BW | VL;
    return avx2() && (leaf7_ebx & ALL) == ALL && (leaf7_ecx & VNNI) && (saved & 0xe6) == 0xe6;
  }
};

inline X86Features x86_features() {
  constexpr unsigned OSXSAVE = 1u << 27;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  X86Features found = {};
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & OSXSAVE)) return found;
  found.leaf1_ecx = ecx;
  __asm__("xgetbv" : "=a"(found.saved), "=d"(edx) : "c"(0));
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    found.leaf7_ebx = ebx;
    found.leaf7_ecx = ecx;
  }
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) found.leaf7_1_eax = eax;
  return found;
}

} // namespace
} // namespace kernels

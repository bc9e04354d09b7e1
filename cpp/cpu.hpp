// The processor's level. Whoever asks must be compiled without any instruction-set flag.
#pragma once

namespace convgmm {

// The highest x86-64 level that processor and operating system support; "base" elsewhere, "" below v2.
inline const char* processor_level() {
#if defined(__x86_64__) && defined(__clang__)  // only later versions of clang know the levels by name
  const auto v2 =
      __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  const auto v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  const auto v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return !v2 ? "" : !v3 ? "v2" : !v4 ? "v3" : "v4";
#elif defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return "v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "v3";
  if (__builtin_cpu_supports("x86-64-v2")) return "v2";
  return "";
#else
  return "base";
#endif
}

}  // namespace convgmm

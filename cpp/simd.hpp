// Vectors of as many T as one register holds, on the compiler's vector extension.
//
// The width follows from the instruction set that the file is compiled for, so the same source serves every level.
// Nothing here peels loops by address: a result depends on the values alone, never on where they lie in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace convgmm::simd {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
inline constexpr std::size_t kRegisterBytes = 64;
inline constexpr int kRegisters = 32;
#elif defined(__AVX2__)
inline constexpr std::size_t kRegisterBytes = 32;
inline constexpr int kRegisters = 16;
#else
inline constexpr std::size_t kRegisterBytes = 16;
inline constexpr int kRegisters = 16;
#endif

template <class T>
inline constexpr std::size_t kLanes = kRegisterBytes / sizeof(T);

template <class T>
struct IntegerOf;
template <>
struct IntegerOf<float> {
  using type = std::int32_t;
};
template <>
struct IntegerOf<double> {
  using type = std::int64_t;
};

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kRegisterBytes)));
};

template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using IntVec = typename VectorOf<typename IntegerOf<T>::type>::type;

constexpr std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

template <class T>
inline Vec<T> load(const T* source) {
  Vec<T> v;
  std::memcpy(&v, source, sizeof v);
  return v;
}

template <class T>
inline void store(T* target, Vec<T> v) {
  std::memcpy(target, &v, sizeof v);
}

template <class T>
inline Vec<T> maximum(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

// Halves the vector until one value is left: always the same order of operations.
template <class T, class Combine>
inline T reduce(Vec<T> v, Combine combine) {
  T values[kLanes<T>];
  std::memcpy(values, &v, sizeof v);
  for (std::size_t half = kLanes<T> / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) values[i] = combine(values[i], values[i + half]);
  return values[0];
}

// Σ values, in an order that depends on n alone.
template <class T>
inline T sum(const T* values, std::size_t n) {
  Vec<T> partial[4] = {};
  std::size_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>)
    for (std::size_t j = 0; j < 4; ++j) partial[j] += load(values + i + j * kLanes<T>);
  T total = reduce<T>((partial[0] + partial[1]) + (partial[2] + partial[3]), [](T a, T b) { return a + b; });
  for (; i < n; ++i) total += values[i];
  return total;
}

// One bit per lane: is the value above the threshold?
template <class T>
inline std::uint32_t mask_above(Vec<T> v, T threshold) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4)
    return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(v), _mm512_set1_ps(threshold), _CMP_GT_OQ);
  else
    return _mm512_cmp_pd_mask(reinterpret_cast<__m512d>(v), _mm512_set1_pd(threshold), _CMP_GT_OQ);
#else
  const IntVec<T> above = v > threshold;
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return static_cast<std::uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(above)));
  else
    return static_cast<std::uint32_t>(_mm256_movemask_pd(reinterpret_cast<__m256d>(above)));
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4)
    return static_cast<std::uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(above)));
  else
    return static_cast<std::uint32_t>(_mm_movemask_pd(reinterpret_cast<__m128d>(above)));
#else
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < kLanes<T>; ++i) bits |= static_cast<std::uint32_t>(above[i] != 0) << i;
  return bits;
#endif
#endif
}

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr float lowest = -87.0F;          // below: 0; exp(-87) is the last well inside the normal range
  static constexpr float round = 12582912.0F;      // 1.5·2^23: adding it rounds to an integer
  static constexpr float ln2_high = 0.693359375F;  // ln 2 in two parts, the first short enough that n·high is exact
  static constexpr float ln2_low = -2.12194440e-4F;
  static constexpr int degree = 7;  // (ln2 / 2)^8 / 8! = 5e-9
  static constexpr int mantissa_bits = 23;
};
template <>
struct ExpConstants<double> {
  static constexpr double lowest = -708.0;
  static constexpr double round = 6755399441055744.0;  // 1.5·2^52
  static constexpr double ln2_high = 0.693147180369123816490;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr int degree = 13;  // (ln2 / 2)^14 / 14! = 4e-18
  static constexpr int mantissa_bits = 52;
};

// exp(x) for x <= 0 as 2^n · Σ r^i / i!, with x = n ln 2 + r and |r| <= ln 2 / 2. -inf gives 0.
template <class T>
inline Vec<T> exp_nonpositive(Vec<T> x) {
  using C = ExpConstants<T>;
  const Vec<T> lowest = Vec<T>{} + C::lowest;
  const IntVec<T> vanishes = x < lowest;
  const Vec<T> clamped = maximum<T>(x, lowest);
  const Vec<T> shifted = clamped * static_cast<T>(1.4426950408889634074) + C::round;
  const Vec<T> n = shifted - C::round;
  const Vec<T> r = (clamped - n * C::ln2_high) - n * C::ln2_low;
  Vec<T> series = Vec<T>{} + T{1};
#pragma GCC unroll 16
  for (int i = C::degree; i > 0; --i) series = series * r * (T{1} / static_cast<T>(i)) + T{1};
  // The integer n stands in the low bits of `shifted`; moved into the exponent it doubles `series` n times.
  const IntVec<T> bits =
      reinterpret_cast<IntVec<T>>(series) + ((reinterpret_cast<IntVec<T>>(shifted)) << C::mantissa_bits);
  return vanishes ? Vec<T>{} : reinterpret_cast<Vec<T>>(bits);
}

}  // namespace convgmm::simd

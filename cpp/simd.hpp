// Vectors of as many T as one register holds, on the compiler's vector extension.
//
// The width follows from the instruction set that the file is compiled for, so the same source serves every level.
// Nothing here peels loops by address: a result depends on the values alone, never on where they lie in memory.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace convgmm::simd {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
inline constexpr std::size_t kRegisterBytes = 64;
inline constexpr std::size_t kRegisters = 32;
#elif defined(__AVX2__)
inline constexpr std::size_t kRegisterBytes = 32;
inline constexpr std::size_t kRegisters = 16;
#else
inline constexpr std::size_t kRegisterBytes = 16;
inline constexpr std::size_t kRegisters = 16;
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

// The values at `count` places of an array, in the first lanes; in those beyond, the value at the first place.
template <class T>
inline Vec<T> gather(const T* source, const std::uint32_t* places, std::size_t count) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if (count >= kLanes<T>) {
    if constexpr (sizeof(T) == 4)
      return reinterpret_cast<Vec<T>>(_mm512_i32gather_ps(_mm512_loadu_si512(places), source, sizeof(T)));
    else
      return reinterpret_cast<Vec<T>>(
          _mm512_i32gather_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(places)), source, sizeof(T)));
  }
#endif
  Vec<T> v{};
  for (std::size_t i = 0; i < kLanes<T>; ++i) v[i] = source[places[i < count ? i : 0]];
  return v;
}

template <class T>
inline Vec<T> maximum(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

template <class T>
inline Vec<T> root(Vec<T> v) {
  for (std::size_t i = 0; i < kLanes<T>; ++i) v[i] = std::sqrt(v[i]);
  return v;
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

// Bit i: does the comparison hold in lane i?
template <class T>
inline std::uint32_t mask_of(IntVec<T> comparison) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4)
    return _mm512_movepi32_mask(reinterpret_cast<__m512i>(comparison));
  else
    return _mm512_movepi64_mask(reinterpret_cast<__m512i>(comparison));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return static_cast<std::uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(comparison)));
  else
    return static_cast<std::uint32_t>(_mm256_movemask_pd(reinterpret_cast<__m256d>(comparison)));
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4)
    return static_cast<std::uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(comparison)));
  else
    return static_cast<std::uint32_t>(_mm_movemask_pd(reinterpret_cast<__m128d>(comparison)));
#else
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < kLanes<T>; ++i) bits |= static_cast<std::uint32_t>(comparison[i] != 0) << i;
  return bits;
#endif
}

// The mask of the first n lanes, or of all.
template <class T>
constexpr std::uint32_t first_lanes(std::size_t n) {
  return n < kLanes<T> ? (std::uint32_t{1} << n) - 1 : (std::uint32_t{1} << kLanes<T>)-1;
}

// Appends the lanes that the mask names to `values`, and first + their number to `indices`; returns how many. Both
// need room for a whole vector, whatever the mask is.
template <class T>
inline std::size_t append(Vec<T> v, std::uint32_t mask, std::uint32_t first, T* values, std::uint32_t* indices) {
#if defined(__AVX512VL__) && defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {  // branches on a mask are seldom foreseen
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i numbers = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(first)));
    const auto m = static_cast<__mmask16>(mask);
    _mm512_storeu_ps(values, _mm512_maskz_compress_ps(m, reinterpret_cast<__m512>(v)));
    _mm512_storeu_si512(indices, _mm512_maskz_compress_epi32(m, numbers));
  } else {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i numbers = _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int>(first)));
    const auto m = static_cast<__mmask8>(mask);
    _mm512_storeu_pd(values, _mm512_maskz_compress_pd(m, reinterpret_cast<__m512d>(v)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(indices), _mm256_maskz_compress_epi32(m, numbers));
  }
  return static_cast<std::size_t>(__builtin_popcount(mask));
#else
  std::size_t n = 0;
  for (; mask != 0; mask &= mask - 1, ++n) {
    const auto lane = static_cast<std::uint32_t>(__builtin_ctz(mask));
    values[n] = v[lane];
    indices[n] = first + lane;
  }
  return n;
#endif
}

namespace detail {

template <class T, std::size_t... I>
inline Vec<T> interleave_low(Vec<T> a, Vec<T> b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (I / 2 + (I % 2) * kLanes<T>)...);
}

template <class T, std::size_t... I>
inline Vec<T> interleave_high(Vec<T> a, Vec<T> b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (I / 2 + kLanes<T> / 2 + (I % 2) * kLanes<T>)...);
}

}  // namespace detail

// Transposes a square of kLanes × kLanes values: as often as kLanes can be halved, row i is interleaved with the row
// half the square below it.
template <class T>
inline void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr std::size_t n = kLanes<T>;
  constexpr std::make_index_sequence<n> lanes{};
#pragma GCC unroll 4
  for (std::size_t stage = 1; stage < n; stage *= 2) {
    Vec<T> shuffled[n];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < n / 2; ++i) {
      shuffled[2 * i] = detail::interleave_low<T>(rows[i], rows[i + n / 2], lanes);
      shuffled[2 * i + 1] = detail::interleave_high<T>(rows[i], rows[i + n / 2], lanes);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < n; ++i) rows[i] = shuffled[i];
  }
}

template <class T>
struct MathConstants;
template <>
struct MathConstants<float> {
  static constexpr float lowest = -87.0F;          // exp(-87) is the last well inside the normal range
  static constexpr float round = 12582912.0F;      // 1.5·2^23: adding it rounds to an integer
  static constexpr float ln2_high = 0.693359375F;  // ln 2 in two parts, the first so short that n·high is exact
  static constexpr float ln2_low = -2.12194440e-4F;
  static constexpr int exp_degree = 7;  // (ln2 / 2)^8 / 8! = 5e-9
  static constexpr int log_terms = 5;   // 0.0295^5 / 11 = 2e-9
  static constexpr int mantissa_bits = 23;
  static constexpr std::int32_t bias = 127;
};
template <>
struct MathConstants<double> {
  static constexpr double lowest = -708.0;
  static constexpr double round = 6755399441055744.0;  // 1.5·2^52
  static constexpr double ln2_high = 0.693147180369123816490;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr int exp_degree = 13;  // (ln2 / 2)^14 / 14! = 4e-18
  static constexpr int log_terms = 11;   // 0.0295^11 / 23 = 6e-19
  static constexpr int mantissa_bits = 52;
  static constexpr std::int64_t bias = 1023;
};

// exp(x) for x <= 0 as 2^n · Σ r^i / i!, with x = n ln 2 + r and |r| <= ln 2 / 2. -inf, and what underflows, gives 0.
template <class T>
inline Vec<T> exp_nonpositive(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> lowest = Vec<T>{} + C::lowest;
  const IntVec<T> vanishes = x < lowest;
  const Vec<T> clamped = maximum<T>(x, lowest);
  const Vec<T> shifted = clamped * static_cast<T>(1.4426950408889634074) + C::round;
  const Vec<T> n = shifted - C::round;
  const Vec<T> r = (clamped - n * C::ln2_high) - n * C::ln2_low;
  Vec<T> series = Vec<T>{} + T{1};
#pragma GCC unroll 16
  for (int i = C::exp_degree; i > 0; --i) series = series * (r * (T{1} / static_cast<T>(i))) + T{1};
  // The integer n stands in the low bits of `shifted`; moved into the exponent it doubles `series` n times.
  const IntVec<T> bits =
      reinterpret_cast<IntVec<T>>(series) + (reinterpret_cast<IntVec<T>>(shifted) << C::mantissa_bits);
  return vanishes ? Vec<T>{} : reinterpret_cast<Vec<T>>(bits);
}

// ln x for normal x > 0 as e ln 2 + 2 Σ z^(2i+1) / (2i+1), with x = 2^e f, √½ < f <= √2 and z = (f − 1) / (f + 1).
template <class T>
inline Vec<T> log_positive(Vec<T> x) {
  using C = MathConstants<T>;
  constexpr auto one_bits = C::bias << C::mantissa_bits;
  const IntVec<T> bits = reinterpret_cast<IntVec<T>>(x);
  const auto mantissa_mask = (decltype(one_bits){1} << C::mantissa_bits) - 1;
  Vec<T> f = reinterpret_cast<Vec<T>>((bits & mantissa_mask) | one_bits);
  const IntVec<T> large = f > static_cast<T>(1.4142135623730950488);
  f = large ? f * T{0.5} : f;
  const Vec<T> e = __builtin_convertvector((bits >> C::mantissa_bits) - C::bias - large, Vec<T>);  // true is −1
  const Vec<T> z = (f - T{1}) / (f + T{1});
  const Vec<T> z2 = z * z;
  Vec<T> series{};
#pragma GCC unroll 16
  for (int i = C::log_terms; i >= 0; --i) series = series * z2 + T{2} / static_cast<T>(2 * i + 1);
  return e * C::ln2_high + (e * C::ln2_low + z * series);
}

// ln (1 + y) for y >= 0, of which no digit is lost when y is small: of what 1 + y rounds away the derivative is added.
template <class T>
inline Vec<T> log1p_nonnegative(Vec<T> y) {
  const Vec<T> x = T{1} + y;
  const Vec<T> logarithm = log_positive<T>(x) + (y - (x - T{1})) / x;
  return y <= std::numeric_limits<T>::max() ? logarithm : y;
}

}  // namespace convgmm::simd

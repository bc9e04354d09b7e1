// One tile of a matrix product, its sums in registers: the inner loop of every covariance family.
#pragma once

#include <cstddef>
#include <type_traits>

#include "simd.hpp"

namespace convgmm::simd {

// sum[i][·] += Σ_d a[i·a_row + d·a_step] · (the `Columns` vectors at b + d·b_step).
template <class T, std::size_t Rows, std::size_t Columns>
inline void multiply_add(const T* a, std::size_t a_row, std::size_t a_step, const T* b, std::size_t b_step,
                         std::size_t depth, Vec<T> (&sum)[Rows][Columns]) {
  for (std::size_t d = 0; d < depth; ++d) {
    Vec<T> column[Columns];
    for (std::size_t c = 0; c < Columns; ++c) column[c] = load(b + d * b_step + c * kLanes<T>);
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t c = 0; c < Columns; ++c) sum[i][c] += a[i * a_row + d * a_step] * column[c];
  }
}

// Calls use(n) with n, from 1 to `Most`, as a constant of the compiler's.
template <std::size_t Most, class Use>
inline void with_constant(std::size_t n, Use use) {
  if constexpr (Most > 1) {
    if (n < Most) return with_constant<Most - 1>(n, use);
  }
  use(std::integral_constant<std::size_t, Most>{});
}

}  // namespace convgmm::simd

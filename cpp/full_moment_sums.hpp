// Σ γ (x − μ) and the lower triangle of Σ γ (x − μ)(x − μ)ᵀ over the samples of one component.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "aligned.hpp"
#include "full_tile.hpp"
#include "tile.hpp"

namespace convgmm::full {

// Sums Σ γ (x − μ) and the lower triangle of Σ γ (x − μ)(x − μ)ᵀ over samples in T, and adds them to float64 sums now
// and then.
template <class T>
class MomentSums {
 public:
  explicit MomentSums(std::size_t D)
      : D_(D),
        width_(simd::round_up(D, kLanes)),
        panel_(simd::round_up(D, kColumns) * kGathered + kColumns),
        centre_(width_),
        root_(kGathered),
        first_(width_) {
    std::fill(panel_.begin(), panel_.end(), T{0});
    std::fill(centre_.begin(), centre_.end(), T{0});
  }

  // The rows of the highest tile; a band of rows begins at a multiple of it.
  static constexpr std::size_t kRowStep = std::min(kTileRows, kGroup<T>);

  std::size_t n_features() const { return D_; }

  // Adds `count` samples, of which `indices` says where they stand in `samples` (n, D), with their γ: rows
  // [row, row_end) of the moments about `mean` to `first` (D,) and, up to the diagonal, to `second` (D, D).
  template <class Index, class Gamma>
  void add(const T* samples, const Index* indices, const Gamma* gamma, std::size_t count, const double* mean,
           std::size_t row, std::size_t row_end, double* first, double* second) {
    for (std::size_t d = 0; d < row_end; ++d) centre_[d] = static_cast<T>(mean[d]);
    const std::size_t size = simd::round_up(row_end - row, kRowStep) * width_;
    if (second_.size() < size) second_ = AlignedBuffer<T>(size);
    std::size_t summed = 0;
    for (std::size_t begin = 0; begin < count; begin += kGathered) {
      const std::size_t n = std::min(kGathered, count - begin);
      if (summed == 0) clear(row, row_end);
      for (std::size_t j = 0; j < n; ++j) root_[j] = std::sqrt(static_cast<T>(gamma[begin + j]));
      for (std::size_t column = 0; column < row_end; column += kColumns) gather(samples, indices + begin, n, column);
      for (std::size_t column = 0; column < row_end; column += kColumns) multiply(column, n, row, row_end);
      summed += n;
      if (summed >= kFlush || begin + n == count) {
        flush(row, row_end, first, second);
        summed = 0;
      }
    }
  }

 private:
  static constexpr std::size_t kLanes = simd::kLanes<T>;
  // Columns of the panel that are read together; a panel's samples of so many stay in the first-level cache.
  static constexpr std::size_t kColumns = kGroup<T>;
  // Samples that are gathered into the panel at a time.
  static constexpr std::size_t kGathered = 128;
  // Samples whose products are summed in T before they are added to the float64 sums.
  static constexpr std::size_t kFlush = 2048;

  // How many columns stand in the block that begins at `column`.
  std::size_t columns_at(std::size_t column) const { return std::min(kColumns, width_ - column); }

  // Writes √γ (x − μ) of n samples to a block of columns of the panel, (n, columns).
  template <class Index>
  void gather(const T* samples, const Index* indices, std::size_t n, std::size_t column) {
    const std::size_t columns = columns_at(column);
    const std::size_t present = std::min(columns, D_ - column);
    const T* centre = centre_.data() + column;
    T* out = panel_.data() + column * kGathered;
    for (std::size_t j = 0; j < n; ++j, out += columns) {
      const T* x = samples + static_cast<std::size_t>(indices[j]) * D_ + column;
      std::size_t d = 0;
      for (; d + kLanes <= present; d += kLanes)
        simd::store(out + d, (simd::load(x + d) - simd::load(centre + d)) * root_[j]);
      for (; d < present; ++d) out[d] = (x[d] - centre[d]) * root_[j];
    }
  }

  // The products of a block of columns with all columns of the same place or later. Rows beyond the last column are
  // computed from what stands there, and not used.
  void multiply(std::size_t column, std::size_t n, std::size_t row, std::size_t row_end) {
    const T* b = panel_.data() + column * kGathered;
    const std::size_t width = columns_at(column);
    simd::with_constant<kTileVectors>(width / kLanes, [&](auto vectors) {
      tile<1, vectors>(root_.data(), 0, 1, b, width, n, first_.data() + column);
    });
    for (std::size_t r = std::max(row, column); r < row_end; r += kRowStep) {
      const std::size_t block = r / kColumns * kColumns;
      const T* a = panel_.data() + block * kGathered + (r - block);
      T* sums = second_.data() + (r - row) * width_ + column;
      const std::size_t to_diagonal = (r - column + kRowStep - 1) / kLanes + 1;
      simd::with_constant<kTileVectors>(std::min(width / kLanes, to_diagonal), [&](auto vectors) {
        constexpr std::size_t kRows = std::min(kRowStep, kPartRows<vectors>);
        for (std::size_t i = 0; i < kRowStep; i += kRows)
          tile<kRows, vectors>(a + i, 1, columns_at(block), b, width, n, sums + i * width_);
      });
    }
  }

  template <std::size_t Rows, std::size_t Vectors>
  void tile(const T* a, std::size_t a_row, std::size_t a_step, const T* b, std::size_t b_step, std::size_t n, T* sums) {
    simd::Vec<T> sum[Rows][Vectors] = {};
    simd::multiply_add<T>(a, a_row, a_step, b, b_step, n, sum);
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t c = 0; c < Vectors; ++c) {
        T* place = sums + i * width_ + c * kLanes;
        simd::store(place, simd::load(place) + sum[i][c]);
      }
  }

  void flush(std::size_t row, std::size_t row_end, double* first, double* second) const {
    for (std::size_t r = row; r < row_end; ++r) {
      first[r] += static_cast<double>(first_[r]);
      const T* sums = second_.data() + (r - row) * width_;
      for (std::size_t d = 0; d <= r; ++d) second[r * D_ + d] += static_cast<double>(sums[d]);
    }
  }

  void clear(std::size_t row, std::size_t row_end) {
    std::fill(first_.begin(), first_.end(), T{0});
    std::fill_n(second_.begin(), simd::round_up(row_end - row, kRowStep) * width_, T{0});
  }

  std::size_t D_;
  std::size_t width_;  // D in whole vectors
  AlignedBuffer<T> panel_, centre_, root_;
  AlignedBuffer<T> first_, second_;  // (width,) and (rows, width)
};

}  // namespace convgmm::full

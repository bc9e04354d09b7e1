// The two products that a mixture of full covariances spends its time in: ‖W (x − μ)‖² for a lower triangle W, and the
// lower triangle of Σ γ (x − μ)(x − μ)ᵀ.
//
// What a product with Eigen costs beside the arithmetic, packing both operands, is here done once for a triangle or
// together with gathering the samples; and only the tiles that touch the diagonal do needless work. GFLOP/s of one
// thread, gathering included and needless work not counted, beside Eigen 3.4.1 in blocks of 96 rows and 256 samples;
// x86-64-v4, two Zen 5 cores, 2026-11:
//
//                     float64, 8   32 features   float32, 16    64   128   256   784
//     norms,   here           32            72            96   173   194   208   214
//              Eigen           7            30            25    77   103   134   154
//     scatter, here           17            60                 141         191   196
//              Eigen          11            31                  73         114   148
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

#include "aligned.hpp"
#include "tile.hpp"

namespace convgmm::full {

// The tile of a product: so many rows of a matrix, and up to so many vectors of what it is multiplied with. With more
// vectors the rows are done in parts, since half of the registers hold sums.
inline constexpr std::size_t kTileRows = 8;
inline constexpr std::size_t kTileVectors = simd::kRegisters == 32 ? 4 : 2;
template <std::size_t Vectors>
inline constexpr std::size_t kPartRows = std::min(kTileRows, std::bit_floor(simd::kRegisters / 2 / Vectors));

// Samples whose coordinates are gathered for one product.
template <class T>
inline constexpr std::size_t kGroup = kTileVectors * simd::kLanes<T>;

// Where the values of a lower triangle (D, D) stand when packed in the order in which tiles read them: kTileRows rows
// at a time, of those column by column up to the diagonal. Rows beyond the last are 0.
class PackedTriangle {
 public:
  // Values of one triangle.
  static std::size_t size(std::size_t D) { return tile((D - 1) / kTileRows * kTileRows) + D * kTileRows; }

  // The first value of the tile whose first row is `row`, a multiple of kTileRows.
  static std::size_t tile(std::size_t row) { return row * (row + kTileRows) / 2; }

  // Calls visit(place, row, column) for every value, in order; rows may be beyond the last.
  template <class Visit>
  static void for_each(std::size_t D, Visit visit) {
    std::size_t place = 0;
    for (std::size_t first = 0; first < D; first += kTileRows)
      for (std::size_t column = 0; column < std::min(first + kTileRows, D); ++column)
        for (std::size_t row = first; row < first + kTileRows; ++row) visit(place++, row, column);
  }
};

// Writes coordinates [0, width) of up to kLanes samples, less `centre`, as columns: those of sample i to lane i of the
// vectors at target + d·step. Of the vectors up to D, those from `width` on may be written too.
template <class T>
inline void write_columns(const T* const (&samples)[simd::kLanes<T>], const T* centre, std::size_t width, std::size_t D,
                          T* target, std::size_t step) {
  using namespace simd;
  constexpr std::size_t kSide = kLanes<T>;
  if (D < kSide) {
    for (std::size_t d = 0; d < width; ++d)
      for (std::size_t i = 0; i < kSide; ++i) target[d * step + i] = samples[i][d] - centre[d];
    return;
  }
  for (std::size_t begin = 0; begin < width; begin += kSide) {
    const std::size_t d = std::min(begin, D - kSide);  // the last square reaches back
    const Vec<T> shift = load(centre + d);
    Vec<T> square[kSide];
    for (std::size_t i = 0; i < kSide; ++i) square[i] = load(samples[i] + d) - shift;
    transpose<T>(square);
    for (std::size_t i = 0; i < kSide; ++i) store(target + (d + i) * step, square[i]);
  }
}

// The squared norms of rows [from, to) of W (x − μ), W packed, for `Columns` vectors of samples whose coordinates, less
// the mean, stand as columns in `centred` (to, Columns vectors). `from` is a multiple of kTileRows, and so is `to`
// unless it is D.
//
// Not inlined: among the gathering of samples the compiler would not keep all in registers.
template <class T, std::size_t Columns>
[[gnu::noinline]] void squared_norms(const T* W, std::size_t from, std::size_t to, const T* centred,
                                     simd::Vec<T> (&norms)[Columns]) {
  constexpr std::size_t kStep = Columns * simd::kLanes<T>;
  constexpr std::size_t kRows = kPartRows<Columns>;
  constexpr std::size_t kTerms = 4;  // summed first, so that fewer roundings follow one another
  simd::Vec<T> total[Columns] = {};
  for (std::size_t row = from; row < to; row += kTileRows)
    for (std::size_t part = 0; part < kTileRows; part += kRows) {
      simd::Vec<T> z[kRows][Columns] = {};
      simd::multiply_add<T>(W + PackedTriangle::tile(row) + part, 1, kTileRows, centred, kStep,
                            std::min(row + part + kRows, to), z);
      for (std::size_t i = 0; i < kRows; i += kTerms)
        for (std::size_t c = 0; c < Columns; ++c) {
          simd::Vec<T> sum = z[i][c] * z[i][c];
          for (std::size_t j = 1; j < kTerms; ++j) sum += z[i + j][c] * z[i + j][c];
          total[c] += sum;
        }
    }
  for (std::size_t c = 0; c < Columns; ++c) norms[c] = total[c];
}

// Sums Σ γ (x − μ) and the lower triangle of Σ γ (x − μ)(x − μ)ᵀ over samples in T, and adds them to float64 sums now
// and then.
template <class T>
class MomentSums {
 public:
  explicit MomentSums(std::size_t D)
      : D_(D),
        width_(simd::round_up(D, kLanes)),
        panel_(simd::round_up(D, kColumns) * kPanel + kColumns),
        centre_(width_),
        root_(kPanel),
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
    for (std::size_t begin = 0; begin < count; begin += kPanel) {
      const std::size_t n = std::min(kPanel, count - begin);
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
  static constexpr std::size_t kPanel = 128;
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
    T* out = panel_.data() + column * kPanel;
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
    const T* b = panel_.data() + column * kPanel;
    const std::size_t width = columns_at(column);
    simd::with_constant<kTileVectors>(width / kLanes, [&](auto vectors) {
      tile<1, vectors>(root_.data(), 0, 1, b, width, n, first_.data() + column);
    });
    for (std::size_t r = std::max(row, column); r < row_end; r += kRowStep) {
      const std::size_t block = r / kColumns * kColumns;
      const T* a = panel_.data() + block * kPanel + (r - block);
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

// ‖W (x − μ)‖² for a lower triangle W that is packed once and read many times.
#pragma once

#include <algorithm>
#include <cstddef>

#include "full_tile.hpp"
#include "tile.hpp"

namespace convgmm::full {

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

}  // namespace convgmm::full

// Products of rows with a matrix that is packed once and read many times, for every covariance family.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "aligned.hpp"
#include "simd.hpp"
#include "sizes.hpp"
#include "tile.hpp"

namespace convgmm {

// A matrix A (depth, columns) by tiles of columns, each (depth, tile width), its columns padded with zeros to whole
// vectors.
//
// Beside Eigen 3.4.1, in blocks of 128 rows, float32 at x86-64-v4, one thread of two Zen 5 cores, 2026-11: 224 GFLOP/s
// to 149 with 130 rows of A and 32 columns, 225 to 191 with 256; at x86-64-v3 114 to 90 and 111 to 103; float64 112
// to 77.
template <class T>
class PackedMatrix {
 public:
  // Accumulators of the inner kernel: kRows rows × kVectors vectors of columns fill the register file.
  static constexpr std::size_t kRows = simd::kRegisters == 32 ? 8 : 6;
  static constexpr std::size_t kVectors = 2;
  // Rows of A that stay in the first-level cache, of one tile, together with what they are multiplied with.
  static constexpr std::size_t kDepthTile = 256;

  PackedMatrix(std::size_t depth, std::size_t columns)
      : depth_(depth),
        width_(simd::round_up(columns, simd::kLanes<T>)),
        values_(checked_product({depth, simd::round_up(columns, simd::kLanes<T>)})) {
    std::fill(values_.begin(), values_.end(), T{0});
  }

  std::size_t depth() const { return depth_; }
  std::size_t width() const { return width_; }  // the number of columns, padded

  T& at(std::size_t d, std::size_t column) {
    const std::size_t tile = column / kTile * kTile;
    return values_[tile * depth_ + d * width_at(tile) + (column - tile)];
  }

  // out (count, width) (+)= rows (count, n) · A[d, …, d + n − 1]. The rows stand `stride` apart. `begin` says that the
  // sums start here; otherwise they continue what stands in `out`: in T, or, where `out` is float64 and T is not, added
  // to it in float64.
  template <class Out>
  void multiply(const T* rows, std::size_t stride, std::size_t count, std::size_t d, std::size_t n, bool begin,
                Out* out) const {
    for (std::size_t tile = 0; tile < width_; tile += kTile) {
      const T* a = values_.data() + tile * depth_ + d * width_at(tile);
      simd::with_constant<kVectors>(width_at(tile) / simd::kLanes<T>, [&](auto vectors) {
        std::size_t i = 0;
        for (; i + kRows <= count; i += kRows)
          multiply_tile<kRows, vectors>(rows + i * stride, stride, a, n, begin, out + i * width_ + tile);
        for (; i < count; ++i)
          multiply_tile<1, vectors>(rows + i * stride, stride, a, n, begin, out + i * width_ + tile);
      });
    }
  }

 private:
  static constexpr std::size_t kTile = kVectors * simd::kLanes<T>;

  std::size_t width_at(std::size_t column) const { return std::min(kTile, width_ - column); }

  template <std::size_t Rows, std::size_t Vectors, class Out>
  void multiply_tile(const T* rows, std::size_t stride, const T* a, std::size_t n, bool begin, Out* out) const {
    using namespace simd;
    constexpr bool kContinues = std::is_same_v<T, Out>;
    Vec<T> sum[Rows][Vectors] = {};
    if (kContinues && !begin)
      for (std::size_t i = 0; i < Rows; ++i)
        for (std::size_t v = 0; v < Vectors; ++v)
          if constexpr (kContinues) sum[i][v] = load(out + i * width_ + v * kLanes<T>);
    multiply_add<T>(rows, stride, 1, a, Vectors * kLanes<T>, n, sum);
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t v = 0; v < Vectors; ++v) {
        Out* place = out + i * width_ + v * kLanes<T>;
        if constexpr (kContinues)
          store(place, sum[i][v]);
        else
          add_widened(sum[i][v], begin, place);
      }
  }

  static void add_widened(simd::Vec<T> sum, bool begin, double* place) {
    T values[simd::kLanes<T>];
    simd::store(values, sum);
    for (std::size_t lane = 0; lane < simd::kLanes<T>; ++lane)
      place[lane] = (begin ? 0.0 : place[lane]) + static_cast<double>(values[lane]);
  }

  std::size_t depth_, width_;
  AlignedBuffer<T> values_;
};

}  // namespace convgmm

// Products: the tile, the packed matrix, the packed triangle, the sums of moments, projection.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "aligned.hpp"
#include "axes.hpp"
#include "full_moment_sums.hpp"
#include "full_triangle.hpp"
#include "packed_matrix.hpp"
#include "random.hpp"
#include "tile.hpp"

using namespace convgmm;
using test::kTolerance;
using test::normal;

TEST_CASE_TEMPLATE("a tile is a product", T, float, double) {
  constexpr std::size_t kRows = 3, kColumns = 2, kWidth = kColumns * simd::kLanes<T>, kDepth = 37;
  const auto a = normal<T>(kRows * kDepth, 1);
  const auto b = normal<T>(kDepth * kWidth, 2);
  simd::Vec<T> sum[kRows][kColumns] = {};
  simd::multiply_add<T>(a.data(), kDepth, 1, b.data(), kWidth, kDepth, sum);
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::size_t c = 0; c < kWidth; ++c) {
      double expected = 0;
      for (std::size_t d = 0; d < kDepth; ++d)
        expected += static_cast<double>(a[i * kDepth + d]) * static_cast<double>(b[d * kWidth + c]);
      const T value = sum[i][c / simd::kLanes<T>][c % simd::kLanes<T>];
      CHECK(std::abs(static_cast<double>(value) - expected) < kTolerance<T>);
    }
}

TEST_CASE_TEMPLATE("a packed matrix multiplies rows, in its type and widened", T, float, double) {
  for (const std::size_t columns : std::initializer_list<std::size_t>{1, 7, 16, 33, 70}) {
    const std::size_t depth = 300, count = 13;
    const auto rows = normal<T>(count * depth, 3);
    const auto a = normal<T>(depth * columns, 4);
    PackedMatrix<T> packed(depth, columns);
    for (std::size_t d = 0; d < depth; ++d)
      for (std::size_t c = 0; c < columns; ++c) packed.at(d, c) = a[d * columns + c];
    AlignedBuffer<T> out(count * packed.width());
    AlignedBuffer<double> wide(count * packed.width());
    for (std::size_t d = 0; d < depth; d += 256) {
      const std::size_t n = std::min<std::size_t>(256, depth - d);
      packed.multiply(rows.data() + d, depth, count, d, n, d == 0, out.data());
      packed.multiply(rows.data() + d, depth, count, d, n, d == 0, wide.data(), 16);
    }
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t c = 0; c < packed.width(); ++c) {
        double expected = 0;
        for (std::size_t d = 0; c < columns && d < depth; ++d)
          expected += static_cast<double>(rows[i * depth + d]) * static_cast<double>(a[d * columns + c]);
        CHECK(std::abs(static_cast<double>(out[i * packed.width() + c]) - expected) < kTolerance<T>);
        CHECK(std::abs(wide[i * packed.width() + c] - expected) < kTolerance<T> / 4);
      }
  }
}

TEST_CASE("a packed triangle has a place for each of its values, and no other") {
  for (const std::size_t D : std::initializer_list<std::size_t>{1, 2, 7, 8, 9, 16, 33, 65}) {
    std::set<std::size_t> places;
    std::set<std::pair<std::size_t, std::size_t>> inside;
    full::PackedTriangle::for_each(D, [&](std::size_t place, std::size_t row, std::size_t column) {
      CHECK(places.insert(place).second);
      CHECK(place < full::PackedTriangle::size(D));
      const std::size_t first = row / full::kTileRows * full::kTileRows;
      CHECK(place == full::PackedTriangle::tile(first) + column * full::kTileRows + (row - first));
      if (row < D && column <= row) inside.emplace(row, column);
    });
    CHECK(places.size() == full::PackedTriangle::size(D));
    CHECK(inside.size() == D * (D + 1) / 2);
  }
}

TEST_CASE_TEMPLATE("squared norms are those of a triangle's product, in stages too", T, float, double) {
  constexpr std::size_t kVectors = full::kTileVectors;
  constexpr std::size_t kSamples = kVectors * simd::kLanes<T>;
  for (const std::size_t D : std::initializer_list<std::size_t>{1, 8, 13, 40, 64}) {
    const auto W = normal<T>(D * D, 5);
    const auto x = normal<T>(kSamples * D, 6);
    AlignedBuffer<T> packed(full::PackedTriangle::size(D));
    full::PackedTriangle::for_each(D, [&](std::size_t place, std::size_t row, std::size_t column) {
      packed[place] = row < D && column <= row ? W[row * D + column] : T{0};
    });
    AlignedBuffer<T> columns(D * kSamples);
    for (std::size_t d = 0; d < D; ++d)
      for (std::size_t i = 0; i < kSamples; ++i) columns[d * kSamples + i] = x[i * D + d];
    const std::size_t middle = D / 2 / full::kTileRows * full::kTileRows;
    simd::Vec<T> low[kVectors], high[kVectors];
    full::squared_norms(packed.data(), 0, middle, columns.data(), low);
    full::squared_norms(packed.data(), middle, D, columns.data(), high);
    for (std::size_t i = 0; i < kSamples; ++i) {
      double expected = 0;
      for (std::size_t row = 0; row < D; ++row) {
        double z = 0;
        for (std::size_t d = 0; d <= row; ++d)
          z += static_cast<double>(W[row * D + d]) * static_cast<double>(x[i * D + d]);
        expected += z * z;
      }
      const std::size_t v = i / simd::kLanes<T>, lane = i % simd::kLanes<T>;
      const double norm = static_cast<double>(low[v][lane]) + static_cast<double>(high[v][lane]);
      CHECK(norm == doctest::Approx(expected).epsilon(kTolerance<T>));
    }
  }
}

TEST_CASE_TEMPLATE("moments are summed over the samples named, in bands of rows too", T, float, double) {
  for (const std::size_t D : std::initializer_list<std::size_t>{1, 3, 8, 17, 70}) {
    const std::size_t n = 300;
    const auto x = normal<T>(n * D, 7);
    const auto mean = normal<double>(D, 8);
    std::vector<std::uint32_t> numbers;
    std::vector<T> gamma;
    for (std::uint32_t i = 0; i < n; i += 1 + i % 3) {
      numbers.push_back(i);
      gamma.push_back(static_cast<T>(1.0 / (1 + i % 7)));
    }
    std::vector<double> first(D), second(D * D), expected_first(D), expected(D * D);
    full::MomentSums<T> sums(D);
    const std::size_t edge = D / 2 / full::MomentSums<T>::kRowStep * full::MomentSums<T>::kRowStep;
    for (const auto& [row, end] : {std::pair{std::size_t{0}, edge}, std::pair{edge, D}})
      sums.add(x.data(), numbers.data(), gamma.data(), numbers.size(), mean.data(), row, end, first.data(),
               second.data());
    for (std::size_t j = 0; j < numbers.size(); ++j)
      for (std::size_t r = 0; r < D; ++r) {
        const double g = static_cast<double>(gamma[j]);
        const double at_row = static_cast<double>(x[numbers[j] * D + r]) - mean[r];
        expected_first[r] += g * at_row;
        for (std::size_t c = 0; c <= r; ++c)
          expected[r * D + c] += g * at_row * (static_cast<double>(x[numbers[j] * D + c]) - mean[c]);
      }
    for (std::size_t r = 0; r < D; ++r) {
      CHECK(std::abs(first[r] - expected_first[r]) < kTolerance<T> * 10);
      for (std::size_t c = 0; c <= r; ++c)
        CHECK(std::abs(second[r * D + c] - expected[r * D + c]) < kTolerance<T> * 10);
    }
  }
}

TEST_CASE_TEMPLATE("samples are projected on axes from a centre", T, float, double) {
  const std::size_t n = 211, D = 270, E = 19;
  const auto x = normal<T>(n * D, 9);
  const auto centre = normal<double>(D, 10);
  const auto axes = normal<double>(D * E, 11);
  std::vector<T> one(n * E), two(n * E);
  axes::project(x.data(), n, centre.data(), axes.data(), D, E, 1, one.data());
  axes::project(x.data(), n, centre.data(), axes.data(), D, E, 2, two.data());
  CHECK(one == two);
  for (std::size_t i = 0; i < n; i += 30)
    for (std::size_t e = 0; e < E; ++e) {
      double expected = 0;
      for (std::size_t d = 0; d < D; ++d) expected += (static_cast<double>(x[i * D + d]) - centre[d]) * axes[d * E + e];
      CHECK(std::abs(static_cast<double>(one[i * E + e]) - expected) < kTolerance<T>);
    }
}

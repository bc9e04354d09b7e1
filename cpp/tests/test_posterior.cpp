// Responsibilities, vectors' exponentials and logarithms, and sizes.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "posterior.hpp"
#include "random.hpp"
#include "sizes.hpp"

using namespace convgmm;
using test::normal;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
constexpr double kEpsilon = std::numeric_limits<T>::epsilon();

// log p and γ of one sample.
double posterior(const std::vector<double>& joint, std::vector<double>& gamma) {
  double largest = -kInfinity, total = 0;
  for (const double a : joint) largest = std::max(largest, a);
  for (const double a : joint) total += std::exp(a - largest);
  gamma.clear();
  for (const double a : joint) gamma.push_back(std::exp(a - largest) / total);
  return largest + std::log(total);
}

}  // namespace

TEST_CASE_TEMPLATE("a group's responsibilities and log-probabilities", T, float, double) {
  constexpr std::size_t kSize = SampleGroup<T>::kSize;
  for (const std::size_t K : std::initializer_list<std::size_t>{1, 5, 16, 37}) {
    const std::size_t width = simd::round_up(K, simd::kLanes<T>);
    const auto rows = normal<T>(kSize * width, 12);
    std::vector<T> constants(width, -std::numeric_limits<T>::infinity());
    for (std::size_t k = 0; k < K; ++k) constants[k] = static_cast<T>(-5.0 * static_cast<double>(k % 9));
    SampleGroup<T> group(width);
    group.set_rows(rows.data(), constants.data());
    group.set_offset(1e4);
    group.set_offset(kSize - 1, -7.0);
    group.exponentiate(kSize);
    CHECK_NOTHROW(group.require_density(0));
    std::vector<T> gamma(kSize * K), log_p(kSize);
    group.write(kSize, K, gamma.data(), log_p.data());
    Kept<T> kept(K, kSize);
    std::vector<double> weight(kSize, 2.0);
    weight[1] = 0;
    double log_likelihood = 0;
    std::vector<double> share(K);
    for (std::size_t i = 0; i < kSize; ++i) {
      std::vector<double> joint, expected;
      for (std::size_t k = 0; k < K; ++k)
        joint.push_back(static_cast<double>(rows[i * width + k]) + static_cast<double>(constants[k]));
      const double offset = i + 1 == kSize ? -7.0 : 1e4;
      const double expected_log_p = offset + posterior(joint, expected);
      CHECK(static_cast<double>(log_p[i]) == doctest::Approx(expected_log_p).epsilon(4 * kEpsilon<T>));
      for (std::size_t k = 0; k < K; ++k) {
        CHECK(std::abs(static_cast<double>(gamma[i * K + k]) - expected[k]) < 20 * kEpsilon<T>);
        share[k] += weight[i] * expected[k];
      }
      log_likelihood += weight[i] * expected_log_p;
    }
    CHECK(kept.add(group, 0, kSize, weight.data(), {}, 0) == doctest::Approx(log_likelihood).epsilon(kEpsilon<T>));
    for (std::size_t k = 0; k < K; ++k) {
      double sum = 0;
      for (std::size_t j = 0; j < kept.count(k); ++j) {
        CHECK(kept.samples(k)[j] != 1);  // has no weight
        sum += static_cast<double>(kept.responsibilities(k)[j]);
      }
      CHECK(std::abs(sum - share[k]) < 1e-5);
    }
  }
}

TEST_CASE_TEMPLATE("a sample without density is named, and written as NaN", T, float, double) {
  constexpr std::size_t kSize = SampleGroup<T>::kSize;
  SampleGroup<T> group(3);
  simd::Vec<T> joint{};
  joint[1] = -std::numeric_limits<T>::infinity();
  for (std::size_t k = 0; k < 3; ++k) group.set(k, joint);
  group.exponentiate(kSize);
  CHECK_THROWS_WITH_AS(group.require_density(40), "sample 41 has no finite log-density under any component", NoDensity);
  std::vector<T> gamma(kSize * 3), log_p(kSize);
  group.write(kSize, 3, gamma.data(), log_p.data());
  for (std::size_t i = 0; i < kSize; ++i) {
    CHECK(std::isnan(log_p[i]) == (i == 1));
    for (std::size_t k = 0; k < 3; ++k) CHECK(std::isnan(gamma[i * 3 + k]) == (i == 1));
  }
  group.exponentiate(1);  // what stands beyond the last sample is nobody's
  CHECK_NOTHROW(group.require_density(0));
}

TEST_CASE_TEMPLATE("exponentials and logarithms of vectors", T, float, double) {
  for (double x = 0; x > -80; x -= 0.37) {
    const T value = static_cast<T>(x);
    const double expected = std::exp(static_cast<double>(value));
    const T found = simd::exp_nonpositive<T>(simd::Vec<T>{} + value)[0];
    CHECK(static_cast<double>(found) == doctest::Approx(expected).epsilon(4 * kEpsilon<T>));
  }
  CHECK(simd::exp_nonpositive<T>(simd::Vec<T>{} - std::numeric_limits<T>::infinity())[0] == T{0});
  CHECK(simd::exp_nonpositive<T>(simd::Vec<T>{})[0] == T{1});
  for (double x = 1e-30; x < 1e30; x *= 1.7) {
    const T value = static_cast<T>(x);
    const double expected = std::log(static_cast<double>(value));
    const T found = simd::log_positive<T>(simd::Vec<T>{} + value)[0];
    CHECK(std::abs(static_cast<double>(found) - expected) < 4 * kEpsilon<T> * std::max(1.0, std::abs(expected)));
  }
}

TEST_CASE_TEMPLATE("a square is transposed, and lanes are appended by mask", T, float, double) {
  constexpr std::size_t n = simd::kLanes<T>;
  simd::Vec<T> rows[n];
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) rows[i][j] = static_cast<T>(i * n + j);
  simd::transpose<T>(rows);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) CHECK(T{rows[i][j]} == static_cast<T>(j * n + i));
  T values[n];
  std::uint32_t indices[n];
  CHECK(simd::append<T>(rows[0], 0b10, 100, values, indices) == 1);
  CHECK(values[0] == static_cast<T>(n));
  CHECK(indices[0] == 101);
}

TEST_CASE("products of sizes that do not fit are errors") {
  constexpr std::size_t kHalf = std::size_t{1} << 32;
  CHECK(checked_product({}) == 1);
  CHECK(checked_product({3, 4, 5}) == 60);
  CHECK(checked_product({kHalf, kHalf, 0}) == 0);
  CHECK(checked_product({kHalf, kHalf / 2}) == kHalf / 2 * kHalf);
  CHECK_THROWS_AS(checked_product({kHalf, kHalf}), std::length_error);
  CHECK_THROWS_AS(checked_product({5, 2147418113, 1718039348}), std::length_error);
  CHECK(checked_product({10, 10}, 100) == 100);
  CHECK_THROWS_AS(checked_product({10, 11}, 100), std::length_error);
}

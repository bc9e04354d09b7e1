// Joint values and weights of Gaussian scale mixtures and of Student's t, from distances.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "random.hpp"
#include "scales.hpp"

using namespace convgmm;

namespace {

constexpr std::size_t kComponents = 3, kScales = 5, kSamples = 37;
constexpr double kDimension = 63;
const std::vector<double> kConstants{-3.0, -40.0, 5.0};

// The joint value of one distance, E[1/q] and the sums that a responsibility of 1 adds.
struct Expected {
  double joint, weight;
  std::vector<double> sums;
};

Expected expected(const Scales& scales, std::size_t k, double distance) {
  if (scales.degrees != nullptr) {
    const double nu = scales.degrees[k], u = (nu + kDimension) / (nu + distance);
    return {kConstants[k] - 0.5 * (nu + kDimension) * std::log1p(distance / nu), u, {1.0, u, std::log(u)}};
  }
  double largest = -std::numeric_limits<double>::infinity(), total = 0, moment = 0;
  std::vector<double> terms;
  for (std::size_t j = 0; j < kScales; ++j) {
    const double q = scales.squared[j];
    terms.push_back(scales.log_weights[k * kScales + j] - 0.5 * (kDimension * std::log(q) + distance / q));
    largest = std::max(largest, terms.back());
  }
  for (double& term : terms) total += term = std::exp(term - largest);
  for (std::size_t j = 0; j < kScales; ++j) moment += (terms[j] /= total) / scales.squared[j];
  return {kConstants[k] + largest + std::log(total), moment, terms};
}

template <class T>
void check(const Scales& scales) {
  constexpr double tolerance = 200 * static_cast<double>(std::numeric_limits<T>::epsilon());
  constexpr std::size_t stride = 64;
  // −½ δ, as squared coefficients give it; distances over six orders of magnitude.
  std::vector<T> distances(kComponents * stride);
  for (std::size_t k = 0; k < kComponents; ++k)
    for (std::size_t i = 0; i < kSamples; ++i)
      distances[k * stride + i] = static_cast<T>(-0.5 * std::pow(10.0, -2 + 6 * static_cast<double>(i) / kSamples));
  const Profile<T> profile = profile_of<T>(scales, kComponents, kConstants.data(), 2.0, 1.0);
  ScaledBlock<T> block(profile, kSamples, std::numeric_limits<T>::max());
  block.mix(distances.data(), stride, kSamples);
  std::vector<double> sums(kComponents * scales.n_sums()), expected_sums(sums.size());
  for (std::size_t k = 0; k < kComponents; ++k) {
    std::vector<std::uint32_t> samples;
    std::vector<T> weights;
    for (std::uint32_t i = 0; i < kSamples; i += 2) {
      samples.push_back(i);
      weights.push_back(T{0.25});
    }
    block.weigh(k, distances.data() + k * stride, samples.data(), samples.size(), weights.data());
    for (std::size_t i = 0; i < kSamples; ++i) {
      const Expected one = expected(scales, k, -2 * static_cast<double>(distances[k * stride + i]));
      CHECK(std::abs(static_cast<double>(block.joint(i, k)) - (one.joint - 2)) < tolerance * (1 + std::abs(one.joint)));
      if (i % 2 != 0) continue;
      CHECK(static_cast<double>(weights[i / 2]) == doctest::Approx(0.25 * one.weight).epsilon(tolerance * 100));
      for (std::size_t s = 0; s < one.sums.size(); ++s) expected_sums[k * one.sums.size() + s] += 0.25 * one.sums[s];
    }
  }
  block.flush(sums.data());
  for (std::size_t s = 0; s < sums.size(); ++s)
    CHECK(std::abs(sums[s] - expected_sums[s]) < tolerance * 100 * (1 + std::abs(expected_sums[s])));
}

}  // namespace

TEST_CASE_TEMPLATE("a grid of scales", T, float, double) {
  const std::vector<double> squared{0.1, 0.4, 1, 3, 20};
  std::vector<double> log_weights(kComponents * kScales, std::log(1.0 / kScales));
  log_weights[3] = -std::numeric_limits<double>::infinity();
  check<T>({kScales, squared.data(), log_weights.data(), nullptr, kDimension});
}

TEST_CASE_TEMPLATE("Student's t", T, float, double) {
  const std::vector<double> degrees{0.5, 7, 1e6};
  check<T>({0, nullptr, nullptr, degrees.data(), kDimension});
}

TEST_CASE_TEMPLATE("log (1 + y)", T, float, double) {
  for (const double y : {0.0, 1e-30, 1e-9, 1e-4, 0.3, 0.5, 1.0, 77.0, 1e30}) {
    const simd::Vec<T> value = simd::log1p_nonnegative<T>(simd::Vec<T>{} + static_cast<T>(y));
    const double exact = std::log1p(static_cast<double>(static_cast<T>(y)));
    CHECK(std::abs(static_cast<double>(value[0]) - exact) <=
          4 * static_cast<double>(std::numeric_limits<T>::epsilon()) * exact);
  }
  const T infinity = std::numeric_limits<T>::infinity();
  CHECK(simd::log1p_nonnegative<T>(simd::Vec<T>{} + infinity)[0] == infinity);
}

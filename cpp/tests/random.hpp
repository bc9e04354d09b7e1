// Random values that the tests share.
#pragma once

#include <random>
#include <vector>

namespace convgmm::test {

template <class T>
std::vector<T> normal(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw;
  std::vector<T> values(n);
  for (T& value : values) value = static_cast<T>(draw(engine));
  return values;
}

// A bound on the rounding of sums of a few hundred products of such values.
template <class T>
inline constexpr double kTolerance = sizeof(T) == 4 ? 2e-4 : 1e-12;

}  // namespace convgmm::test

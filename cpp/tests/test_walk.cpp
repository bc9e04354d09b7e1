// The pruned walk with bounds of what its rows to come add, beside brute force.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "full.hpp"
#include "full_stages.hpp"
#include "full_walk.hpp"
#include "random.hpp"

using namespace convgmm;
using test::normal;

TEST_CASE_TEMPLATE("a walk with tails finds the likeliest component, and drops more of the others", T, float, double) {
  constexpr std::size_t D = 44, K = 12, n = 600;
  constexpr double kNoise = 0.01;
  // Covariances whose small coordinates are mostly noise, half of the means not 0.
  std::vector<double> covariances(K * D * D), means(K * D), log_diagonal(K), inverse_diagonal(K * D), constants(K);
  for (unsigned k = 0; k < K; ++k) {
    const auto factor = normal<double>(D * D, 20 + k);
    const auto mean = normal<double>(D, 60 + k);
    for (std::size_t i = 0; i < D; ++i) {
      const double size_i = 1.0 / static_cast<double>(1 + i);
      if (k % 2 == 1) means[k * D + i] = 0.3 * size_i * mean[i];
      for (std::size_t j = 0; j < D; ++j) {
        double sum = i == j ? kNoise : 0;
        for (std::size_t r = 0; r < D; ++r)
          sum += factor[i * D + r] * factor[j * D + r] * size_i / static_cast<double>((1 + j) * (1 + r) * (1 + k));
        covariances[(k * D + i) * D + j] = sum;
      }
    }
  }
  const std::size_t size = full::packed_size(D);
  std::vector<T> whiteners(K * size);
  REQUIRE(full::factorize(covariances.data(), K, D, 1, whiteners.data(), log_diagonal.data(),
                          inverse_diagonal.data()) == -1);
  constants = log_diagonal;
  std::vector<T> samples(n * D);
  const auto white = normal<double>(n * D, 5);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t d = 0; d < D; ++d)
      samples[i * D + d] =
          static_cast<T>(means[i % K * D + d] + white[i * D + d] * (0.1 + 0.6 / static_cast<double>(1 + d)));
  const std::vector<std::size_t> stages = full::stage_candidates(D);
  const std::vector<std::size_t> inner(stages.begin(), stages.end() - 1);
  REQUIRE(!inner.empty());
  const full::Tails tails = full::tails_of(means.data(), covariances.data(), K, D, kNoise, inner, 2);
  const full::Mixture<T> mixture{K, D, means.data(), constants.data(), whiteners.data()};
  const full::PreparedMixture<T> plain(mixture), with_tails(mixture, &tails);
  const std::vector<std::size_t> all_rows{D};  // a walker keeps a reference to its stages
  full::Walker<T> dense(plain, all_rows, T{0});
  full::Walker<T> without(plain, stages, T{0});
  full::Walker<T> with(with_tails, stages, T{0});
  std::vector<std::int32_t> expected(n, -1), one(n, -1), two(n, -1);
  dense.run(samples.data(), n, expected.data());
  without.run(samples.data(), n, one.data());
  with.run(samples.data(), n, two.data());
  CHECK(one == expected);
  CHECK(two == expected);
  CHECK(with.pairs.back() < without.pairs.back());
  // No bound may be above what it bounds: the dropped are those whose joint value is below the likeliest.
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t k = 0; k < K; ++k)
      if (dense.joint(i, k) >= dense.joint(i, static_cast<std::size_t>(expected[i])))
        CHECK(std::isfinite(with.joint(i, k)));
}

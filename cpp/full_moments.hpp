// The sums of the M-step: who adds to them, and where they stand until then.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <numeric>
#include <vector>

#include "full.hpp"
#include "full_moment_sums.hpp"
#include "parallel.hpp"
#include "posterior.hpp"

namespace convgmm::full {

// Float64 sums, of all components together, that a thread may have of its own, 2 MiB. Samples are in cache where they
// are added to such sums; a second pass over what components keep has to fetch them again. An iteration over 100,000
// samples takes 0.83 times as long with 24 components of 63 features, 0.88 with 48, 0.82 with 4 of 256, and with four
// times as many sums as these 0.97; two Zen 4 cores, 2026-11.
inline constexpr std::size_t kOwnSums = std::size_t{1} << 18;

// The samples that a component keeps, from the first that is held on, with their γ times their weights.
template <class T>
struct Survivors {
  std::vector<std::uint32_t> samples;
  std::vector<T> gamma;

  void clear() {
    samples.clear();
    gamma.clear();
  }

  // Adds what a chunk of samples keeps, whose first one has number `begin`.
  void append(const Kept<T>& kept, std::size_t component, std::size_t begin) {
    const std::size_t count = kept.count(component);
    gamma.insert(gamma.end(), kept.responsibilities(component), kept.responsibilities(component) + count);
    std::transform(kept.samples(component), kept.samples(component) + count, std::back_inserter(samples),
                   [&](std::uint32_t sample) { return static_cast<std::uint32_t>(begin) + sample; });
  }
};

// Sums of one chunk in memory of their own.
class OwnStatistics {
 public:
  OwnStatistics(std::size_t K, std::size_t D, std::size_t n_shares)
      : K_(K),
        D_(D),
        memory_(K * (1 + D + D * D)),
        shares_(n_shares),
        sums{memory_.data(), memory_.data() + K, memory_.data() + K * (1 + D), 0, shares_.data()} {}
  OwnStatistics(OwnStatistics&&) = default;  // a copy's sums would be those of the original

  void clear() {
    std::fill(memory_.begin(), memory_.end(), 0.0);
    std::fill(shares_.begin(), shares_.end(), 0.0);
    sums.log_likelihood = 0;
  }

  void add_to(Statistics& total) const {
    const auto add = [](const double* from, std::size_t count, double* to) {
      std::transform(to, to + count, from, to, std::plus<>());
    };
    add(sums.responsibility, K_, total.responsibility);
    add(sums.first, K_ * D_, total.first);
    add(sums.second, K_ * D_ * D_, total.second);
    add(shares_.data(), shares_.size(), total.shares);
    total.log_likelihood += sums.log_likelihood;
  }

 private:
  std::size_t K_, D_;
  std::vector<double> memory_;
  std::vector<double> shares_;  // (K, n_sums)

 public:
  Statistics sums;
};

// Adds samples with their γ to rows [row, row_end) of the moments of component k and, with row 0, to its Σ γ.
template <class T, class Number, class Gamma>
void add_moments(MomentSums<T>& sums, const T* samples, const Number* numbers, const Gamma* gamma, std::size_t count,
                 const double* means, std::size_t k, std::size_t row, std::size_t row_end, Statistics& statistics) {
  const std::size_t D = sums.n_features();
  sums.add(samples, numbers, gamma, count, means + k * D, row, row_end, statistics.first + k * D,
           statistics.second + k * D * D);
  if (row == 0)
    statistics.responsibility[k] =
        std::accumulate(gamma, gamma + count, statistics.responsibility[k],
                        [](double sum, Gamma value) { return sum + static_cast<double>(value); });
}

// Calls add(sums, k, row, row_end) for bands of rows of all components, in parallel: few components make many bands.
template <class T, class Add>
void for_bands(std::size_t K, std::size_t D, int n_threads, Add add) {
  const std::size_t bands = std::clamp<std::size_t>(16 / K, 1, std::max<std::size_t>(1, D / 64));
  // Bands of equal work: rows r … take work in proportion to r.
  std::vector<std::size_t> edges(bands + 1, D);
  for (std::size_t b = 0; b < bands; ++b) {
    const double edge = static_cast<double>(D) * std::sqrt(static_cast<double>(b) / static_cast<double>(bands));
    edges[b] = static_cast<std::size_t>(edge) / MomentSums<T>::kRowStep * MomentSums<T>::kRowStep;
  }
  parallel::chunks(
      K * bands, 1, n_threads, [&] { return MomentSums<T>(D); },
      [&](MomentSums<T>& sums, std::size_t task, std::size_t) {
        add(sums, task / bands, edges[task % bands], edges[task % bands + 1]);
      });
}

// The upper triangles from the lower ones.
inline void symmetrize(const Statistics& statistics, std::size_t K, std::size_t D, int n_threads) {
  parallel::chunks(
      K, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
        const auto size = static_cast<Eigen::Index>(D);
        Eigen::Map<Matrix> C(statistics.second + k * D * D, size, size);
        C.triangularView<Eigen::StrictlyUpper>() = C.transpose();
      });
}

}  // namespace convgmm::full

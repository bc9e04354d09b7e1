// The plan of a walk: after how many rows of z it looks which components are left.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "full_tile.hpp"
#include "full_walk.hpp"

namespace convgmm::full {

// Stages whose bounds are those of tiles.
inline std::vector<std::size_t> whole_tiles(const std::vector<std::size_t>& stages, std::size_t D) {
  std::vector<std::size_t> whole;
  for (const std::size_t rows : stages) {
    const std::size_t bound = std::min(simd::round_up(rows, kTileRows), D);
    if (whole.empty() || bound > whole.back()) whole.push_back(bound);
  }
  return whole;
}

// Where a pair costs no more than finding out whether it survives, all are evaluated.
inline constexpr std::size_t kLeastRows = 16;

// After how many rows it is worth looking; ends with D.
inline std::vector<std::size_t> stage_candidates(std::size_t D) {
  std::vector<std::size_t> sizes;
  for (double q = kLeastRows; q < static_cast<double>(D); q *= 1.42) sizes.push_back(static_cast<std::size_t>(q));
  sizes.push_back(D);
  return whole_tiles(sizes, D);
}

// Stage sizes from the survival of a few samples, spread over all: the cheapest walk by the arithmetic that it takes.
// Counts decide, never times, so that results repeat. `tau` is that of the walk.
template <class T>
std::vector<std::size_t> plan_stages(const T* samples, std::size_t n, const PreparedMixture<T>& prepared,
                                     const std::int32_t* winners, T tau) {
  const std::size_t D = prepared.mixture.n_features;
  const std::size_t K = prepared.mixture.n_components;
  if (n == 0 || K < 2 || D < 2 * kLeastRows) return {D};
  const std::vector<std::size_t> sizes = stage_candidates(D);
  const std::size_t n_pilot = std::min(n, std::clamp<std::size_t>(n / 128, 32, 512));
  std::vector<T> pilot(n_pilot * D);
  std::vector<std::int32_t> pilot_winners(n_pilot);
  for (std::size_t i = 0; i < n_pilot; ++i) {
    const std::size_t from = i * n / n_pilot;
    std::copy_n(samples + from * D, D, pilot.data() + i * D);
    pilot_winners[i] = winners[from];
  }
  Walker<T> walker(prepared, sizes, tau);
  walker.run(pilot.data(), n_pilot, pilot_winners.data());
  // The pairs, beside each sample's first winner, that enter stage s.
  const auto entering = [&](std::size_t s) {
    return static_cast<double>(walker.pairs[s] - n_pilot) / static_cast<double>(n_pilot);
  };
  // What a pair costs, in multiply–adds: the rows [from, to) where samples are gathered, and where all are evaluated
  // those [0, to), with the listing of pairs that survive. Fitted on two Zen 5 cores in float32, 2026-11, to 8×8
  // patches with 200 components: 21 ns a pair with stages of 32 and 64 rows, 25 with 16, 32 and 64, 25.5 with all 64 at
  // once.
  const auto rows = [](double from, double to) { return 0.5 * (to * to - from * from); };
  const auto gathered = [&](double from, double to) { return rows(from, to) + 2 * to + 700; };
  const auto listed = [&](double to) { return rows(0, to) + 150; };
  const std::size_t m = sizes.size();
  std::vector<double> cheapest(m);  // from stage s, already done, to the end
  std::vector<std::size_t> next(m, m);
  for (std::size_t s = m - 1; s-- > 0;) {
    cheapest[s] = std::numeric_limits<double>::infinity();
    for (std::size_t t = s + 1; t < m; ++t) {
      // Pairs that survive size s are those that entered the stage after it.
      const double total =
          entering(s + 1) * gathered(static_cast<double>(sizes[s]), static_cast<double>(sizes[t])) + cheapest[t];
      if (total < cheapest[s]) {
        cheapest[s] = total;
        next[s] = t;
      }
    }
  }
  double best = static_cast<double>(K) * rows(0, static_cast<double>(D));
  std::size_t first = m - 1;
  for (std::size_t s = 0; s + 1 < m; ++s) {
    const double q = static_cast<double>(sizes[s]);
    const double total = static_cast<double>(K) * listed(q) + gathered(q, static_cast<double>(D)) + cheapest[s];
    if (total < best) {
      best = total;
      first = s;
    }
  }
  std::vector<std::size_t> stages;
  for (std::size_t s = first; s < m; s = next[s]) {
    stages.push_back(sizes[s]);
    if (s + 1 == m) break;
  }
  return stages;
}

template <class T>
std::vector<std::size_t> plan_stages(const T* samples, std::size_t n, const PreparedMixture<T>& prepared,
                                     const std::int32_t* winners) {
  return plan_stages(samples, n, prepared, winners, threshold<T>(prepared.mixture.n_components));
}

}  // namespace convgmm::full

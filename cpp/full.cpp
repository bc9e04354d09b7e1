#include "full.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include "full_moments.hpp"
#include "full_stages.hpp"
#include "full_walk.hpp"
#include "parallel.hpp"
#include "posterior.hpp"

namespace convgmm::full {
namespace {

// Sample–component pairs whose responsibilities are held at a time.
constexpr std::size_t kHeldPairs = std::size_t{1} << 24;

// Samples that walk together: enough to fill the products of components that few of them matter to.
std::size_t walk_chunk(std::size_t n) { return std::clamp<std::size_t>(n / 20, 512, 4096); }

// Calls use(walker, first, end) for finished walks over chunks of samples, in parallel.
template <class T, class Use>
void for_walks(const T* samples, std::size_t n, const PreparedMixture<T>& prepared,
               const std::vector<std::size_t>& stages, int n_threads, Use use) {
  struct Local {
    Walker<T> walker;
    std::vector<std::int32_t> winners;
  };
  parallel::chunks(
      n, walk_chunk(n), n_threads, [&] { return Local{Walker<T>(prepared, stages), {}}; },
      [&](Local& local, std::size_t begin, std::size_t end) {
        local.winners.assign(end - begin, -1);
        local.walker.run(samples + begin * prepared.mixture.n_features, end - begin, local.winners.data());
        use(local.walker, begin, end);
      });
}

}  // namespace

template <class T>
void expect(const T* samples, std::size_t n, const double* sample_weight, const Mixture<T>& mixture,
            const Assignment& assignment, std::vector<std::size_t> stages, int n_threads, std::int32_t* winners,
            Walk& walk, Statistics& statistics) {
  const std::size_t K = mixture.n_components;
  const std::size_t D = mixture.n_features;
  const PreparedMixture<T> prepared(mixture);
  stages = stages.empty() ? plan_stages(samples, n, prepared, winners) : whole_tiles(stages, D);
  walk.rows = stages;
  walk.pairs.assign(stages.size(), 0);
  // Small moments are summed where the samples are in cache; for large ones, what each component keeps is collected and
  // summed in a second pass.
  const bool one_pass = K * D * D <= kOwnSums;
  std::vector<Survivors<T>> survivors(one_pass ? 0 : K);

  struct Local {
    Walker<T> walker;
    SampleGroup<T> group;
    Kept<T> kept;
    MomentSums<T> sums;
    OwnStatistics own;
    std::size_t begin = 0;
  };
  // So many samples that their pairs fit in memory even if none is dropped.
  const std::size_t held = std::max<std::size_t>(kHeldPairs / K, 4096);
  const std::size_t chunk = walk_chunk(n);
  for (std::size_t start = 0; start < n; start += held) {
    const std::size_t count = std::min(held, n - start);
    for (auto& of_component : survivors) of_component.clear();
    parallel::ordered_chunks(
        count, chunk, n_threads,
        [&] {
          return Local{Walker<T>(prepared, stages), SampleGroup<T>(K), Kept<T>(K, chunk), MomentSums<T>(D),
                       OwnStatistics(one_pass ? K : 0, D, K * mixture.scales.n_sums())};
        },
        [&](Local& local, std::size_t begin, std::size_t end) {
          local.begin = begin;
          local.own.clear();
          local.kept.clear();
          std::fill(local.walker.pairs.begin(), local.walker.pairs.end(), std::uint64_t{0});
          const std::size_t first = start + begin;
          local.walker.run(samples + first * D, end - begin, winners + first);
          for (std::size_t i = 0; i < end - begin; i += SampleGroup<T>::kSize) {
            const std::size_t n_group = local.walker.fill(i, local.group);
            local.group.require_density(first + i);
            local.own.sums.log_likelihood +=
                local.kept.add(local.group, static_cast<std::uint32_t>(i), n_group,
                               sample_weight != nullptr ? sample_weight + first + i : nullptr, assignment, first + i);
          }
          if (mixture.scales) local.walker.weigh(local.kept, local.own.sums.shares);
          if (!one_pass) return;
          for (std::size_t k = 0; k < K; ++k)
            add_moments(local.sums, samples + first * D, local.kept.samples(k), local.kept.responsibilities(k),
                        local.kept.count(k), mixture.means, k, 0, D, local.own.sums);
        },
        [&](Local& local) {
          local.own.add_to(statistics);
          for (std::size_t k = 0; k < survivors.size(); ++k) survivors[k].append(local.kept, k, local.begin);
          for (std::size_t s = 0; s < stages.size(); ++s) walk.pairs[s] += local.walker.pairs[s];
        });
    if (!one_pass)
      for_bands<T>(K, D, n_threads, [&](MomentSums<T>& sums, std::size_t k, std::size_t row, std::size_t row_end) {
        add_moments(sums, samples + start * D, survivors[k].samples.data(), survivors[k].gamma.data(),
                    survivors[k].samples.size(), mixture.means, k, row, row_end, statistics);
      });
  }
  // The weights of moments are not responsibilities then.
  const std::size_t n_sums = mixture.scales.n_sums();
  for (std::size_t k = 0; mixture.scales && k < K; ++k)
    statistics.responsibility[k] = mixture.scales.responsibility(statistics.shares + k * n_sums);
  symmetrize(statistics, K, D, n_threads);
}

template <class T>
void moments(const T* samples, std::size_t n_features, const std::int64_t* offsets, const std::int64_t* indices,
             const double* responsibilities, std::size_t n_components, const double* means, int n_threads,
             Statistics& statistics) {
  for_bands<T>(n_components, n_features, n_threads,
               [&](MomentSums<T>& sums, std::size_t k, std::size_t row, std::size_t row_end) {
                 add_moments(sums, samples, indices + offsets[k], responsibilities + offsets[k],
                             static_cast<std::size_t>(offsets[k + 1] - offsets[k]), means, k, row, row_end, statistics);
               });
  symmetrize(statistics, n_components, n_features, n_threads);
}

template <class T>
void log_density(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* out) {
  const std::size_t K = mixture.n_components;
  const Profile<double> profile = profile_of<double>(mixture.scales, K, mixture.constants, 0, -0.5);
  for_walks(samples, n, PreparedMixture<T>(mixture), {mixture.n_features}, n_threads,
            [&](const Walker<T>& walker, std::size_t begin, std::size_t end) {
              constexpr std::size_t kSize = simd::kLanes<double>;
              const auto write = [&](const auto& of_norm) {
                for (std::size_t i = 0; i < end - begin; i += kSize)
                  for (std::size_t k = 0; k < K; ++k) {
                    const std::size_t count = std::min(kSize, end - begin - i);
                    simd::Vec<double> norm{};
                    for (std::size_t r = 0; r < count; ++r) norm[r] = static_cast<double>(walker.norm(i + r, k));
                    const simd::Vec<double> joint = of_norm.joint(k, norm);
                    for (std::size_t r = 0; r < count; ++r) out[(begin + i + r) * K + k] = static_cast<T>(joint[r]);
                  }
              };
              std::visit(write, profile);
            });
}

template <class T>
void posterior(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* responsibilities,
               T* log_probability) {
  const PreparedMixture<T> prepared(mixture);
  const std::size_t K = mixture.n_components;
  const std::vector<std::int32_t> unknown(n, -1);
  const std::vector<std::size_t> stages = plan_stages(samples, n, prepared, unknown.data());
  for_walks(samples, n, prepared, stages, n_threads, [&](const Walker<T>& walker, std::size_t begin, std::size_t end) {
    SampleGroup<T> group(K);
    for (std::size_t i = 0; i < end - begin; i += SampleGroup<T>::kSize) {
      const std::size_t n_group = walker.fill(i, group);
      group.write(n_group, K, responsibilities + (begin + i) * K, log_probability + begin + i);
    }
  });
}

#define CONVGMM_INSTANTIATE(T)                                                                             \
  template void expect<T>(const T*, std::size_t, const double*, const Mixture<T>&, const Assignment&,      \
                          std::vector<std::size_t>, int, std::int32_t*, Walk&, Statistics&);               \
  template void moments<T>(const T*, std::size_t, const std::int64_t*, const std::int64_t*, const double*, \
                           std::size_t, const double*, int, Statistics&);                                  \
  template void log_density<T>(const T*, std::size_t, const Mixture<T>&, int, T*);                         \
  template void posterior<T>(const T*, std::size_t, const Mixture<T>&, int, T*, T*);
CONVGMM_INSTANTIATE(float)
CONVGMM_INSTANTIATE(double)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::full

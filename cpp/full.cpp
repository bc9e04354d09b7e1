#include "full.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numbers>

#include "parallel.hpp"
#include "posterior.hpp"

namespace convgmm::full {
namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;  // column-major: a sample is a column
template <class T>
using ConstMatrix = Eigen::Map<const Matrix<T>>;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
using Eigen::Index;

// Samples gathered for one product: they, and the rows computed from them, stay in the second-level cache.
constexpr std::size_t kPanel = 256;
// Rows of a triangular factor that are multiplied at a time; beyond its diagonal a tile does needless work.
constexpr std::size_t kRowTile = 96;
// Columns of an inverse that are solved for at a time.
constexpr Index kColumnBlock = 96;
// Samples whose products are summed in the data's type before they are added to the float64 sums.
constexpr std::size_t kFlush = 2048;
// Sample–component pairs whose responsibilities are held at a time.
constexpr std::size_t kHeldPairs = std::size_t{1} << 24;

// How far, in nats, a component's bound must lie below the likeliest one to be dropped: K·exp(−τ) is then below what
// the type can show of a sum.
template <class T>
T threshold(std::size_t n_components) {
  return static_cast<T>((sizeof(T) == 4 ? 18.5 : 37.0) + std::log(static_cast<double>(n_components)));
}

std::size_t chunk_size(std::size_t n) { return std::clamp<std::size_t>(n / 20, 512, 4096); }

// A sample that a component keeps: γ is the responsibility times the sample's weight.
template <class T>
struct Pair {
  std::size_t sample;  // from the first sample that is held
  T gamma;
};

// Walks the samples of one chunk through the components.
template <class T>
class Walker {
 public:
  Walker(const Mixture<T>& mixture, const std::vector<std::size_t>& stages, const std::vector<T>& constants)
      : mixture_(mixture),
        stages_(stages),
        constants_(constants),
        D_(mixture.n_features),
        K_(mixture.n_components),
        tau_(threshold<T>(mixture.n_components)),
        alive_(K_),
        panel_(static_cast<Index>(D_), static_cast<Index>(kPanel)),
        product_(static_cast<Index>(kRowTile), static_cast<Index>(kPanel)),
        mean_(static_cast<Index>(D_)),
        pairs(stages.size()) {}

  // Evaluates `count` samples (count, D), and brings their winners up to date.
  void run(const T* samples, std::size_t count, std::int32_t* winners) {
    samples_ = samples;
    count_ = count;
    stride_ = simd::round_up(count, simd::kLanes<T>);
    partial_.assign(K_ * stride_, T{0});
    everyone_.resize(count);
    for (std::size_t i = 0; i < count; ++i) everyone_[i] = static_cast<std::uint32_t>(i);

    for (std::size_t k = 0; k < K_; ++k) advance(k, everyone_, 0, stages_[0]);
    pairs[0] += K_ * count;
    if (stages_.size() > 1) {
      start_with(winners);
      for (std::size_t s = 1; s < stages_.size(); ++s) {
        const bool last = s + 1 == stages_.size();
        for (std::size_t k = 0; k < K_; ++k) {
          drop_hopeless(k);
          advance(k, alive_[k], stages_[s - 1], stages_[s]);
          pairs[s] += alive_[k].size();
          if (last)
            for (const std::uint32_t i : alive_[k]) best_[i] = std::max(best_[i], joint(i, k));
        }
        if (!last) promote(s, winners);
      }
    }
    find_largest();
    std::copy(winner_.begin(), winner_.end(), winners);
  }

  // log π_k + log p(x|k) of a sample, after the walk; −inf where dropped.
  T joint(std::size_t sample, std::size_t component) const {
    return constants_[component] - T{0.5} * partial_[component * stride_ + sample];
  }

  // Hands the samples `begin`, … to a group, up to its size, and has it exponentiated; `first` is the number of the
  // chunk's first sample. Returns how many samples the group holds.
  std::size_t fill(std::size_t begin, std::size_t first, SampleGroup<T>& group) const {
    for (std::size_t k = 0; k < K_; ++k)
      group.set(k, constants_[k] - T{0.5} * simd::load(partial_.data() + k * stride_ + begin));
    const std::size_t n = std::min(SampleGroup<T>::kSize, count_ - begin);
    group.exponentiate(n, first + begin);
    return n;
  }

 private:
  // Adds to the squared norms of the samples in `list` the rows [from, to) of z.
  void advance(std::size_t k, const std::vector<std::uint32_t>& list, std::size_t from, std::size_t to) {
    if (list.empty()) return;
    const ConstMatrix<T> W(mixture_.whiteners + k * D_ * D_, static_cast<Index>(D_), static_cast<Index>(D_));
    for (std::size_t d = 0; d < to; ++d) mean_[static_cast<Index>(d)] = static_cast<T>(mixture_.means[k * D_ + d]);
    const auto width = static_cast<Index>(to);
    T* partial = partial_.data() + k * stride_;
    for (std::size_t first = 0; first < list.size(); first += kPanel) {
      const std::size_t n = std::min(kPanel, list.size() - first);
      const auto columns = static_cast<Index>(n);
      for (std::size_t j = 0; j < n; ++j)
        panel_.col(static_cast<Index>(j)).head(width) =
            Eigen::Map<const Vector<T>>(samples_ + list[first + j] * D_, width) - mean_.head(width);
      for (std::size_t row = from; row < to; row += kRowTile) {
        const auto rows = static_cast<Index>(std::min(kRowTile, to - row));
        const Index depth = static_cast<Index>(row) + rows;
        product_.topLeftCorner(rows, columns).noalias() =
            W.block(static_cast<Index>(row), 0, rows, depth) * panel_.topLeftCorner(depth, columns);
        for (std::size_t j = 0; j < n; ++j)
          partial[list[first + j]] += product_.col(static_cast<Index>(j)).head(rows).squaredNorm();
      }
    }
  }

  // Each sample's component with the largest bound, and that bound.
  void find_largest() {
    best_.assign(count_, -std::numeric_limits<T>::infinity());
    winner_.assign(count_, 0);
    for (std::size_t k = 0; k < K_; ++k)
      for (std::size_t i = 0; i < count_; ++i) {
        const T value = joint(i, k);
        winner_[i] = value > best_[i] ? static_cast<std::int32_t>(k) : winner_[i];
        best_[i] = std::max(best_[i], value);
      }
  }

  // What log π_k + log p(x|k) will be if the rows to come are like those so far. Unlike the bound it does not favour
  // components whose densities are high and narrow.
  T estimate(std::size_t sample, std::size_t component, T growth) const {
    return constants_[component] - T{0.5} * growth * partial_[component * stride_ + sample];
  }

  // Evaluates one component of each sample in full: the given winner or, where it is not known, the most promising.
  // All others are alive then.
  void start_with(const std::int32_t* winners) {
    const T growth = static_cast<T>(D_) / static_cast<T>(stages_[0]);
    std::vector<T> top(count_, -std::numeric_limits<T>::infinity());
    winner_.assign(winners, winners + count_);
    for (std::size_t k = 0; k < K_; ++k)
      for (std::size_t i = 0; i < count_; ++i) {
        const T value = estimate(i, k, growth);
        if (winners[i] >= 0 || !(value > top[i])) continue;
        top[i] = value;
        winner_[i] = static_cast<std::int32_t>(k);
      }
    best_.assign(count_, -std::numeric_limits<T>::infinity());
    for (auto& list : alive_) list.clear();
    for (std::size_t i = 0; i < count_; ++i)
      if (winner_[i] >= 0) alive_[static_cast<std::size_t>(winner_[i])].push_back(static_cast<std::uint32_t>(i));
    for (std::size_t k = 0; k < K_; ++k) {
      finish(k, alive_[k], 0);
      alive_[k].clear();
      for (const std::uint32_t i : everyone_)
        if (winner_[i] != static_cast<std::int32_t>(k)) alive_[k].push_back(i);
    }
  }

  // After stage s, for samples whose winner was not known: where a component promises more than the best one so far,
  // evaluates the most promising one in full.
  void promote(std::size_t s, const std::int32_t* winners) {
    const T growth = static_cast<T>(D_) / static_cast<T>(stages_[s]);
    std::vector<T> top = best_;
    winner_.assign(count_, -1);
    for (std::size_t k = 0; k < K_; ++k)
      for (const std::uint32_t i : alive_[k]) {
        const T value = estimate(i, k, growth);
        if (winners[i] >= 0 || !(value > top[i])) continue;
        top[i] = value;
        winner_[i] = static_cast<std::int32_t>(k);
      }
    std::vector<std::uint32_t> promoted;
    for (std::size_t k = 0; k < K_; ++k) {
      promoted.clear();
      const auto chosen = [&](std::uint32_t i) { return winner_[i] == static_cast<std::int32_t>(k); };
      std::copy_if(alive_[k].begin(), alive_[k].end(), std::back_inserter(promoted), chosen);
      if (promoted.empty()) continue;
      alive_[k].erase(std::remove_if(alive_[k].begin(), alive_[k].end(), chosen), alive_[k].end());
      finish(k, promoted, s);
    }
  }

  // Evaluates what is left after stage s of one component for the samples in `list`.
  void finish(std::size_t k, const std::vector<std::uint32_t>& list, std::size_t s) {
    advance(k, list, stages_[s], D_);
    for (const std::uint32_t i : list) best_[i] = std::max(best_[i], joint(i, k));
    for (std::size_t later = s + 1; later < stages_.size(); ++later) pairs[later] += list.size();
  }

  void drop_hopeless(std::size_t k) {
    std::size_t n = 0;
    for (const std::uint32_t i : alive_[k]) {
      if (joint(i, k) >= best_[i] - tau_)
        alive_[k][n++] = i;
      else
        partial_[k * stride_ + i] = std::numeric_limits<T>::infinity();
    }
    alive_[k].resize(n);
  }

  const Mixture<T>& mixture_;
  const std::vector<std::size_t>& stages_;
  const std::vector<T>& constants_;
  std::size_t D_, K_;
  T tau_;
  const T* samples_ = nullptr;
  std::size_t count_ = 0;
  std::size_t stride_ = 0;            // count, padded to whole vectors
  std::vector<T> partial_;            // (K, stride) squared norms so far; +inf once dropped
  std::vector<T> best_;               // (count,) the largest joint value known
  std::vector<std::int32_t> winner_;  // (count,) its component
  std::vector<std::uint32_t> everyone_;
  std::vector<std::vector<std::uint32_t>> alive_;
  Matrix<T> panel_, product_;
  Vector<T> mean_;

 public:
  std::vector<std::uint64_t> pairs;  // evaluated in each stage
};

// log π_k + Σ log W_k,ii − ½ D log 2π.
template <class T>
std::vector<T> joint_constants(const Mixture<T>& mixture) {
  std::vector<T> constants(mixture.n_components);
  for (std::size_t k = 0; k < mixture.n_components; ++k) {
    const double log_weight = mixture.weights != nullptr ? std::log(mixture.weights[k]) : 0.0;
    constants[k] = static_cast<T>(log_weight + mixture.log_diagonal[k] -
                                  0.5 * static_cast<double>(mixture.n_features) * std::log(2 * std::numbers::pi));
  }
  return constants;
}

// Stage sizes from the survival of a few samples, spread over all: the cheapest walk by the arithmetic that it takes.
// Counts decide, never times, so that results repeat.
template <class T>
std::vector<std::size_t> plan_stages(const T* samples, std::size_t n, const Mixture<T>& mixture,
                                     const std::vector<T>& constants, const std::int32_t* winners) {
  const std::size_t D = mixture.n_features;
  const std::size_t K = mixture.n_components;
  // Where a pair costs no more than finding out whether it survives, all are evaluated.
  constexpr std::size_t kLeastRows = 16;
  if (K < 2 || D < 2 * kLeastRows) return {D};
  std::vector<std::size_t> sizes;
  for (double q = kLeastRows; q < static_cast<double>(D); q *= 1.42) sizes.push_back(static_cast<std::size_t>(q));
  sizes.push_back(D);

  const std::size_t n_pilot = std::min(n, std::clamp<std::size_t>(n / 128, 32, 512));
  std::vector<T> pilot(n_pilot * D);
  std::vector<std::int32_t> pilot_winners(n_pilot);
  for (std::size_t i = 0; i < n_pilot; ++i) {
    const std::size_t from = i * n / n_pilot;
    std::copy_n(samples + from * D, D, pilot.data() + i * D);
    pilot_winners[i] = winners[from];
  }
  Walker<T> walker(mixture, sizes, constants);
  walker.run(pilot.data(), n_pilot, pilot_winners.data());
  // The pairs, beside each sample's first winner, that enter stage s.
  const auto entering = [&](std::size_t s) {
    return static_cast<double>(walker.pairs[s] - n_pilot) / static_cast<double>(n_pilot);
  };
  // Multiply–adds of the rows [from, to) for one pair, and what gathering and testing it costs beside them. Measured on
  // two Zen 5 cores in float32, 2026-11: on 8×8 patches with 200 components, three stages that do half of the dense
  // arithmetic take 6 % longer than dense work, so that a gathered coordinate costs about 40 multiply–adds.
  const auto cost = [](double from, double to) { return 0.5 * (to * to - from * from) + 40 * to + 800; };
  const std::size_t m = sizes.size();
  std::vector<double> cheapest(m);  // from stage s, already done, to the end
  std::vector<std::size_t> next(m, m);
  for (std::size_t s = m - 1; s-- > 0;) {
    cheapest[s] = std::numeric_limits<double>::infinity();
    for (std::size_t t = s + 1; t < m; ++t) {
      // Pairs that survive size s are those that entered the stage after it.
      const double total =
          entering(s + 1) * cost(static_cast<double>(sizes[s]), static_cast<double>(sizes[t])) + cheapest[t];
      if (total < cheapest[s]) {
        cheapest[s] = total;
        next[s] = t;
      }
    }
  }
  const double dense = static_cast<double>(K) * cost(0, static_cast<double>(D));
  double best = dense;
  std::size_t first = m - 1;
  for (std::size_t s = 0; s + 1 < m; ++s) {
    const double q = static_cast<double>(sizes[s]);
    const double total = static_cast<double>(K) * cost(0, q) + cost(q, static_cast<double>(D)) + cheapest[s];
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

// Sums the kept pairs of one component, in order, into rows [row, row_end) of its moments.
template <class T>
class MomentSums {
 public:
  explicit MomentSums(std::size_t D)
      : D_(static_cast<Index>(D)), panel_(D_, static_cast<Index>(kPanel)), root_(static_cast<Index>(kPanel)) {}

  void add(const T* samples, const std::vector<Pair<T>>& pairs, const double* mean, Index row, Index row_end,
           double* first, double* second) {
    const Vector<T> centre = Eigen::Map<const Vector<double>>(mean, D_).template cast<T>();
    const Index rows = row_end - row;
    sums_.setZero(rows, row_end);
    std::size_t summed = 0;
    for (std::size_t begin = 0; begin < pairs.size(); begin += kPanel) {
      const std::size_t n = std::min(kPanel, pairs.size() - begin);
      const auto columns = static_cast<Index>(n);
      for (std::size_t j = 0; j < n; ++j) {
        const Pair<T>& pair = pairs[begin + j];
        root_[static_cast<Index>(j)] = std::sqrt(pair.gamma);
        panel_.col(static_cast<Index>(j)).head(row_end) =
            (Eigen::Map<const Vector<T>>(samples + pair.sample * static_cast<std::size_t>(D_), row_end) -
             centre.head(row_end)) *
            root_[static_cast<Index>(j)];
      }
      for (Index r = row; r < row_end; r += static_cast<Index>(kRowTile)) {
        const Index height = std::min<Index>(static_cast<Index>(kRowTile), row_end - r);
        sums_.block(r - row, 0, height, r + height).noalias() +=
            panel_.block(r, 0, height, columns) * panel_.topLeftCorner(r + height, columns).transpose();
      }
      const Vector<T> shift = panel_.block(row, 0, rows, columns) * root_.head(columns);
      Eigen::Map<Vector<double>>(first + row, rows) += shift.template cast<double>();
      summed += n;
      if (summed >= kFlush) {
        flush(row, second);
        summed = 0;
      }
    }
    flush(row, second);
  }

 private:
  void flush(Index row, double* second) {
    for (Index column = 0; column < sums_.cols(); ++column) {
      const Index skip = std::max<Index>(0, column - row);  // only the lower triangle is wanted
      if (skip >= sums_.rows()) continue;
      Eigen::Map<Vector<double>>(second + column * D_ + row + skip, sums_.rows() - skip) +=
          sums_.col(column).tail(sums_.rows() - skip).template cast<double>();
    }
    sums_.setZero();
  }

  Index D_;
  Matrix<T> panel_, sums_;
  Vector<T> root_;
};

// Adds the pairs, sorted by component, to the moments. Few components are split into bands of rows for more threads.
template <class T>
void add_moments(const T* samples, const std::vector<std::vector<Pair<T>>>& of_component, const double* means,
                 std::size_t D, int n_threads, Statistics& statistics) {
  const std::size_t K = of_component.size();
  const std::size_t bands = std::clamp<std::size_t>(16 / K, 1, std::max<std::size_t>(1, D / 64));
  // Bands of equal work: rows r … take work in proportion to r.
  std::vector<Index> edges(bands + 1);
  for (std::size_t b = 0; b <= bands; ++b)
    edges[b] = static_cast<Index>(
        std::lround(static_cast<double>(D) * std::sqrt(static_cast<double>(b) / static_cast<double>(bands))));
  parallel::chunks(
      K * bands, 1, n_threads, [&] { return MomentSums<T>(D); },
      [&](MomentSums<T>& sums, std::size_t task, std::size_t) {
        const std::size_t k = task / bands;
        const std::size_t band = task % bands;
        const std::vector<Pair<T>>& pairs = of_component[k];
        if (pairs.empty()) return;
        sums.add(samples, pairs, means + k * D, edges[band], edges[band + 1], statistics.first + k * D,
                 statistics.second + k * D * D);
        if (band == 0)
          for (const Pair<T>& pair : pairs) statistics.responsibility[k] += static_cast<double>(pair.gamma);
      });
}

// The upper triangles from the lower ones.
void symmetrize(const Statistics& statistics, std::size_t K, std::size_t D, int n_threads) {
  parallel::chunks(
      K, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        Eigen::Map<Matrix<double>> C(statistics.second + k * D * D, static_cast<Index>(D), static_cast<Index>(D));
        C.triangularView<Eigen::StrictlyUpper>() = C.transpose();
      });
}

}  // namespace

template <class T>
std::ptrdiff_t factorize(const double* covariances, std::size_t n_components, std::size_t n_features, int n_threads,
                         T* whiteners, double* log_diagonal) {
  const auto D = static_cast<Index>(n_features);
  std::vector<char> failed(n_components, 0);
  parallel::chunks(
      n_components, 1, n_threads, [&] { return Matrix<double>(D, D); },
      [&](Matrix<double>& inverse, std::size_t k, std::size_t) {
        const Eigen::LLT<Matrix<double>> factor(ConstMatrix<double>(covariances + k * n_features * n_features, D, D));
        if (factor.info() != Eigen::Success) {
          failed[k] = 1;
          return;
        }
        inverse.setIdentity();
        // The columns of an inverse triangle begin at the diagonal: a block at a time needs a third of the arithmetic.
        for (Index column = 0; column < D; column += kColumnBlock) {
          const Index rest = D - column;
          factor.matrixLLT()
              .bottomRightCorner(rest, rest)
              .template triangularView<Eigen::Lower>()
              .solveInPlace(inverse.block(column, column, rest, std::min<Index>(kColumnBlock, rest)));
        }
        log_diagonal[k] = inverse.diagonal().array().log().sum();
        Eigen::Map<Matrix<T>>(whiteners + k * n_features * n_features, D, D) = inverse.template cast<T>();
        if (!std::isfinite(log_diagonal[k])) failed[k] = 1;
      });
  const auto first = std::find(failed.begin(), failed.end(), char{1});
  return first == failed.end() ? -1 : first - failed.begin();
}

template <class T>
void expect(const T* samples, std::size_t n, const double* sample_weight, const Mixture<T>& mixture,
            std::vector<std::size_t> stages, int n_threads, std::int32_t* winners, Walk& walk, Statistics& statistics) {
  const std::size_t K = mixture.n_components;
  const std::size_t D = mixture.n_features;
  const std::vector<T> constants = joint_constants(mixture);
  if (stages.empty()) stages = plan_stages(samples, n, mixture, constants, winners);
  walk.rows = stages;
  walk.pairs.assign(stages.size(), 0);
  std::vector<std::vector<Pair<T>>> of_component(K);

  struct Local {
    Walker<T> walker;
    SampleGroup<T> group;
    Kept<T> kept;
    std::size_t begin = 0;
    double log_likelihood = 0;
  };
  // So many samples that their pairs fit in memory even if none is dropped.
  const std::size_t held = std::max<std::size_t>(kHeldPairs / K, 4096);
  const std::size_t chunk = chunk_size(n);
  for (std::size_t start = 0; start < n; start += held) {
    const std::size_t count = std::min(held, n - start);
    for (auto& pairs : of_component) pairs.clear();
    parallel::ordered_chunks(
        count, chunk, n_threads,
        [&] { return Local{Walker<T>(mixture, stages, constants), SampleGroup<T>(K), Kept<T>(K, chunk)}; },
        [&](Local& local, std::size_t begin, std::size_t end) {
          local.begin = begin;
          local.log_likelihood = 0;
          local.kept.clear();
          std::fill(local.walker.pairs.begin(), local.walker.pairs.end(), std::uint64_t{0});
          const std::size_t first = start + begin;
          local.walker.run(samples + first * D, end - begin, winners + first);
          for (std::size_t i = 0; i < end - begin; i += SampleGroup<T>::kSize) {
            const std::size_t n_group = local.walker.fill(i, first, local.group);
            local.log_likelihood += local.kept.add(local.group, static_cast<std::uint32_t>(i), n_group,
                                                   sample_weight != nullptr ? sample_weight + first + i : nullptr);
          }
        },
        [&](Local& local) {
          statistics.log_likelihood += local.log_likelihood;
          for (std::size_t k = 0; k < K; ++k)
            for (std::size_t j = 0; j < local.kept.count(k); ++j)
              of_component[k].push_back({local.begin + local.kept.samples(k)[j], local.kept.responsibilities(k)[j]});
          for (std::size_t s = 0; s < stages.size(); ++s) walk.pairs[s] += local.walker.pairs[s];
        });
    add_moments(samples + start * D, of_component, mixture.means, D, n_threads, statistics);
  }
  symmetrize(statistics, K, D, n_threads);
}

template <class T>
void moments(const T* samples, std::size_t n_features, const std::int64_t* offsets, const std::int64_t* indices,
             const double* responsibilities, std::size_t n_components, const double* means, int n_threads,
             Statistics& statistics) {
  std::vector<std::vector<Pair<T>>> of_component(n_components);
  for (std::size_t k = 0; k < n_components; ++k)
    for (std::int64_t j = offsets[k]; j < offsets[k + 1]; ++j)
      of_component[k].push_back({static_cast<std::size_t>(indices[j]), static_cast<T>(responsibilities[j])});
  add_moments(samples, of_component, means, n_features, n_threads, statistics);
  symmetrize(statistics, n_components, n_features, n_threads);
}

namespace {

// Calls use(walker, first, end) for finished walks over chunks of samples, in parallel.
template <class T, class Use>
void for_walks(const T* samples, std::size_t n, const Mixture<T>& mixture, const std::vector<std::size_t>& stages,
               const std::vector<T>& constants, int n_threads, Use use) {
  struct Local {
    Walker<T> walker;
    std::vector<std::int32_t> winners;
  };
  parallel::chunks(
      n, chunk_size(n), n_threads, [&] { return Local{Walker<T>(mixture, stages, constants), {}}; },
      [&](Local& local, std::size_t begin, std::size_t end) {
        local.winners.assign(end - begin, -1);
        local.walker.run(samples + begin * mixture.n_features, end - begin, local.winners.data());
        use(local.walker, begin, end);
      });
}

}  // namespace

template <class T>
void log_density(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* out) {
  const std::size_t K = mixture.n_components;
  for_walks(samples, n, mixture, {mixture.n_features}, joint_constants(mixture), n_threads,
            [&](const Walker<T>& walker, std::size_t begin, std::size_t end) {
              for (std::size_t i = 0; i < end - begin; ++i)
                for (std::size_t k = 0; k < K; ++k) out[(begin + i) * K + k] = walker.joint(i, k);
            });
}

template <class T>
void posterior(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* responsibilities,
               T* log_probability) {
  const std::vector<T> constants = joint_constants(mixture);
  const std::size_t K = mixture.n_components;
  const std::vector<std::int32_t> unknown(n, -1);
  const std::vector<std::size_t> stages = plan_stages(samples, n, mixture, constants, unknown.data());
  for_walks(samples, n, mixture, stages, constants, n_threads,
            [&](const Walker<T>& walker, std::size_t begin, std::size_t end) {
              SampleGroup<T> group(K);
              for (std::size_t i = 0; i < end - begin; i += SampleGroup<T>::kSize) {
                const std::size_t n_group = walker.fill(i, begin, group);
                group.write(n_group, K, responsibilities + (begin + i) * K, log_probability + begin + i);
              }
            });
}

#define CONVGMM_INSTANTIATE(T)                                                                                    \
  template std::ptrdiff_t factorize<T>(const double*, std::size_t, std::size_t, int, T*, double*);                \
  template void expect<T>(const T*, std::size_t, const double*, const Mixture<T>&, std::vector<std::size_t>, int, \
                          std::int32_t*, Walk&, Statistics&);                                                     \
  template void moments<T>(const T*, std::size_t, const std::int64_t*, const std::int64_t*, const double*,        \
                           std::size_t, const double*, int, Statistics&);                                         \
  template void log_density<T>(const T*, std::size_t, const Mixture<T>&, int, T*);                                \
  template void posterior<T>(const T*, std::size_t, const Mixture<T>&, int, T*, T*);
CONVGMM_INSTANTIATE(float)
CONVGMM_INSTANTIATE(double)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::full

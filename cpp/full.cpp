#include "full.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

#include "full_products.hpp"
#include "parallel.hpp"
#include "posterior.hpp"
#include "sizes.hpp"

namespace convgmm::full {
namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;  // column-major
template <class T>
using ConstMatrix = Eigen::Map<const Matrix<T>>;
using Eigen::Index;

// Samples whose coordinates are written as columns once, for all components.
constexpr std::size_t kPanel = 512;
// Columns of an inverse that are solved for at a time.
constexpr Index kColumnBlock = 96;
// Sample–component pairs whose responsibilities are held at a time.
constexpr std::size_t kHeldPairs = std::size_t{1} << 24;
// Float64 sums, of all components together, that a thread may have of its own: they stay in the second-level cache.
constexpr std::size_t kOwnSums = std::size_t{1} << 16;

// How far, in nats, a component's bound must lie below the likeliest one to be dropped: K·exp(−τ) is then below what
// the type can show of a sum.
template <class T>
T threshold(std::size_t n_components) {
  return static_cast<T>((sizeof(T) == 4 ? 18.5 : 37.0) + std::log(static_cast<double>(n_components)));
}

std::size_t chunk_size(std::size_t n) { return std::clamp<std::size_t>(n / 20, 512, 4096); }

// A mixture in the form that walks read.
template <class T>
struct Prepared {
  const Mixture<T>& mixture;
  std::size_t whitener_size;
  double offset;             // the largest constant
  std::vector<T> means;      // (K, D)
  std::vector<T> constants;  // (K,) less the offset

  explicit Prepared(const Mixture<T>& mixture_)
      : mixture(mixture_),
        whitener_size(packed_size(mixture_.n_features)),
        offset(*std::max_element(mixture_.constants, mixture_.constants + mixture_.n_components)),
        means(mixture_.n_components * mixture_.n_features),
        constants(mixture_.n_components) {
    std::transform(mixture.means, mixture.means + means.size(), means.begin(),
                   [](double mean) { return static_cast<T>(mean); });
    std::transform(mixture.constants, mixture.constants + constants.size(), constants.begin(),
                   [&](double constant) { return static_cast<T>(constant - offset); });
  }

  const T* whitener(std::size_t k) const { return mixture.whiteners + k * whitener_size; }
};

// Walks the samples of one chunk through the components.
template <class T>
class Walker {
 public:
  Walker(const Prepared<T>& prepared, const std::vector<std::size_t>& stages)
      : prepared_(prepared),
        stages_(stages),
        D_(prepared.mixture.n_features),
        K_(prepared.mixture.n_components),
        tau_(threshold<T>(K_)),
        zero_(D_),
        alive_(K_),
        columns_(simd::round_up(stages[0], kLanes) * kPanel),
        centred_(D_ * kGroup<T>),
        pairs(stages.size()) {}

  // Evaluates `count` samples (count, D), and brings their winners up to date.
  void run(const T* samples, std::size_t count, std::int32_t* winners) {
    samples_ = samples;
    count_ = count;
    stride_ = simd::round_up(count, kLanes);
    partial_.resize(K_ * stride_);
    if (hopeful_.size() < stride_ + kLanes) {
      hopeful_ = AlignedBuffer<std::uint32_t>(stride_ + kLanes);
      norms_ = AlignedBuffer<T>(stride_ + kLanes);
    }
    evaluate_everyone(stages_[0]);
    pairs[0] += K_ * count;
    if (stages_.size() > 1) {
      start_with(winners);
      for (std::size_t s = 1; s < stages_.size(); ++s) {
        const bool last = s + 1 == stages_.size();
        for (std::size_t k = 0; k < K_; ++k) {
          s == 1 ? keep_hopeful(k) : drop_hopeless(k);
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

  // log π_k + log p(x|k) of a sample less the offset, after the walk; −inf where dropped.
  T joint(std::size_t sample, std::size_t component) const {
    return prepared_.constants[component] - T{0.5} * partial_[component * stride_ + sample];
  }

  // log π_k + log p(x|k) of a sample, after a walk that drops nothing.
  T log_density(std::size_t sample, std::size_t component) const {
    return static_cast<T>(prepared_.mixture.constants[component] -
                          0.5 * static_cast<double>(partial_[component * stride_ + sample]));
  }

  // Hands the samples `begin`, … to a group, up to its size, and has it exponentiated. Returns how many it holds.
  std::size_t fill(std::size_t begin, SampleGroup<T>& group) const {
    group.set_offset(prepared_.offset);
    for (std::size_t k = 0; k < K_; ++k)
      group.set(k, prepared_.constants[k] - T{0.5} * simd::load(partial_.data() + k * stride_ + begin));
    const std::size_t n = std::min(SampleGroup<T>::kSize, count_ - begin);
    group.exponentiate(n);
    return n;
  }

 private:
  static constexpr std::size_t kLanes = simd::kLanes<T>;

  // The samples whose coordinates fill the lanes of a vector: those numbered list[first], …, the last one repeated.
  template <class List>
  void gather(const List& list, std::size_t first, std::size_t count, const T* (&lanes)[kLanes]) const {
    for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = samples_ + list(std::min(first + i, count - 1)) * D_;
  }

  // Sets the squared norms of all samples to those of the first `rows` rows of z.
  void evaluate_everyone(std::size_t rows) {
    const T* lanes[kLanes];
    for (std::size_t begin = 0; begin < count_; begin += kPanel) {
      const std::size_t n = std::min(kPanel, count_ - begin);
      for (std::size_t i = 0; i < n; i += kLanes) {
        gather([](std::size_t number) { return number; }, begin + i, count_, lanes);
        write_columns<T>(lanes, zero_.data(), rows, D_, columns_.data() + i, kPanel);
      }
      for (std::size_t k = 0; k < K_; ++k) {
        const T* mean = prepared_.means.data() + k * D_;
        for (std::size_t first = 0; first < n; first += kGroup<T>)
          simd::with_constant<kTileVectors>(vectors_at(first, n), [&](auto vectors) {
            for (std::size_t d = 0; d < rows; ++d)
              for (std::size_t v = 0; v < vectors; ++v)
                simd::store(centred_.data() + (d * vectors + v) * kLanes,
                            simd::load(columns_.data() + d * kPanel + first + v * kLanes) - mean[d]);
            simd::Vec<T> norms[vectors];
            squared_norms(prepared_.whitener(k), 0, rows, centred_.data(), norms);
            for (std::size_t v = 0; v < vectors; ++v)
              simd::store(partial_.data() + k * stride_ + begin + first + v * kLanes, norms[v]);
          });
      }
    }
  }

  // Adds to the squared norms of the samples in `list` the rows [from, to) of z.
  void advance(std::size_t k, const std::vector<std::uint32_t>& list, std::size_t from, std::size_t to) {
    const T* lanes[kLanes];
    T* partial = partial_.data() + k * stride_;
    for (std::size_t first = 0; first < list.size(); first += kGroup<T>)
      simd::with_constant<kTileVectors>(vectors_at(first, list.size()), [&](auto vectors) {
        for (std::size_t v = 0; v < vectors; ++v) {
          gather([&](std::size_t number) { return list[number]; }, first + v * kLanes, list.size(), lanes);
          write_columns<T>(lanes, prepared_.means.data() + k * D_, to, D_, centred_.data() + v * kLanes,
                           vectors * kLanes);
        }
        simd::Vec<T> norms[vectors];
        squared_norms(prepared_.whitener(k), from, to, centred_.data(), norms);
        for (std::size_t i = 0; i < std::min(kGroup<T>, list.size() - first); ++i)
          partial[list[first + i]] += norms[i / kLanes][i % kLanes];
      });
  }

  // How many vectors the samples from `first` on fill in one product.
  static std::size_t vectors_at(std::size_t first, std::size_t count) {
    return std::min(kTileVectors, (count - first + kLanes - 1) / kLanes);
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
    return prepared_.constants[component] - T{0.5} * growth * partial_[component * stride_ + sample];
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
    best_.assign(stride_, -std::numeric_limits<T>::infinity());
    for (auto& list : alive_) list.clear();
    for (std::size_t i = 0; i < count_; ++i)
      if (winner_[i] >= 0) alive_[static_cast<std::size_t>(winner_[i])].push_back(static_cast<std::uint32_t>(i));
    for (std::size_t k = 0; k < K_; ++k) finish(k, alive_[k], 0);
  }

  // After the first stage: the samples, of all, that a component may matter to, but for those that it is done with.
  void keep_hopeful(std::size_t k) {
    using namespace simd;
    const auto infinity = std::numeric_limits<T>::infinity();
    T* partial = partial_.data() + k * stride_;
    std::size_t n = 0;
    for (std::size_t i = 0; i < count_; i += kLanes) {
      const Vec<T> norm = load(partial + i);
      const IntVec<T> hopeful = prepared_.constants[k] - T{0.5} * norm >= load(best_.data() + i) - tau_;
      const std::uint32_t mask = mask_of<T>(hopeful) & first_lanes<T>(count_ - i);
      store(partial + i, hopeful ? norm : Vec<T>{} + infinity);
      n += append<T>(norm, mask, static_cast<std::uint32_t>(i), norms_.data() + n, hopeful_.data() + n);
    }
    alive_[k].clear();
    std::copy_if(hopeful_.data(), hopeful_.data() + n, std::back_inserter(alive_[k]),
                 [&](std::uint32_t i) { return winner_[i] != static_cast<std::int32_t>(k); });
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

  const Prepared<T>& prepared_;
  const std::vector<std::size_t>& stages_;
  std::size_t D_, K_;
  T tau_;
  std::vector<T> zero_;  // (D,)
  const T* samples_ = nullptr;
  std::size_t count_ = 0;
  std::size_t stride_ = 0;                // count, padded to whole vectors
  std::vector<T> partial_;                // (K, stride) squared norms so far; +inf once dropped
  std::vector<T> best_;                   // (stride,) the largest joint value known
  std::vector<std::int32_t> winner_;      // (count,) its component
  AlignedBuffer<std::uint32_t> hopeful_;  // (stride + a vector,)
  AlignedBuffer<T> norms_;                // the same
  std::vector<std::vector<std::uint32_t>> alive_;
  AlignedBuffer<T> columns_;  // (rows of the first stage, kPanel) coordinates of all samples
  AlignedBuffer<T> centred_;  // (D, kGroup) coordinates of a group of samples, less a mean

 public:
  std::vector<std::uint64_t> pairs;  // evaluated in each stage
};

// Stages whose bounds are those of tiles.
std::vector<std::size_t> whole_tiles(const std::vector<std::size_t>& stages, std::size_t D) {
  std::vector<std::size_t> whole;
  for (const std::size_t rows : stages) {
    const std::size_t bound = std::min(simd::round_up(rows, kTileRows), D);
    if (whole.empty() || bound > whole.back()) whole.push_back(bound);
  }
  return whole;
}

// Stage sizes from the survival of a few samples, spread over all: the cheapest walk by the arithmetic that it takes.
// Counts decide, never times, so that results repeat.
template <class T>
std::vector<std::size_t> plan_stages(const T* samples, std::size_t n, const Prepared<T>& prepared,
                                     const std::int32_t* winners) {
  const std::size_t D = prepared.mixture.n_features;
  const std::size_t K = prepared.mixture.n_components;
  // Where a pair costs no more than finding out whether it survives, all are evaluated.
  constexpr std::size_t kLeastRows = 16;
  if (n == 0 || K < 2 || D < 2 * kLeastRows) return {D};
  std::vector<std::size_t> sizes;
  for (double q = kLeastRows; q < static_cast<double>(D); q *= 1.42) sizes.push_back(static_cast<std::size_t>(q));
  sizes.push_back(D);
  sizes = whole_tiles(sizes, D);

  const std::size_t n_pilot = std::min(n, std::clamp<std::size_t>(n / 128, 32, 512));
  std::vector<T> pilot(n_pilot * D);
  std::vector<std::int32_t> pilot_winners(n_pilot);
  for (std::size_t i = 0; i < n_pilot; ++i) {
    const std::size_t from = i * n / n_pilot;
    std::copy_n(samples + from * D, D, pilot.data() + i * D);
    pilot_winners[i] = winners[from];
  }
  Walker<T> walker(prepared, sizes);
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
  OwnStatistics(std::size_t K, std::size_t D)
      : K_(K),
        D_(D),
        memory_(K * (1 + D + D * D)),
        sums{memory_.data(), memory_.data() + K, memory_.data() + K * (1 + D)} {}
  OwnStatistics(OwnStatistics&&) = default;  // a copy's sums would be those of the original

  void clear() {
    std::fill(memory_.begin(), memory_.end(), 0.0);
    sums.log_likelihood = 0;
  }

  void add_to(Statistics& total) const {
    const auto add = [](const double* from, std::size_t count, double* to) {
      std::transform(to, to + count, from, to, std::plus<>());
    };
    add(sums.responsibility, K_, total.responsibility);
    add(sums.first, K_ * D_, total.first);
    add(sums.second, K_ * D_ * D_, total.second);
    total.log_likelihood += sums.log_likelihood;
  }

 private:
  std::size_t K_, D_;
  std::vector<double> memory_;

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
void symmetrize(const Statistics& statistics, std::size_t K, std::size_t D, int n_threads) {
  parallel::chunks(
      K, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        Eigen::Map<Matrix<double>> C(statistics.second + k * D * D, static_cast<Index>(D), static_cast<Index>(D));
        C.triangularView<Eigen::StrictlyLower>() = C.transpose();  // row by row these are the upper triangles
      });
}

}  // namespace

std::size_t packed_size(std::size_t n_features) {
  checked_product({n_features, n_features + 2 * kTileRows});  // more than it uses
  return PackedTriangle::size(n_features);
}

template <class T>
void transpose_whiteners(const T* whiteners, std::size_t n_components, std::size_t n_features, int n_threads,
                         T* upper) {
  parallel::chunks(
      n_components, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        const T* packed = whiteners + k * packed_size(n_features);
        T* out = upper + k * n_features * n_features;
        PackedTriangle::for_each(n_features, [&](std::size_t place, std::size_t row, std::size_t column) {
          if (row < n_features) out[column * n_features + row] = packed[place];
        });
      });
}

template <class T>
std::ptrdiff_t factorize(const double* covariances, std::size_t n_components, std::size_t n_features, int n_threads,
                         T* whiteners, double* log_diagonal, double* inverse_diagonal) {
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
        // C⁻¹ = Wᵀ W
        for (Index j = 0; j < D; ++j)
          inverse_diagonal[k * n_features + static_cast<std::size_t>(j)] = inverse.col(j).tail(D - j).squaredNorm();
        T* packed = whiteners + k * packed_size(n_features);
        PackedTriangle::for_each(n_features, [&](std::size_t place, std::size_t row, std::size_t column) {
          const bool inside = row < n_features && row >= column;
          packed[place] = inside ? static_cast<T>(inverse(static_cast<Index>(row), static_cast<Index>(column))) : T{0};
        });
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
  const Prepared<T> prepared(mixture);
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
  const std::size_t chunk = chunk_size(n);
  for (std::size_t start = 0; start < n; start += held) {
    const std::size_t count = std::min(held, n - start);
    for (auto& of_component : survivors) of_component.clear();
    parallel::ordered_chunks(
        count, chunk, n_threads,
        [&] {
          return Local{Walker<T>(prepared, stages), SampleGroup<T>(K), Kept<T>(K, chunk), MomentSums<T>(D),
                       OwnStatistics(one_pass ? K : 0, D)};
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
                               sample_weight != nullptr ? sample_weight + first + i : nullptr);
          }
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

namespace {

// Calls use(walker, first, end) for finished walks over chunks of samples, in parallel.
template <class T, class Use>
void for_walks(const T* samples, std::size_t n, const Prepared<T>& prepared, const std::vector<std::size_t>& stages,
               int n_threads, Use use) {
  struct Local {
    Walker<T> walker;
    std::vector<std::int32_t> winners;
  };
  parallel::chunks(
      n, chunk_size(n), n_threads, [&] { return Local{Walker<T>(prepared, stages), {}}; },
      [&](Local& local, std::size_t begin, std::size_t end) {
        local.winners.assign(end - begin, -1);
        local.walker.run(samples + begin * prepared.mixture.n_features, end - begin, local.winners.data());
        use(local.walker, begin, end);
      });
}

}  // namespace

template <class T>
void log_density(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* out) {
  const std::size_t K = mixture.n_components;
  for_walks(samples, n, Prepared<T>(mixture), {mixture.n_features}, n_threads,
            [&](const Walker<T>& walker, std::size_t begin, std::size_t end) {
              for (std::size_t i = 0; i < end - begin; ++i)
                for (std::size_t k = 0; k < K; ++k) out[(begin + i) * K + k] = walker.log_density(i, k);
            });
}

template <class T>
void posterior(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* responsibilities,
               T* log_probability) {
  const Prepared<T> prepared(mixture);
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

#define CONVGMM_INSTANTIATE(T)                                                                                    \
  template void transpose_whiteners<T>(const T*, std::size_t, std::size_t, int, T*);                              \
  template std::ptrdiff_t factorize<T>(const double*, std::size_t, std::size_t, int, T*, double*, double*);                \
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

// The pruned evaluation: samples walk through the components, and leave those that cannot matter to them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "aligned.hpp"
#include "full.hpp"
#include "full_tile.hpp"
#include "full_triangle.hpp"
#include "posterior.hpp"
#include "scales.hpp"
#include "simd.hpp"

namespace convgmm::full {

// Samples whose coordinates are written as columns once, for all components.
inline constexpr std::size_t kTransposed = 512;

// How far, in nats, a component's bound must lie below the likeliest one to be dropped: K·exp(−τ) is then below what
// the type can show of a sum.
template <class T>
T threshold(std::size_t n_components) {
  return static_cast<T>((sizeof(T) == 4 ? 18.5 : 37.0) + std::log(static_cast<double>(n_components)));
}

// A mixture in the form that walks read.
template <class T>
struct PreparedMixture {
  const Mixture<T>& mixture;
  std::size_t whitener_size;
  double offset;             // the largest constant
  std::vector<T> means;      // (K, D)
  std::vector<T> constants;  // (K,) less the offset
  std::optional<ScaleTable<T>> scales;
  const Tails* tails;  // null: rows to come are taken to add nothing

  explicit PreparedMixture(const Mixture<T>& mixture_, const Tails* tails_ = nullptr)
      : mixture(mixture_),
        whitener_size(packed_size(mixture_.n_features)),
        offset(*std::max_element(mixture_.constants, mixture_.constants + mixture_.n_components)),
        means(mixture_.n_components * mixture_.n_features),
        constants(mixture_.n_components),
        tails(tails_) {
    std::transform(mixture.means, mixture.means + means.size(), means.begin(),
                   [](double mean) { return static_cast<T>(mean); });
    std::transform(mixture.constants, mixture.constants + constants.size(), constants.begin(),
                   [&](double constant) { return static_cast<T>(constant - offset); });
    if (mixture.scales) scales.emplace(mixture.scales, mixture.n_components, mixture.constants, offset, -0.5);
  }

  // log π_k + log p(x|k) less the offset for a squared norm ‖z‖²; with scales a bound of it, that is met up to log J.
  T joint(std::size_t k, T norm) const { return scales ? scales->bound(k, norm) : constants[k] - T{0.5} * norm; }
  simd::Vec<T> joint(std::size_t k, simd::Vec<T> norm) const {
    return scales ? scales->bound(k, norm) : constants[k] - T{0.5} * norm;
  }

  const T* whitener(std::size_t k) const { return mixture.whiteners + k * whitener_size; }
};

// Walks the samples of one chunk through the components.
template <class T>
class Walker {
 public:
  // Components further below the likeliest than `tau` are dropped: 0 where the likeliest alone is asked for.
  Walker(const PreparedMixture<T>& prepared, const std::vector<std::size_t>& stages, T tau)
      : prepared_(prepared),
        stages_(stages),
        D_(prepared.mixture.n_features),
        K_(prepared.mixture.n_components),
        tau_(tau + (prepared.scales ? prepared.scales->cut() - kUnseen<T> : T{0})),
        zero_(D_),
        alive_(K_),
        columns_(simd::round_up(stages[0], kLanes) * kTransposed),
        centred_(D_ * kGroup<T>),
        pairs(stages.size()) {
    for (std::size_t s = 0; s + 1 < stages.size() && prepared.tails != nullptr; ++s) {
      const auto& rows = prepared.tails->rows;
      const auto found = std::find(rows.begin(), rows.end(), stages[s]);
      if (found == rows.end()) throw std::logic_error("a walk with tails stops where none is known");
      const auto at = static_cast<std::ptrdiff_t>(K_) * (found - rows.begin());
      const auto of_stage = [&](const std::vector<double>& values) {
        return std::vector<T>(values.begin() + at, values.begin() + at + static_cast<std::ptrdiff_t>(K_));
      };
      tails_.push_back(
          {of_stage(prepared.tails->cross), of_stage(prepared.tails->inverse), of_stage(prepared.tails->shift), {}});
    }
  }

  Walker(const PreparedMixture<T>& prepared, const std::vector<std::size_t>& stages)
      : Walker(prepared, stages, threshold<T>(prepared.mixture.n_components)) {}

  // Evaluates `count` samples (count, D), and brings their winners up to date.
  void run(const T* samples, std::size_t count, std::int32_t* winners) {
    samples_ = samples;
    count_ = count;
    stride_ = simd::round_up(count, kLanes);
    partial_.resize(K_ * stride_);
    for (std::size_t s = 0; s < tails_.size(); ++s) set_tail_norms(tails_[s].norms, stages_[s]);
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
          s == 1 ? keep_hopeful(k) : drop_hopeless(k, s - 1);
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
    if (!prepared_.scales) return;
    if (most_ < count) {
      most_ = count;
      scaled_ = std::make_unique<ScaledBlock<T>>(*prepared_.scales, count, threshold<T>(K_));
    }
    scaled_->mix(partial_.data(), stride_, count);
  }

  // log π_k + log p(x|k) of a sample less the offset, after the walk; −inf where dropped. With scales its bound.
  T joint(std::size_t sample, std::size_t component) const {
    return prepared_.joint(component, partial_[component * stride_ + sample]);
  }

  // log π_k + log p(x|k) of a sample, after a walk that drops nothing; without scales.
  T log_density(std::size_t sample, std::size_t component) const {
    return static_cast<T>(prepared_.mixture.constants[component] -
                          0.5 * static_cast<double>(partial_[component * stride_ + sample]));
  }

  // Hands the samples `begin`, … to a group, up to its size, and has it exponentiated. Returns how many it holds.
  std::size_t fill(std::size_t begin, SampleGroup<T>& group) const {
    group.set_offset(prepared_.offset);
    for (std::size_t k = 0; k < K_; ++k)
      group.set(k, scaled_ ? simd::load(scaled_->joint(k) + begin)
                           : prepared_.constants[k] - T{0.5} * simd::load(partial_.data() + k * stride_ + begin));
    const std::size_t n = std::min(SampleGroup<T>::kSize, count_ - begin);
    group.exponentiate(n);
    return n;
  }

  // With scales: turns the responsibilities that components keep into the weights of their moments, and adds those of
  // each scale to `shares` (K, J).
  void weigh(Kept<T>& kept, double* shares) {
    for (std::size_t k = 0; k < K_; ++k)
      scaled_->weigh(k, partial_.data() + k * stride_, kept.samples(k), kept.count(k), kept.responsibilities(k));
    scaled_->flush(shares);
  }

  // Throws NoDensity for a sample, the first of which has this number, that no component gives a density.
  void require_density(std::size_t number) const {
    for (std::size_t i = 0; i < count_; ++i)
      if (!(best_[i] > -std::numeric_limits<T>::infinity())) throw NoDensity(number + i);
  }

  // ‖z‖² of a sample.
  T norm(std::size_t sample, std::size_t component) const { return partial_[component * stride_ + sample]; }

 private:
  static constexpr std::size_t kLanes = simd::kLanes<T>;

  // Of each component after one stage, as in `Tails`, and ‖x_b‖ of each sample.
  struct StageTails {
    std::vector<T> cross, inverse, shift;
    std::vector<T> norms;
  };

  void set_tail_norms(std::vector<T>& norms, std::size_t from) const {
    norms.assign(stride_, T{0});
    for (std::size_t i = 0; i < count_; ++i) {
      T sum{};
      for (std::size_t d = from; d < D_; ++d) sum += samples_[i * D_ + d] * samples_[i * D_ + d];
      norms[i] = std::sqrt(sum);
    }
  }

  // What ‖z‖² will be at least, from that of the rows up to stage s.
  simd::Vec<T> least_norm(std::size_t k, std::size_t s, simd::Vec<T> norm, std::size_t sample) const {
    if (tails_.empty()) return norm;
    const StageTails& tails = tails_[s];
    simd::Vec<T> rest = simd::load(tails.norms.data() + sample) - tails.shift[k] - tails.cross[k] * simd::root<T>(norm);
    rest = simd::maximum<T>(rest, simd::Vec<T>{});
    return norm + rest * rest * tails.inverse[k];
  }
  T least_norm(std::size_t k, std::size_t s, T norm, std::size_t sample) const {
    if (tails_.empty()) return norm;
    const StageTails& tails = tails_[s];
    const T rest = std::max(tails.norms[sample] - tails.shift[k] - tails.cross[k] * std::sqrt(norm), T{0});
    return norm + rest * rest * tails.inverse[k];
  }

  // The samples whose coordinates fill the lanes of a vector: those numbered list[first], …, the last one repeated.
  template <class List>
  void gather(const List& list, std::size_t first, std::size_t count, const T* (&lanes)[kLanes]) const {
    for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = samples_ + list(std::min(first + i, count - 1)) * D_;
  }

  // Sets the squared norms of all samples to those of the first `rows` rows of z.
  void evaluate_everyone(std::size_t rows) {
    const T* lanes[kLanes];
    for (std::size_t begin = 0; begin < count_; begin += kTransposed) {
      const std::size_t n = std::min(kTransposed, count_ - begin);
      for (std::size_t i = 0; i < n; i += kLanes) {
        gather([](std::size_t number) { return number; }, begin + i, count_, lanes);
        write_columns<T>(lanes, zero_.data(), rows, D_, columns_.data() + i, kTransposed);
      }
      for (std::size_t k = 0; k < K_; ++k) {
        const T* mean = prepared_.means.data() + k * D_;
        for (std::size_t first = 0; first < n; first += kGroup<T>)
          simd::with_constant<kTileVectors>(vectors_at(first, n), [&](auto vectors) {
            for (std::size_t d = 0; d < rows; ++d)
              for (std::size_t v = 0; v < vectors; ++v)
                simd::store(centred_.data() + (d * vectors + v) * kLanes,
                            simd::load(columns_.data() + d * kTransposed + first + v * kLanes) - mean[d]);
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
    return prepared_.scales ? prepared_.joint(component, growth * partial_[component * stride_ + sample])
                            : prepared_.constants[component] - T{0.5} * growth * partial_[component * stride_ + sample];
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
        const bool better = winners[i] < 0 && value > top[i];  // no branch, which would seldom be foreseen
        top[i] = better ? value : top[i];
        winner_[i] = better ? static_cast<std::int32_t>(k) : winner_[i];
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
    done_.clear();  // of these `partial` has all rows
    for (const std::uint32_t i : alive_[k]) done_.push_back(partial[i]);
    std::size_t n = 0;
    for (std::size_t i = 0; i < count_; i += kLanes) {
      const Vec<T> norm = load(partial + i);
      const IntVec<T> hopeful = prepared_.joint(k, least_norm(k, 0, norm, i)) >= load(best_.data() + i) - tau_;
      const std::uint32_t mask = mask_of<T>(hopeful) & first_lanes<T>(count_ - i);
      store(partial + i, hopeful ? norm : Vec<T>{} + infinity);
      n += append<T>(norm, mask, static_cast<std::uint32_t>(i), norms_.data() + n, hopeful_.data() + n);
    }
    for (std::size_t j = 0; j < done_.size(); ++j) partial[alive_[k][j]] = done_[j];
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

  void drop_hopeless(std::size_t k, std::size_t s) {
    std::size_t n = 0;
    for (const std::uint32_t i : alive_[k]) {
      if (prepared_.joint(k, least_norm(k, s, partial_[k * stride_ + i], i)) >= best_[i] - tau_)
        alive_[k][n++] = i;
      else
        partial_[k * stride_ + i] = std::numeric_limits<T>::infinity();
    }
    alive_[k].resize(n);
  }

  const PreparedMixture<T>& prepared_;
  const std::vector<std::size_t>& stages_;
  std::size_t D_, K_;
  T tau_;
  std::vector<T> zero_;  // (D,)
  std::vector<StageTails> tails_;
  const T* samples_ = nullptr;
  std::size_t count_ = 0;
  std::size_t stride_ = 0;                // count, padded to whole vectors
  std::vector<T> partial_;                // (K, stride) squared norms so far; +inf once dropped
  std::vector<T> best_;                   // (stride,) the largest joint value known
  std::vector<std::int32_t> winner_;      // (count,) its component
  AlignedBuffer<std::uint32_t> hopeful_;  // (stride + a vector,)
  AlignedBuffer<T> norms_;                // the same
  std::vector<T> done_;
  std::vector<std::vector<std::uint32_t>> alive_;
  std::unique_ptr<ScaledBlock<T>> scaled_;  // with scales, for up to so many samples
  std::size_t most_ = 0;
  AlignedBuffer<T> columns_;  // (rows of the first stage, kTransposed) coordinates of all samples
  AlignedBuffer<T> centred_;  // (D, kGroup) coordinates of a group of samples, less a mean

 public:
  std::vector<std::uint64_t> pairs;  // evaluated in each stage
};

}  // namespace convgmm::full

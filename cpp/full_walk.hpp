// The pruned evaluation: samples walk through the components, and leave those that cannot matter to them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <stdexcept>
#include <variant>
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
  double offset;         // the largest constant
  std::vector<T> means;  // (K, D)
  Profile<T> profile;    // log π_k + log p(x|k) less the offset, of squared norms ‖z‖²
  const Tails* tails;    // null: rows to come are taken to add nothing

  explicit PreparedMixture(const Mixture<T>& mixture_, const Tails* tails_ = nullptr)
      : mixture(mixture_),
        whitener_size(packed_size(mixture_.n_features)),
        offset(*std::max_element(mixture_.constants, mixture_.constants + mixture_.n_components)),
        means(mixture_.n_components * mixture_.n_features),
        profile(profile_of<T>(mixture_.scales, mixture_.n_components, mixture_.constants, offset, -0.5)),
        tails(tails_) {
    std::transform(mixture.means, mixture.means + means.size(), means.begin(),
                   [](double mean) { return static_cast<T>(mean); });
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
        tau_(tau + std::visit([](const auto& profile) { return profile.slack(); }, prepared.profile)),
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
    std::visit([&](const auto& profile) { walk(profile, winners); }, prepared_.profile);
    std::copy_n(winner_.begin(), count, winners);
    if (!prepared_.mixture.scales) return;
    if (most_ < count) {
      most_ = count;
      scaled_ = std::make_unique<ScaledBlock<T>>(prepared_.profile, count, threshold<T>(K_));
    }
    scaled_->mix(partial_.data(), stride_, count);
  }

  // Hands the samples `begin`, … to a group, up to its size, and has it exponentiated. Returns how many it holds.
  std::size_t fill(std::size_t begin, SampleGroup<T>& group) const {
    group.set_offset(prepared_.offset);
    const auto* gaussian = std::get_if<GaussianProfile<T>>(&prepared_.profile);
    for (std::size_t k = 0; k < K_; ++k)
      group.set(k, gaussian ? gaussian->joint(k, simd::load(partial_.data() + k * stride_ + begin))
                            : simd::load(scaled_->joint(k) + begin));
    const std::size_t n = std::min(SampleGroup<T>::kSize, count_ - begin);
    group.exponentiate(n);
    return n;
  }

  // With scales: turns the responsibilities that components keep into the weights of their moments, and adds to the
  // sums of the scales (K, n_sums).
  void weigh(Kept<T>& kept, double* sums) {
    for (std::size_t k = 0; k < K_; ++k)
      scaled_->weigh(k, partial_.data() + k * stride_, kept.samples(k), kept.count(k), kept.responsibilities(k));
    scaled_->flush(sums);
  }

  // log π_k + log p(x|k) of a sample less the offset, or a bound of it; −∞ where the component was dropped.
  T joint(std::size_t sample, std::size_t component) const {
    const simd::Vec<T> norms = simd::Vec<T>{} + norm(sample, component);
    return std::visit([&](const auto& profile) { return profile.bound(component, norms)[0]; }, prepared_.profile);
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

  // What ‖z‖² will be at least, from that of the rows up to stage s, of consecutive samples, or of any with these
  // ‖x_b‖.
  simd::Vec<T> least_norm(std::size_t k, std::size_t s, simd::Vec<T> norm, std::size_t first) const {
    return tails_.empty() ? norm : least_norm(k, s, norm, simd::load(tails_[s].norms.data() + first));
  }
  simd::Vec<T> least_norm(std::size_t k, std::size_t s, simd::Vec<T> norm, simd::Vec<T> of_samples) const {
    const StageTails& tails = tails_[s];
    simd::Vec<T> rest = of_samples - tails.shift[k] - tails.cross[k] * simd::root<T>(norm);
    rest = simd::maximum<T>(rest, simd::Vec<T>{});
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

  // From the first stage on: drops, of every sample, the components that cannot matter to it.
  template <class P>
  void walk(const P& profile, const std::int32_t* winners) {
    if (stages_.size() > 1) {
      start_with(profile, winners);
      for (std::size_t s = 1; s < stages_.size(); ++s) {
        const bool last = s + 1 == stages_.size();
        for (std::size_t k = 0; k < K_; ++k) {
          s == 1 ? keep_hopeful(profile, k) : drop_hopeless(profile, k, s - 1);
          advance(k, alive_[k], stages_[s - 1], stages_[s]);
          pairs[s] += alive_[k].size();
          if (last) raise_best(profile, k, alive_[k]);
        }
        if (!last) promote(profile, s, winners);
      }
    }
    find_largest(profile, T{1});
  }

  // Each sample's component with the largest bound of `growth` times its squared norm, and that bound. With a growth
  // above 1 it is what log π_k + log p(x|k) will be if the rows to come are like those so far: unlike the bound itself
  // that does not favour components whose densities are high and narrow.
  template <class P>
  void find_largest(const P& profile, T growth) {
    using namespace simd;
    using Integer = typename IntegerOf<T>::type;
    best_.resize(stride_);
    winner_.resize(stride_);
    for (std::size_t i = 0; i < stride_; i += kLanes) {
      Vec<T> best = Vec<T>{} - std::numeric_limits<T>::infinity();
      IntVec<T> winner{};
      for (std::size_t k = 0; k < K_; ++k) {
        const Vec<T> value = profile.bound(k, growth * load(partial_.data() + k * stride_ + i));
        winner = value > best ? IntVec<T>{} + static_cast<Integer>(k) : winner;
        best = maximum<T>(value, best);
      }
      store(best_.data() + i, best);
      for (std::size_t lane = 0; lane < kLanes; ++lane) winner_[i + lane] = static_cast<std::int32_t>(winner[lane]);
    }
  }

  // Calls use(sample, bound) for the samples in `list`, with bounds of norm(squared norms, samples, how many).
  template <class P, class Norm, class Use>
  void for_bounds(const P& profile, std::size_t k, const std::vector<std::uint32_t>& list, Norm norm, Use use) const {
    for (std::size_t first = 0; first < list.size(); first += kLanes) {
      const std::size_t n = std::min(kLanes, list.size() - first);
      const std::uint32_t* samples = list.data() + first;
      const simd::Vec<T> known = simd::gather(partial_.data() + k * stride_, samples, n);
      const simd::Vec<T> bound = profile.bound(k, norm(known, samples, n));
      for (std::size_t lane = 0; lane < n; ++lane) use(list[first + lane], bound[lane]);
    }
  }

  // The largest joint value known of the samples in `list`, whose squared norms are those of all rows.
  template <class P>
  void raise_best(const P& profile, std::size_t k, const std::vector<std::uint32_t>& list) {
    const auto whole = [](simd::Vec<T> norm, const std::uint32_t*, std::size_t) { return norm; };
    for_bounds(profile, k, list, whole, [&](std::uint32_t i, T joint) { best_[i] = std::max(best_[i], joint); });
  }

  // How many times larger than now a squared norm will be if the rows to come are like those of the stages up to s.
  T growth_after(std::size_t s) const { return static_cast<T>(D_) / static_cast<T>(stages_[s]); }

  // Evaluates one component of each sample in full: the given winner or, where it is not known, the most promising.
  // All others are alive then.
  template <class P>
  void start_with(const P& profile, const std::int32_t* winners) {
    const bool unknown = std::any_of(winners, winners + count_, [](std::int32_t winner) { return winner < 0; });
    if (unknown) find_largest(profile, growth_after(0));
    winner_.resize(stride_);
    for (std::size_t i = 0; i < count_; ++i) winner_[i] = winners[i] >= 0 ? winners[i] : winner_[i];
    best_.assign(stride_, -std::numeric_limits<T>::infinity());
    for (auto& list : alive_) list.clear();
    for (std::size_t i = 0; i < count_; ++i)
      alive_[static_cast<std::size_t>(winner_[i])].push_back(static_cast<std::uint32_t>(i));
    for (std::size_t k = 0; k < K_; ++k) finish(profile, k, alive_[k], 0);
  }

  // After the first stage: the samples, of all, that a component may matter to, but for those that it is done with.
  template <class P>
  void keep_hopeful(const P& profile, std::size_t k) {
    using namespace simd;
    const auto infinity = std::numeric_limits<T>::infinity();
    T* partial = partial_.data() + k * stride_;
    done_.clear();  // of these `partial` has all rows
    for (const std::uint32_t i : alive_[k]) done_.push_back(partial[i]);
    std::size_t n = 0;
    for (std::size_t i = 0; i < count_; i += kLanes) {
      const Vec<T> norm = load(partial + i);
      const IntVec<T> hopeful = profile.bound(k, least_norm(k, 0, norm, i)) >= load(best_.data() + i) - tau_;
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
  template <class P>
  void promote(const P& profile, std::size_t s, const std::int32_t* winners) {
    std::vector<T> top = best_;
    winner_.assign(stride_, -1);
    std::vector<std::uint32_t> promoted;
    const T growth = growth_after(s);
    const auto grown = [growth](simd::Vec<T> norm, const std::uint32_t*, std::size_t) { return growth * norm; };
    for (std::size_t k = 0; k < K_; ++k)
      for_bounds(profile, k, alive_[k], grown, [&](std::uint32_t i, T value) {
        if (winners[i] >= 0 || !(value > top[i])) return;
        top[i] = value;
        winner_[i] = static_cast<std::int32_t>(k);
      });
    for (std::size_t k = 0; k < K_; ++k) {
      promoted.clear();
      const auto chosen = [&](std::uint32_t i) { return winner_[i] == static_cast<std::int32_t>(k); };
      std::copy_if(alive_[k].begin(), alive_[k].end(), std::back_inserter(promoted), chosen);
      if (promoted.empty()) continue;
      alive_[k].erase(std::remove_if(alive_[k].begin(), alive_[k].end(), chosen), alive_[k].end());
      finish(profile, k, promoted, s);
    }
  }

  // Evaluates what is left after stage s of one component for the samples in `list`.
  template <class P>
  void finish(const P& profile, std::size_t k, const std::vector<std::uint32_t>& list, std::size_t s) {
    advance(k, list, stages_[s], D_);
    raise_best(profile, k, list);
    for (std::size_t later = s + 1; later < stages_.size(); ++later) pairs[later] += list.size();
  }

  template <class P>
  void drop_hopeless(const P& profile, std::size_t k, std::size_t s) {
    const auto least = [&](simd::Vec<T> norm, const std::uint32_t* samples, std::size_t count) {
      return tails_.empty() ? norm : least_norm(k, s, norm, simd::gather(tails_[s].norms.data(), samples, count));
    };
    std::size_t n = 0;
    for_bounds(profile, k, alive_[k], least, [&](std::uint32_t i, T bound) {
      if (bound >= best_[i] - tau_)
        alive_[k][n++] = i;
      else
        partial_[k * stride_ + i] = std::numeric_limits<T>::infinity();
    });
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
  std::vector<std::int32_t> winner_;      // (stride,) its component
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

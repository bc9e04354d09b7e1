// Responsibilities of a block of samples, shared by every covariance family.
//
// Joint values a_k = log π_k + log p(x|k) of a sample become
//     log p(x) = max_k a_k + log Σ_k exp(a_k − max),    γ_k = exp(a_k − max) / Σ_j exp(a_j − max).
//
// Of large patches both log-normalisers and distances are in the ten thousands, where float32 shows no more than a
// thousandth, while γ follows from their differences. So joint values come relative to an offset that is known in
// float64, and log p(x) is the offset and the rest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "aligned.hpp"
#include "simd.hpp"

namespace convgmm {

// Responsibilities below this do not enter the statistics: they are dropped and the others renormalised. Seen in
// float32: the likelihood does not fall at 1e-7, it does at 1e-4. In float64 nothing that could be seen is dropped.
template <class T>
inline constexpr T kLeastResponsibility = sizeof(T) == 4 ? T(1e-7) : T(1e-15);

// Thrown for a sample whose density under every component is beyond the number format.
struct NoDensity : std::domain_error {
  explicit NoDensity(std::size_t number)
      : std::domain_error("sample " + std::to_string(number) + " has no finite log-density under any component"),
        sample(number) {}

  std::size_t sample;
};

// The joint values of as many samples as a vector has lanes, component by component, so that sums over components need
// no sums across lanes.
template <class T>
class SampleGroup {
 public:
  static constexpr std::size_t kSize = simd::kLanes<T>;

  // `width` is the number of components; for `set_rows` padded to whole vectors.
  explicit SampleGroup(std::size_t width) : width_(width), values_(width * kSize) {}

  // The joint values of one component, to be set before `exponentiate`.
  void set(std::size_t component, simd::Vec<T> joint) { simd::store(at(component), joint); }

  // Sets all joint values from `kSize` rows (kSize, width) that lack their constants (−inf for padding).
  void set_rows(const T* rows, const T* constants) {
    using namespace simd;
    for (std::size_t k = 0; k < width_; k += kSize) {
      Vec<T> square[kSize];
      for (std::size_t i = 0; i < kSize; ++i) square[i] = load(rows + i * width_ + k);
      transpose<T>(square);
      for (std::size_t i = 0; i < kSize; ++i) store(at(k + i), square[i] + constants[k + i]);
    }
  }

  // What the joint values are relative to: for all samples, or for one.
  void set_offset(double offset) { std::fill(offsets_, offsets_ + kSize, offset); }
  void set_offset(std::size_t lane, double offset) { offsets_[lane] = offset; }

  // Replaces every value by exp(a_k − max). Lanes from `count` on may hold anything.
  void exponentiate(std::size_t count) {
    using namespace simd;
    largest_ = Vec<T>{} - std::numeric_limits<T>::infinity();
    for (std::size_t k = 0; k < width_; ++k) largest_ = maximum<T>(largest_, exponential(k));
    total_ = Vec<T>{};
    for (std::size_t k = 0; k < width_; ++k) {
      const Vec<T> e = exp_nonpositive<T>(exponential(k) - largest_);
      store(at(k), e);
      total_ += e;
    }
    lacking_ = first_lanes<T>(count) & ~mask_of<T>((largest_ > std::numeric_limits<T>::lowest()) & (total_ >= T{1}));
  }

  // Throws NoDensity for the first sample that has no density; lane 0 is the sample numbered `first`.
  void require_density(std::size_t first) const {
    if (lacking_ != 0) throw NoDensity(first + static_cast<std::size_t>(__builtin_ctz(lacking_)));
  }

  // Writes γ of the first `count` samples to (count, K) and log p(x) to (count,); NaN for a sample without density.
  void write(std::size_t count, std::size_t n_components, T* responsibilities, T* log_probabilities) const {
    const simd::Vec<T> log_p = relative_log_probability();
    simd::Vec<T> inverse = T{1} / total_;
    for (std::size_t i = 0; i < count; ++i) {
      const bool lacks = (lacking_ >> i & 1) != 0;
      if (lacks) inverse[i] = std::numeric_limits<T>::quiet_NaN();
      log_probabilities[i] = lacks ? inverse[i] : static_cast<T>(offsets_[i] + static_cast<double>(log_p[i]));
    }
    for (std::size_t k = 0; k < n_components; ++k) {
      const simd::Vec<T> gamma = exponential(k) * inverse;
      for (std::size_t i = 0; i < count; ++i) responsibilities[i * n_components + k] = gamma[i];
    }
  }

  // log p(x) less the offset.
  simd::Vec<T> relative_log_probability() const { return largest_ + simd::log_positive<T>(total_); }
  double offset(std::size_t lane) const { return offsets_[lane]; }
  simd::Vec<T> total() const { return total_; }
  simd::Vec<T> exponential(std::size_t component) const { return simd::load(values_.data() + component * kSize); }

 private:
  T* at(std::size_t component) { return values_.data() + component * kSize; }

  std::size_t width_;
  AlignedBuffer<T> values_;  // (width, kSize)
  double offsets_[kSize] = {};
  simd::Vec<T> largest_{}, total_{};
  std::uint32_t lacking_ = 0;  // bit i: sample i has no density
};

// How a sample's posterior becomes the weights of its components.
struct Assignment {
  enum class Kind {
    soft,  // γ
    hard,  // 1 for the largest γ, the first of equal ones
    draw,  // 1 for one component, drawn with the probabilities γ
  };
  Kind kind = Kind::soft;
  // What a draw depends on, beside the number of the sample: so neither threads nor blocks change it.
  std::uint64_t seed = 0, iteration = 0;
  std::uint64_t first_number = 0;  // of the first sample of all that are given
};

// A number that is uniform over all 64 bits for the key (seed, iteration, number): SplitMix64's finaliser (Steele, Lea
// and Flood, OOPSLA 2014) over one part of the key after the other.
inline std::uint64_t hash_of(std::uint64_t seed, std::uint64_t iteration, std::uint64_t number) {
  std::uint64_t state = 0;
  for (const std::uint64_t part : {seed, iteration, number}) {
    state = (state ^ part) + 0x9e3779b97f4a7c15U;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9U;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebU;
    state ^= state >> 31;
  }
  return state;
}

// The samples of a block that each component keeps, with their responsibilities times their weights.
template <class T>
class Kept {
 public:
  Kept(std::size_t n_components, std::size_t block)
      : stride_(block + simd::kLanes<T>),
        counts_(n_components),
        samples_(n_components * stride_),
        responsibilities_(n_components * stride_) {}

  std::size_t count(std::size_t component) const { return counts_[component]; }
  const std::uint32_t* samples(std::size_t component) const { return samples_.data() + component * stride_; }
  const T* responsibilities(std::size_t component) const { return responsibilities_.data() + component * stride_; }
  T* responsibilities(std::size_t component) { return responsibilities_.data() + component * stride_; }

  void clear() { std::fill(counts_.begin(), counts_.end(), std::size_t{0}); }

  // Adds one sample of weight 1 to one component.
  void add(std::size_t component, std::uint32_t sample) {
    const std::size_t end = component * stride_ + counts_[component]++;
    responsibilities_[end] = T{1};
    samples_[end] = sample;
  }

  // Adds a group whose `count` samples are first, first + 1, … within the block, with their weights (null: all 1); a
  // weight of 0 leaves a sample out. `number` is that of the first sample among all that are given. Returns
  // Σ w log p(x).
  double add(const SampleGroup<T>& group, std::uint32_t first, std::size_t count, const double* sample_weight,
             const Assignment& assignment, std::uint64_t number) {
    const simd::Vec<T> log_probability = group.relative_log_probability();
    simd::Vec<T> weight{};
    double log_likelihood = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const double w = sample_weight != nullptr ? sample_weight[i] : 1.0;
      weight[i] = static_cast<T>(w);
      log_likelihood += w * (group.offset(i) + static_cast<double>(log_probability[i]));
    }
    if (assignment.kind == Assignment::Kind::soft)
      add_soft(group, first, weight);
    else
      add_single(assignment.kind == Assignment::Kind::hard ? likeliest(group) : drawn(group, count, assignment, number),
                 first, count, weight);
    return log_likelihood;
  }

 private:
  void add_soft(const SampleGroup<T>& group, std::uint32_t first, simd::Vec<T> weight) {
    using namespace simd;
    const Vec<T> least = group.total() * kLeastResponsibility<T>;
    Vec<T> kept_total{};
    for (std::size_t k = 0; k < counts_.size(); ++k) {
      const Vec<T> e = group.exponential(k);
      kept_total += e > least ? e : Vec<T>{};
    }
    const Vec<T> scale = weight / kept_total;
    const std::uint32_t weighted = mask_of<T>(weight > T{0});
    for (std::size_t k = 0; k < counts_.size(); ++k) {
      const Vec<T> e = group.exponential(k);
      const std::uint32_t mask = weighted & mask_of<T>(e > least);
      const std::size_t end = k * stride_ + counts_[k];
      counts_[k] += append<T>(e * scale, mask, first, responsibilities_.data() + end, samples_.data() + end);
    }
  }

  // Each sample's component of the largest responsibility.
  simd::IntVec<T> likeliest(const SampleGroup<T>& group) const {
    using namespace simd;
    Vec<T> largest = group.exponential(0);
    IntVec<T> component{};
    for (std::size_t k = 1; k < counts_.size(); ++k) {
      const IntVec<T> larger = group.exponential(k) > largest;
      largest = maximum<T>(largest, group.exponential(k));
      component = larger ? IntVec<T>{} + static_cast<Integer>(k) : component;
    }
    return component;
  }

  // For each sample the first component at which Σ e exceeds u Σ_k e. u has one bit less than T shows of a number below
  // 1, so that u Σ_k e, rounded, stays below Σ_k e.
  simd::IntVec<T> drawn(const SampleGroup<T>& group, std::size_t count, const Assignment& assignment,
                        std::uint64_t number) const {
    using namespace simd;
    constexpr int kBits = std::numeric_limits<T>::digits - 1;
    Vec<T> uniform{};
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t bits =
          hash_of(assignment.seed, assignment.iteration, assignment.first_number + number + i) >> (64 - kBits);
      uniform[i] = static_cast<T>(bits) / static_cast<T>(std::uint64_t{1} << kBits);
    }
    const Vec<T> target = uniform * group.total();
    Vec<T> sum{};
    IntVec<T> component{};
    for (std::size_t k = 0; k < counts_.size(); ++k) {
      sum += group.exponential(k);
      component -= sum <= target;  // true is −1: one further
    }
    return component;
  }

  void add_single(simd::IntVec<T> component, std::uint32_t first, std::size_t count, simd::Vec<T> weight) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!(weight[i] > T{0})) continue;
      const auto k = static_cast<std::size_t>(component[i]);
      const std::size_t end = k * stride_ + counts_[k]++;
      responsibilities_[end] = weight[i];
      samples_[end] = first + static_cast<std::uint32_t>(i);
    }
  }

  using Integer = typename simd::IntegerOf<T>::type;

  std::size_t stride_;
  std::vector<std::size_t> counts_;       // (K,)
  AlignedBuffer<std::uint32_t> samples_;  // (K, stride)
  AlignedBuffer<T> responsibilities_;     // (K, stride)
};

}  // namespace convgmm

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

  void clear() { std::fill(counts_.begin(), counts_.end(), std::size_t{0}); }

  // Adds a group whose `count` samples are first, first + 1, … within the block, with their weights (null: all 1); a
  // weight of 0 leaves a sample out. Returns Σ w log p(x).
  double add(const SampleGroup<T>& group, std::uint32_t first, std::size_t count, const double* sample_weight) {
    using namespace simd;
    const Vec<T> log_probability = group.relative_log_probability();
    Vec<T> weight{};
    double log_likelihood = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const double w = sample_weight != nullptr ? sample_weight[i] : 1.0;
      weight[i] = static_cast<T>(w);
      log_likelihood += w * (group.offset(i) + static_cast<double>(log_probability[i]));
    }
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
    return log_likelihood;
  }

 private:
  std::size_t stride_;
  std::vector<std::size_t> counts_;       // (K,)
  AlignedBuffer<std::uint32_t> samples_;  // (K, stride)
  AlignedBuffer<T> responsibilities_;     // (K, stride)
};

}  // namespace convgmm

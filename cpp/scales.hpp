// What a component's joint value is of a sample's distance δ_k = xᵀ C_k⁻¹ x. A Gaussian's is c_k − ½ δ_k, and those of
// Gaussian scale mixtures (Andrews and Mallows, 1974) are other functions of the same distance: over a fixed grid of
// squared scales q_j,
//
//     p(x|k) = Σ_j ω_kj N(x; 0, q_j C_k),    log p(x|k) = c_k + log Σ_j exp(log ω_kj − ½ n log q_j − ½ δ_k / q_j),
//
// and with ν_k / q of the chi-squared distribution with ν_k degrees of freedom, Student's t (Peel and McLachlan, 2000),
//
//     log p(x|k) = c_k + h(ν_k) − ½ (ν_k + n) log(1 + δ_k / ν_k),
//     h(ν) = log Γ(½ (ν + n)) − log Γ(½ ν) − ½ n log(½ ν).
//
// A sample then has two weights in a component: its responsibility γ, and γ u with u = E[1/q | x, k] for moments.
// All fall with δ, so part of a distance bounds them from above.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <variant>
#include <vector>

#include "aligned.hpp"
#include "simd.hpp"

namespace convgmm {

// How components' scales are distributed; all pointers are to float64. Neither grid nor degrees: all have the scale 1.
struct Scales {
  std::size_t count = 0;                // J of a grid
  const double* squared = nullptr;      // (J,) q_j
  const double* log_weights = nullptr;  // (K, J) log ω_kj; −inf for a weight of 0
  const double* degrees = nullptr;      // (K,) ν_k of Student's t; h(ν_k) is part of the constants
  double dimension = 0;                 // n

  explicit operator bool() const { return count > 0 || degrees != nullptr; }

  // How many sums over samples a component has: of a grid Σ γ_j for each scale; of Student's t Σ γ, Σ γ u, Σ γ log u.
  std::size_t n_sums() const { return degrees != nullptr ? 3 : count; }
  // Σ γ of a component with these sums.
  double responsibility(const double* sums) const {
    return degrees != nullptr ? sums[0] : std::accumulate(sums, sums + count, 0.0);
  }
};

// How far, in nats, a term must lie below another to be left out of a sum of few.
template <class T>
inline constexpr T kUnseen = sizeof(T) == 4 ? T(18.5) : T(37);

// A profile is the joint values of K components, less an offset, as functions of what a family gives for distances:
// −½ δ with a factor of 1, δ itself with one of −½. `bound` is never below them, and no more than `slack` above.

template <class T>
class GaussianProfile {
 public:
  static constexpr bool kBoundIsMet = true;

  GaussianProfile(std::size_t n_components, const double* constants, double offset, double factor)
      : factor_(static_cast<T>(factor)), constants_(n_components) {
    std::transform(constants, constants + n_components, constants_.begin(),
                   [&](double constant) { return static_cast<T>(constant - offset); });
  }

  std::size_t n_components() const { return constants_.size(); }
  std::size_t n_sums() const { return 0; }
  T slack() const { return 0; }
  simd::Vec<T> bound(std::size_t k, simd::Vec<T> distance) const { return constants_[k] + factor_ * distance; }
  simd::Vec<T> joint(std::size_t k, simd::Vec<T> distance) const { return bound(k, distance); }
  simd::Vec<T> weigh(std::size_t, simd::Vec<T>, simd::Vec<T> gamma, T*, T*) const { return gamma; }

 private:
  T factor_;
  std::vector<T> constants_;  // (K,)
};

template <class T>
class GridProfile {
 public:
  static constexpr bool kBoundIsMet = false;

  GridProfile(const Scales& scales, std::size_t n_components, const double* constants, double offset, double factor)
      : J_(scales.count),
        K_(n_components),
        slack_(static_cast<T>(std::log(static_cast<double>(J_)))),
        terms_(K_ * J_),
        slopes_(J_),
        inverses_(J_) {
    for (std::size_t j = 0; j < J_; ++j) {
      slopes_[j] = static_cast<T>(factor / scales.squared[j]);
      inverses_[j] = static_cast<T>(1 / scales.squared[j]);
      const double normaliser = 0.5 * scales.dimension * std::log(scales.squared[j]);
      for (std::size_t k = 0; k < K_; ++k)
        terms_[k * J_ + j] = static_cast<T>(constants[k] - offset + (scales.log_weights[k * J_ + j] - normaliser));
    }
  }

  std::size_t n_components() const { return K_; }
  std::size_t n_sums() const { return J_; }
  T slack() const { return slack_; }

  // The largest term: never more than log J below the joint value.
  simd::Vec<T> bound(std::size_t k, simd::Vec<T> distance) const {
    using namespace simd;
    const T* terms = terms_.data() + k * J_;
    Vec<T> largest = Vec<T>{} - std::numeric_limits<T>::infinity();
    for (std::size_t j = 0; j < J_; ++j) largest = maximum<T>(largest, terms[j] + slopes_[j] * distance);
    return largest;
  }

  // log Σ_j exp(term).
  simd::Vec<T> joint(std::size_t k, simd::Vec<T> distance) const {
    using namespace simd;
    const Vec<T> largest = bound(k, distance);
    Vec<T> total{};
    for (std::size_t j = 0; j < J_; ++j) total += exponential(k, j, distance, largest);
    return largest > std::numeric_limits<T>::lowest() ? largest + log_positive<T>(total) : largest;
  }

  // Returns γ u with u = Σ_j ρ_j / q_j, where ρ_j ∝ exp(term), and adds γ ρ_j to `sums` (J, lanes). `memory` is as
  // large.
  simd::Vec<T> weigh(std::size_t k, simd::Vec<T> distance, simd::Vec<T> gamma, T* sums, T* memory) const {
    using namespace simd;
    const Vec<T> largest = bound(k, distance);
    Vec<T> total{}, moment{};
    for (std::size_t j = 0; j < J_; ++j) {
      const Vec<T> e = exponential(k, j, distance, largest);
      store(memory + j * kLanes<T>, e);
      total += e;
      moment += e * inverses_[j];
    }
    const Vec<T> scale = gamma / total;
    for (std::size_t j = 0; j < J_; ++j) {
      T* place = sums + j * kLanes<T>;
      store(place, load(place) + load(memory + j * kLanes<T>) * scale);
    }
    return moment * scale;
  }

 private:
  // exp(term − largest); 0 if it can be seen in no lane.
  simd::Vec<T> exponential(std::size_t k, std::size_t j, simd::Vec<T> distance, simd::Vec<T> largest) const {
    using namespace simd;
    const Vec<T> below = (terms_[k * J_ + j] + slopes_[j] * distance) - largest;
    return mask_of<T>(below > -(kUnseen<T> + slack_)) != 0 ? exp_nonpositive<T>(below) : Vec<T>{};
  }

  std::size_t J_, K_;
  T slack_;
  std::vector<T> terms_;              // (K, J) log ω_kj − ½ n log q_j + c_k, less the offset
  std::vector<T> slopes_, inverses_;  // (J,) of the terms, and 1 / q_j
};

template <class T>
class StudentProfile {
 public:
  static constexpr bool kBoundIsMet = true;

  StudentProfile(const Scales& scales, std::size_t n_components, const double* constants, double offset, double factor)
      : components_(n_components) {
    for (std::size_t k = 0; k < n_components; ++k) {
      const double nu = scales.degrees[k], both = nu + scales.dimension;
      components_[k] = {static_cast<T>(constants[k] - offset), static_cast<T>(-2 * factor / nu),
                        static_cast<T>(0.5 * both), static_cast<T>(both / nu), static_cast<T>(std::log(both / nu))};
    }
  }

  std::size_t n_components() const { return components_.size(); }
  std::size_t n_sums() const { return 3; }
  T slack() const { return 0; }

  simd::Vec<T> joint(std::size_t k, simd::Vec<T> distance) const {
    const Component& of = components_[k];
    return of.constant - of.exponent * simd::log1p_nonnegative<T>(of.slope * distance);
  }
  simd::Vec<T> bound(std::size_t k, simd::Vec<T> distance) const { return joint(k, distance); }

  // Returns γ u with u = (ν + n) / (ν + δ), and adds γ, γ u and γ log u to `sums` (3, lanes).
  simd::Vec<T> weigh(std::size_t k, simd::Vec<T> distance, simd::Vec<T> gamma, T* sums, T*) const {
    using namespace simd;
    const Component& of = components_[k];
    const Vec<T> ratio = of.slope * distance;  // δ / ν
    const Vec<T> weight = gamma * (of.most / (T{1} + ratio));
    const Vec<T> logarithm = of.log_most - log1p_nonnegative<T>(ratio);
    constexpr std::size_t n = kLanes<T>;
    store(sums, load(sums) + gamma);
    store(sums + n, load(sums + n) + weight);
    store(sums + 2 * n, load(sums + 2 * n) + gamma * logarithm);
    return weight;
  }

 private:
  struct Component {
    T constant, slope, exponent;  // c + h(ν) less the offset, δ/ν for one of the distance, ½ (ν + n)
    T most, log_most;             // u of a sample at distance 0, (ν + n) / ν, and its logarithm
  };

  std::vector<Component> components_;
};

template <class T>
using Profile = std::variant<GaussianProfile<T>, GridProfile<T>, StudentProfile<T>>;

template <class T>
Profile<T> profile_of(const Scales& scales, std::size_t n_components, const double* constants, double offset,
                      double factor) {
  if (scales.degrees != nullptr) return StudentProfile<T>(scales, n_components, constants, offset, factor);
  if (scales.count > 0) return GridProfile<T>(scales, n_components, constants, offset, factor);
  return GaussianProfile<T>(n_components, constants, offset, factor);
}

// What one thread needs to go from the distances of a block of samples to joint values, and from their
// responsibilities γ to the weights of moments.
template <class T>
class ScaledBlock {
 public:
  // Components whose joint value lies `unseen` below the likeliest of a sample are dropped.
  ScaledBlock(const Profile<T>& profile, std::size_t most_samples, T unseen)
      : profile_(profile),
        K_(std::visit([](const auto& p) { return p.n_components(); }, profile)),
        n_sums_(std::visit([](const auto& p) { return p.n_sums(); }, profile)),
        stride_(simd::round_up(most_samples, kLanes) + kLanes),
        drop_(unseen + std::visit([](const auto& p) { return p.slack(); }, profile)),
        joint_(K_ * stride_),
        best_(stride_),
        values_(stride_),
        numbers_(stride_),
        sums_(K_ * n_sums_ * kLanes),
        memory_(n_sums_ * kLanes) {
    std::fill(values_.begin(), values_.end(), T{0});
    std::fill(sums_.begin(), sums_.end(), T{0});
  }

  // Sets joint values of `count` samples from distances (K, distance_stride); −inf where they cannot be seen.
  void mix(const T* distances, std::size_t distance_stride, std::size_t count) {
    std::visit([&](const auto& profile) { mix_with(profile, distances, distance_stride, count); }, profile_);
  }

  const T* joint(std::size_t component) const { return joint_.data() + component * stride_; }
  T joint(std::size_t sample, std::size_t component) const { return joint_[component * stride_ + sample]; }

  // Turns the weights γ of the samples that a component keeps into those of their moments, γ u, and adds to its sums.
  template <class Weight>
  void weigh(std::size_t k, const T* distances, const std::uint32_t* samples, std::size_t count, Weight* weights) {
    using namespace simd;
    T* sums = sums_.data() + k * n_sums_ * kLanes;
    std::visit(
        [&](const auto& profile) {
          for (std::size_t p = 0; p < count; p += kLanes) {
            const std::size_t n = std::min(kLanes, count - p);
            const Vec<T> distance = gather(distances, samples + p, n);
            Vec<T> gamma{};
            for (std::size_t i = 0; i < n; ++i) gamma[i] = static_cast<T>(weights[p + i]);
            const Vec<T> weight = profile.weigh(k, distance, gamma, sums, memory_.data());
            for (std::size_t i = 0; i < n; ++i) weights[p + i] = static_cast<Weight>(weight[i]);
          }
        },
        profile_);
  }

  // Moves the sums of all components to `sums` (K, n_sums).
  void flush(double* sums) {
    for (std::size_t place = 0; place < K_ * n_sums_; ++place) {
      double sum = 0;
      for (std::size_t i = 0; i < kLanes; ++i) sum += static_cast<double>(sums_[place * kLanes + i]);
      sums[place] += sum;
    }
    std::fill(sums_.begin(), sums_.end(), T{0});
  }

 private:
  static constexpr std::size_t kLanes = simd::kLanes<T>;

  template <class P>
  void mix_with(const P& profile, const T* distances, std::size_t distance_stride, std::size_t count) {
    using namespace simd;
    const Vec<T> none = Vec<T>{} - std::numeric_limits<T>::infinity();
    for (std::size_t i = 0; i < count; i += kLanes) store(best_.data() + i, none);
    for (std::size_t k = 0; k < K_; ++k)
      for (std::size_t i = 0; i < count; i += kLanes) {
        const Vec<T> bound = profile.bound(k, load(distances + k * distance_stride + i));
        store(joint_.data() + k * stride_ + i, bound);
        store(best_.data() + i, maximum<T>(load(best_.data() + i), bound));
      }
    if constexpr (P::kBoundIsMet) return;
    for (std::size_t k = 0; k < K_; ++k) {
      T* joint = joint_.data() + k * stride_;
      std::size_t n = 0;
      for (std::size_t i = 0; i < count; i += kLanes) {
        const IntVec<T> seen = load(joint + i) >= load(best_.data() + i) - drop_;
        const std::uint32_t mask = mask_of<T>(seen) & first_lanes<T>(count - i);
        n += append<T>(load(distances + k * distance_stride + i), mask, static_cast<std::uint32_t>(i),
                       values_.data() + n, numbers_.data() + n);
        store(joint + i, none);
      }
      for (std::size_t p = 0; p < n; p += kLanes) {
        const Vec<T> value = profile.joint(k, load(values_.data() + p));
        for (std::size_t i = p; i < std::min(p + kLanes, n); ++i) joint[numbers_[i]] = value[i - p];
      }
    }
  }

  const Profile<T>& profile_;
  std::size_t K_, n_sums_, stride_;
  T drop_;
  AlignedBuffer<T> joint_;                // (K, stride)
  AlignedBuffer<T> best_;                 // (stride,) the largest bound of each sample
  AlignedBuffer<T> values_;               // (stride,) distances of the samples that a component may matter to
  AlignedBuffer<std::uint32_t> numbers_;  // (stride,) which they are
  AlignedBuffer<T> sums_;                 // (K, n_sums, lanes)
  AlignedBuffer<T> memory_;               // (n_sums, lanes) of a profile
};

}  // namespace convgmm

// Gaussian scale mixtures (Andrews and Mallows, 1974): a component's density over a fixed grid of squared scales q_j,
//
//     p(x|k) = Σ_j ω_kj N(x; 0, q_j C_k),    log p(x|k) = c_k + log Σ_j exp(log ω_kj − ½ n log q_j − ½ δ_k / q_j),
//
// so that one distance δ_k = xᵀ C_k⁻¹ x serves all scales. Every term falls with δ, and so does their largest, the
// bound: log p(x|k) lies no more than log J above it. Exponentials are computed only of the pairs, and scales, that
// can be seen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "aligned.hpp"
#include "simd.hpp"

namespace convgmm {

// The grid, and each component's weights on it; all pointers are to float64.
struct Scales {
  std::size_t count = 0;                // J; 0: every component has the one scale 1
  const double* squared = nullptr;      // (J,) q_j
  const double* log_weights = nullptr;  // (K, J) log ω_kj; −inf for a weight of 0
  double dimension = 0;                 // n

  explicit operator bool() const { return count > 0; }
};

// How far, in nats, a term must lie below another to be left out of a sum of few.
template <class T>
inline constexpr T kUnseen = sizeof(T) == 4 ? T(18.5) : T(37);

// Terms log ω_kj − ½ n log q_j + c_k, less an offset, and their slopes in what the family gives for distances: −½ δ
// with a factor of 1, δ itself with one of −½.
template <class T>
class ScaleTable {
 public:
  ScaleTable(const Scales& scales, std::size_t n_components, const double* constants, double offset, double factor)
      : J_(scales.count),
        K_(n_components),
        cut_(kUnseen<T> + static_cast<T>(std::log(static_cast<double>(J_)))),
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

  std::size_t n_scales() const { return J_; }
  std::size_t n_components() const { return K_; }

  // The largest term: never more than log J below the joint value.
  T bound(std::size_t k, T distance) const {
    const T* terms = terms_.data() + k * J_;
    T largest = -std::numeric_limits<T>::infinity();
    for (std::size_t j = 0; j < J_; ++j) largest = std::max(largest, terms[j] + slopes_[j] * distance);
    return largest;
  }
  simd::Vec<T> bound(std::size_t k, simd::Vec<T> distance) const {
    using namespace simd;
    const T* terms = terms_.data() + k * J_;
    Vec<T> largest = Vec<T>{} - std::numeric_limits<T>::infinity();
    for (std::size_t j = 0; j < J_; ++j) largest = maximum<T>(largest, terms[j] + slopes_[j] * distance);
    return largest;
  }

  // log Σ_j exp(term): the joint value.
  simd::Vec<T> joint(std::size_t k, simd::Vec<T> distance) const {
    using namespace simd;
    const Vec<T> largest = bound(k, distance);
    Vec<T> total{};
    for_terms(k, distance, largest, [&](std::size_t, Vec<T> e) { total += e; });
    return largest > std::numeric_limits<T>::lowest() ? largest + log_positive<T>(total) : largest;
  }

  // Calls use(j, exp(term − largest)) for the scales that can be seen in any lane.
  template <class Use>
  void for_terms(std::size_t k, simd::Vec<T> distance, simd::Vec<T> largest, Use use) const {
    using namespace simd;
    const T* terms = terms_.data() + k * J_;
    for (std::size_t j = 0; j < J_; ++j) {
      const Vec<T> below = (terms[j] + slopes_[j] * distance) - largest;
      if (mask_of<T>(below > -cut_) != 0) use(j, exp_nonpositive<T>(below));
    }
  }

  T cut() const { return cut_; }
  T inverse(std::size_t j) const { return inverses_[j]; }

 private:
  std::size_t J_, K_;
  T cut_;
  std::vector<T> terms_;              // (K, J)
  std::vector<T> slopes_, inverses_;  // (J,) and 1 / q_j
};

// What one thread needs to go from the distances of a block of samples to joint values, and from their
// responsibilities γ to those of each scale.
template <class T>
class ScaledBlock {
 public:
  // Components whose joint value lies `unseen` below the likeliest of a sample are dropped.
  ScaledBlock(const ScaleTable<T>& table, std::size_t most_samples, T unseen)
      : table_(table),
        stride_(simd::round_up(most_samples, kLanes) + kLanes),
        drop_(unseen + table.cut() - kUnseen<T>),
        joint_(table.n_components() * stride_),
        best_(stride_),
        values_(stride_),
        numbers_(stride_),
        shares_(table.n_components() * table.n_scales() * kLanes),
        terms_(table.n_scales() * kLanes) {
    std::fill(values_.begin(), values_.end(), T{0});
    std::fill(shares_.begin(), shares_.end(), T{0});
  }

  // Sets joint values of `count` samples from distances (K, distance_stride); −inf where they cannot be seen.
  void mix(const T* distances, std::size_t distance_stride, std::size_t count) {
    using namespace simd;
    const Vec<T> none = Vec<T>{} - std::numeric_limits<T>::infinity();
    for (std::size_t i = 0; i < count; i += kLanes) store(best_.data() + i, none);
    for (std::size_t k = 0; k < table_.n_components(); ++k)
      for (std::size_t i = 0; i < count; i += kLanes) {
        const Vec<T> bound = table_.bound(k, load(distances + k * distance_stride + i));
        store(joint_.data() + k * stride_ + i, bound);
        store(best_.data() + i, maximum<T>(load(best_.data() + i), bound));
      }
    for (std::size_t k = 0; k < table_.n_components(); ++k) {
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
        const Vec<T> value = table_.joint(k, load(values_.data() + p));
        for (std::size_t i = p; i < std::min(p + kLanes, n); ++i) joint[numbers_[i]] = value[i - p];
      }
    }
  }

  const T* joint(std::size_t component) const { return joint_.data() + component * stride_; }
  T joint(std::size_t sample, std::size_t component) const { return joint_[component * stride_ + sample]; }

  // Turns the weights γ of the samples that a component keeps into those of their moments, u = γ Σ_j ρ_j / q_j with
  // ρ_j ∝ exp(term), and sums γ ρ_j.
  template <class Weight>
  void weigh(std::size_t k, const T* distances, const std::uint32_t* samples, std::size_t count, Weight* weights) {
    using namespace simd;
    T* shares = shares_.data() + k * table_.n_scales() * kLanes;
    for (std::size_t p = 0; p < count; p += kLanes) {
      const std::size_t n = std::min(kLanes, count - p);
      Vec<T> distance{}, gamma{};
      for (std::size_t i = 0; i < kLanes; ++i) distance[i] = distances[samples[p + std::min(i, n - 1)]];
      for (std::size_t i = 0; i < n; ++i) gamma[i] = static_cast<T>(weights[p + i]);
      Vec<T> total{}, moment{};
      n_terms_ = 0;
      table_.for_terms(k, distance, table_.bound(k, distance), [&](std::size_t j, Vec<T> e) {
        store(terms_.data() + n_terms_ * kLanes, e);
        seen_[n_terms_++] = j;
        total += e;
        moment += e * table_.inverse(j);
      });
      const Vec<T> scale = gamma / total;
      for (std::size_t t = 0; t < n_terms_; ++t) {
        T* place = shares + seen_[t] * kLanes;
        store(place, load(place) + load(terms_.data() + t * kLanes) * scale);
      }
      const Vec<T> u = moment * scale;
      for (std::size_t i = 0; i < n; ++i) weights[p + i] = static_cast<Weight>(u[i]);
    }
  }

  // Moves the sums Σ γ ρ_j of all components to `shares` (K, J).
  void flush(double* shares) {
    for (std::size_t place = 0; place < table_.n_components() * table_.n_scales(); ++place) {
      double sum = 0;
      for (std::size_t i = 0; i < kLanes; ++i) sum += static_cast<double>(shares_[place * kLanes + i]);
      shares[place] += sum;
    }
    std::fill(shares_.begin(), shares_.end(), T{0});
  }

 private:
  static constexpr std::size_t kLanes = simd::kLanes<T>;

  const ScaleTable<T>& table_;
  std::size_t stride_;
  T drop_;
  AlignedBuffer<T> joint_;                // (K, stride)
  AlignedBuffer<T> best_;                 // (stride,) the largest bound of each sample
  AlignedBuffer<T> values_;               // (stride,) distances of the samples that a component may matter to
  AlignedBuffer<std::uint32_t> numbers_;  // (stride,) which they are
  AlignedBuffer<T> shares_;               // (K, J, lanes)
  AlignedBuffer<T> terms_;                // (J, lanes)
  std::vector<std::size_t> seen_ = std::vector<std::size_t>(table_.n_scales());
  std::size_t n_terms_ = 0;
};

}  // namespace convgmm

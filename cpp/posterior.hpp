// Responsibilities of a block of samples, shared by every covariance family.
//
// A row of joint values a_k = log π_k + log p(x|k) becomes
//     log p(x) = max_k a_k + log Σ_k exp(a_k − max),    γ_k = exp(a_k − max) / Σ_j exp(a_j − max).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "simd.hpp"

namespace convgmm {

// Responsibilities below this do not enter the statistics: they are dropped and the others renormalised. Seen in
// float32: the likelihood does not fall at 1e-7, it does at 1e-4. In float64 nothing that could be seen is dropped.
template <class T>
inline constexpr T kLeastResponsibility = sizeof(T) == 4 ? T(1e-7) : T(1e-15);

// Thrown for a sample whose density under every component is beyond the number format.
struct NoDensity : std::domain_error {
  explicit NoDensity(std::size_t sample)
      : std::domain_error("sample " + std::to_string(sample) +
                          " has no finite log-density under any component: it is too far from the model for this "
                          "dtype; pass float64, or look for an outlier") {}
};

// Turns the row of `width` joint values (a multiple of the lane count, padded with -inf) into exp(a_k − max) in place.
// Returns Σ_k exp(a_k − max) and sets `largest`.
template <class T>
inline T exponentiate(T* row, std::size_t width, T& largest) {
  using namespace simd;
  Vec<T> top = load(row);
  for (std::size_t k = kLanes<T>; k < width; k += kLanes<T>) top = maximum<T>(top, load(row + k));
  largest = reduce<T>(top, [](T a, T b) { return a > b ? a : b; });
  Vec<T> total{};
  for (std::size_t k = 0; k < width; k += kLanes<T>) {
    const Vec<T> e = exp_nonpositive<T>(load(row + k) - largest);
    store(row + k, e);
    total += e;
  }
  return reduce<T>(total, [](T a, T b) { return a + b; });
}

// log p(x) from the two; throws NoDensity where there is none.
template <class T>
inline double log_sum(T largest, T total, std::size_t sample) {
  if (!(largest > -std::numeric_limits<T>::infinity() && total >= T{1})) throw NoDensity(sample);
  return static_cast<double>(largest) + std::log(static_cast<double>(total));
}

// The samples of one block that each component keeps, with their weighted responsibilities.
template <class T>
class Kept {
 public:
  struct Entry {
    std::uint32_t sample;  // within the block
    T responsibility;      // times the sample's weight
  };

  // `width` is the padded number of components.
  Kept(std::size_t width, std::size_t block) : block_(block), counts_(width), entries_(width * block), found_(width) {}

  const Entry* of(std::size_t component) const { return entries_.data() + component * block_; }
  std::size_t count(std::size_t component) const { return counts_[component]; }

  void clear() { std::fill(counts_.begin(), counts_.end(), 0U); }

  // Keeps for `sample` the entries of the row exp(a_k − max), of sum `total`, that are large enough.
  void add(std::uint32_t sample, const T* row, std::size_t width, T total, double weight) {
    const T least = kLeastResponsibility<T> * total;
    T kept_total = 0;
    std::size_t n_found = 0;
    for (std::size_t k = 0; k < width; k += simd::kLanes<T>) {
      std::uint32_t bits = simd::mask_above<T>(simd::load(row + k), least);
      for (; bits != 0; bits &= bits - 1) {
        const auto component = static_cast<std::uint32_t>(k) + static_cast<std::uint32_t>(__builtin_ctz(bits));
        found_[n_found++] = component;
        kept_total += row[component];
      }
    }
    const T scale = static_cast<T>(weight / static_cast<double>(kept_total));
    for (std::size_t i = 0; i < n_found; ++i) {
      const std::uint32_t k = found_[i];
      entries_[k * block_ + counts_[k]++] = {sample, row[k] * scale};
    }
  }

 private:
  std::size_t block_;
  std::vector<std::uint32_t> counts_;  // (width,)
  std::vector<Entry> entries_;         // (width, block)
  std::vector<std::uint32_t> found_;
};

// From joint values (count, width) of the samples first, first + 1, …: fills `kept`, and returns Σ w log p(x).
// `weight` is null or the weights of these samples.
template <class T>
double responsibilities(T* joint, std::size_t width, std::size_t count, std::size_t first, const double* weight,
                        Kept<T>& kept) {
  kept.clear();
  double log_likelihood = 0;
  for (std::size_t i = 0; i < count; ++i) {
    T* row = joint + i * width;
    T largest;
    const T total = exponentiate(row, width, largest);
    const double w = weight != nullptr ? weight[i] : 1.0;
    log_likelihood += w * log_sum(largest, total, first + i);
    kept.add(static_cast<std::uint32_t>(i), row, width, total, w);
  }
  return log_likelihood;
}

}  // namespace convgmm

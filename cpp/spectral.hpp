// Mixtures of circulant Gaussians: log-densities and statistics from squared coefficients.
//
//     log p(x|k) = −½ Σ_ω m(ω) [ P(ω) / S_k(ω) + log S_k(ω) + log 2π ]
//
// What does not depend on x comes from the caller as one constant a component, so that weights, temperatures and
// normalisers are his.
//
// The core sees squared coefficients P (n, D), multiplicities m (D,) and variances S (K, D), and never asks which
// basis made them.
#pragma once

#include <cstddef>
#include <vector>

#include "posterior.hpp"
#include "scales.hpp"

namespace convgmm::spectral {

// A mixture's parameters; all pointers are to float64, whatever the data's type is.
struct Mixture {
  std::size_t n_components;      // K
  std::size_t n_coefficients;    // D
  const double* multiplicities;  // (D,)
  const double* spectra;         // (K, D), positive
  const double* constants;       // (K,) log π_k − ½ Σ m (log S_k + log 2π); −inf for a weight of 0
  Scales scales = {};
};

// What EM needs from data; its size does not depend on the number of samples.
struct Statistics {
  std::vector<double> responsibility;  // (K,)   Σ_n w_n γ_nk
  std::vector<double> power;           // (K, D) Σ_n w_n γ_nk P_n; with scales Σ_n w_n γ_nk u_nk P_n
  std::vector<double> shares;          // (K, n_sums) with scales the sums that these have
  double log_likelihood = 0;           // Σ_n w_n log p(x_n)

  Statistics(std::size_t n_components, std::size_t n_coefficients, std::size_t n_sums)
      : responsibility(n_components), power(n_components * n_coefficients), shares(n_components * n_sums) {}
  void clear();
  Statistics& operator+=(const Statistics& other);
};

// One pass: the E-step's responsibilities and the M-step's sums. `sample_weight` is (n,) or null. Throws NoDensity.
template <class T>
Statistics expect(const T* coefficients, std::size_t n, const double* sample_weight, const Mixture& mixture,
                  const Assignment& assignment, int n_threads);

// log π_k + log p(x|k) into (n, K).
template <class T>
void log_density(const T* coefficients, std::size_t n, const Mixture& mixture, int n_threads, T* out);

// γ_nk into (n, K) and log p(x) into (n,); NaN for a sample without density.
template <class T>
void posterior(const T* coefficients, std::size_t n, const Mixture& mixture, int n_threads, T* responsibilities,
               T* log_probability);

}  // namespace convgmm::spectral

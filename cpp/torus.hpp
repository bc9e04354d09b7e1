// Windows of stationary Gaussian fields on a torus: covariances of spectra, and spectra fitted to covariances.
//
// With λ(ω) the spectrum on a torus of N values, a window has the covariance C(x, y) = c(x − y),
//     c(l) = 1/N Σ_ω m(ω) λ(ω) cos(ω·l),
// or, without its mean, P C P with P = I − 1 1ᵀ/n.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convgmm::torus {

// The window's n values, L lags up to their sign, and F frequencies up to theirs.
struct Window {
  std::size_t n_values;
  std::size_t n_lags;
  std::size_t n_frequencies;
  std::size_t n_axes;
  bool remove_mean;
  const std::int32_t* lag;       // (n, n): the number of the lag x − y
  const double* cosines;         // (L, F): cos(ω·l) / N
  const double* multiplicities;  // (F,): m(ω)
  const double* axes;            // (n, E): orthonormal columns, each of sum 0 when the mean is removed
};

// Aᵀ C_k A of K spectra (K, F), for axes A: (K, E, E).
void covariances(const Window& window, const double* spectra, std::size_t n_components, int n_threads, double* out);

// Steps towards the spectra (K, F), none below `floor`, under which samples of scatter S_k (K, E, E), in the axes'
// coordinates, are likeliest. With b(ω) = e^{iω·x}/√N and Σ = C + what makes it regular,
//     λ(ω) ← λ(ω) [ b(ω)ᴴ Σ⁻¹ S Σ⁻¹ b(ω) / b(ω)ᴴ Σ⁻¹ b(ω) ]^½:
// the minorize–maximize step for variance components (Zhou, Hu, Zhou and Lange 2019). It never lowers the likelihood,
// and gains in a step what four to eight EM steps do (λ ← λ + λ² bᴴ Σ⁻¹ (S − Σ) Σ⁻¹ b; Dembo, Mallows and Shepp 1989).
void maximize(const Window& window, const double* scatter, std::size_t n_components, double floor, int n_steps,
              int n_threads, double* spectra);

}  // namespace convgmm::torus

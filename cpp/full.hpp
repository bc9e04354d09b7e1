// Mixtures of full-covariance Gaussians: exact responsibilities by pruned evaluation, and statistics.
//
//     log p(x|k) = −½ (‖z‖² + D log 2π) + Σ_i log W_k,ii,    z = W_k (x − μ_k),    W_k = L_k⁻¹,  C_k = L_k L_kᵀ
//
// ‖z‖² is a sum of terms that are not negative, and the first q of them need only the first q coordinates: so part of
// the sum bounds a density from above at q²/D² of the cost. The likeliest component of a sample is evaluated first,
// the others row by row in stages, and each is dropped as soon as its bound lies so far below that it cannot be seen.
// Coordinates should be ordered by variance, the largest first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "posterior.hpp"
#include "scales.hpp"

namespace convgmm::full {

// A mixture in the form that densities are computed from.
template <class T>
struct Mixture {
  std::size_t n_components;  // K
  std::size_t n_features;    // D
  const double* means;       // (K, D)
  const double* constants;   // (K,) log π_k + Σ_i log W_k,ii − ½ D log 2π; −inf for a weight of 0
  const T* whiteners;        // (K, packed_size(D)) lower triangles W_k, packed
  Scales scales = {};
};

// What the rows of z from q on add to ‖z‖² at least, for some q. With x − μ = (a, b), b from the q-th coordinate on,
// and C = L Lᵀ, L as well in blocks,
//
//     b = L_ba z_a + L_bb z_b    ⇒    ‖z_b‖ ≥ (‖b‖ − ‖L_ba‖ ‖z_a‖) / ‖L_bb‖,    ‖b‖ ≥ ‖x_b‖ − ‖μ_b‖.
//
// Where all variances are those of noise and little more, as of the small coordinates of noisy patches, this is nearly
// all that they add.
struct Tails {
  std::vector<std::size_t> rows;  // q, ascending
  std::vector<double> cross;      // (rows, K) ‖L_ba‖, or more
  std::vector<double> inverse;    // (rows, K) 1 / ‖L_bb‖², or less
  std::vector<double> shift;      // (rows, K) ‖μ_b‖
};

// What EM needs from data, in the caller's memory, which holds zeros: K matrices are too large to be copied unseen.
// Moments are about the mixture's means, so that nothing cancels.
struct Statistics {
  double* responsibility;     // (K,)      Σ_n w_n γ_nk
  double* first;              // (K, D)    Σ_n w_n γ_nk (x_n − μ_k)
  double* second;             // (K, D, D) Σ_n w_n γ_nk (x_n − μ_k)(x_n − μ_k)ᵀ
  double log_likelihood = 0;  // Σ_n w_n log p(x_n)
  // With scales (K, n_sums) the sums that these have, and moments have the weights γ_nk u_nk in the place of γ_nk.
  double* shares = nullptr;
};

// How the walk went: for each stage its number of rows, and the sample–component pairs that were evaluated that far.
struct Walk {
  std::vector<std::size_t> rows;
  std::vector<std::uint64_t> pairs;
};

// How many values a packed triangle has.
std::size_t packed_size(std::size_t n_features);

// Lower triangles W_k = L_k⁻¹, packed, Σ log W_k,ii and the diagonals of C_k⁻¹ (K, D), for K covariances C_k (K, D, D),
// in parallel. Returns the first component whose covariance is not positive definite, or −1.
template <class T>
std::ptrdiff_t factorize(const double* covariances, std::size_t n_components, std::size_t n_features, int n_threads,
                         T* whiteners, double* log_diagonal, double* inverse_diagonal);

// The tails of K Gaussians with these means (K, D) and covariances (K, D, D), positive definite, none of whose
// variances along any axis is below `least`.
Tails tails_of(const double* means, const double* covariances, std::size_t n_components, std::size_t n_features,
               double least, std::vector<std::size_t> rows, int n_threads);

// Upper triangles W_kᵀ (K, D, D), row by row, in memory that holds zeros, of packed ones.
template <class T>
void transpose_whiteners(const T* whiteners, std::size_t n_components, std::size_t n_features, int n_threads, T* upper);

// One E-step and the sums of the M-step. `winners` (n,) holds each sample's likeliest component, or −1 where it is not
// known, and is brought up to date. `stages` are ascending numbers of rows that end with D; none: chosen from the
// survival of a few samples; {D} alone: dense. Throws NoDensity.
template <class T>
void expect(const T* samples, std::size_t n, const double* sample_weight, const Mixture<T>& mixture,
            const Assignment& assignment, std::vector<std::size_t> stages, int n_threads, std::int32_t* winners,
            Walk& walk, Statistics& statistics);

// The sums of the M-step from given responsibilities, about the given means (K, D). Component k has the samples
// indices[offsets[k]], … , indices[offsets[k + 1] − 1] with the responsibilities, times weights, at the same places.
template <class T>
void moments(const T* samples, std::size_t n_features, const std::int64_t* offsets, const std::int64_t* indices,
             const double* responsibilities, std::size_t n_components, const double* means, int n_threads,
             Statistics& statistics);

// log π_k + log p(x|k) of all components into (n, K), in full.
template <class T>
void log_density(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* out);

// γ_nk into (n, K), 0 where it cannot be seen, and log p(x) into (n,); NaN for a sample without density.
template <class T>
void posterior(const T* samples, std::size_t n, const Mixture<T>& mixture, int n_threads, T* responsibilities,
               T* log_probability);

}  // namespace convgmm::full

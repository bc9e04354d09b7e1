// Patches in white noise of variance v, each estimated under a mixture of Gaussians, and put together to an image.
//
//     k = argmax_k π_k N(y; μ_k, C_k + vI),    x̂ = μ_k + C_k (C_k + vI)⁻¹ (y − μ_k),
//
// or the posterior mean Σ_k γ_k x̂_k (Zoran and Weiss 2011). Overlapping estimates are averaged, each with the weight
// (1 + tr C_k (C_k + vI)⁻¹)^−w: what an estimate keeps of the noise, its mean's included, is v times that trace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace convgmm::restore {

using Shape = std::vector<std::size_t>;

// Where patches are taken: one in every cell of `stride` values a side, moved within it by a number that depends on
// `seed` and the cell; the first and last of every axis stand at the image's ends, so that every value is covered.
struct Grid {
  Shape image, patch;
  std::size_t stride;
  std::uint64_t seed;
};

// Throws an exception that says what is wrong: axes that differ or are empty, an image smaller than a patch, or strides
// that leave values uncovered.
void check(const Grid& grid);

// In how many tiles the patches are worked on; a function of the grid alone.
std::size_t tile_count(const Grid& grid);

// A mixture whose covariances are diagonal in one basis, with coordinates in groups of equal variance.
struct Diagonal {
  std::size_t n_components, n_values, n_coordinates, n_groups;  // K, n, E, D
  const double* axes;                                           // (n, E) orthonormal columns
  const std::int64_t* group;                                    // (E,) below D
  const double* variances;                                      // (K, D), not negative
  const double* log_weights;                                    // (K,)
};

// A mixture with full covariances in coordinates (y − centre) · axes.
struct Rotated {
  std::size_t n_components, n_values, n_coordinates;  // K, n, E
  const double* centre;                               // (n,)
  const double* axes;                                 // (n, E) orthonormal columns
  const double* means;                                // (K, E)
  const double* covariances;                          // (K, E, E)
  const double* log_weights;                          // (K,)
};

struct Options {
  bool remove_mean;  // is a patch's mean taken away before, and added to its estimate?
  bool average;      // the posterior mean, or the likeliest component's estimate
  double weighting;  // the exponent w; 0: all estimates count the same
  int n_threads;
};

// Adds the estimates of the patches in the tiles [first, last) to `sums`, times their weights, and the weights to
// `counts`; both are of the image's shape. Throws NoDensity, whose number says nothing.
template <class T, class Mixture>
void add_estimates(const T* noisy, const Grid& grid, const Mixture& mixture, double noise_variance,
                   const Options& options, std::size_t first, std::size_t last, T* sums, T* counts);

// The estimates of n patches (n, n_values), into as many, and each one's likeliest component (n,). Throws NoDensity.
template <class T, class Mixture>
void estimate(const T* noisy, std::size_t n, const Mixture& mixture, double noise_variance, const Options& options,
              T* out, std::int32_t* components);

// One step of EM for the covariances of a signal in noise. With the filters F_k = C_k (C_k + vI)⁻¹, from the moments
// S_k = Σ_n γ_nk (y_n − μ_k)(y_n − μ_k)ᵀ of noisy samples, N_k = Σ_n γ_nk, and as if a samples more had had C_k:
//
//     C_k ← (F_k S_k F_kᵀ + N_k v F_k + a C_k) / (N_k + a)
//
// C and S are (K, D, D), `counts` N (K,). Throws std::domain_error if a C_k + vI is not positive definite.
void adapt(const double* covariances, const double* moments, const double* counts, std::size_t n_components,
           std::size_t n_features, double noise_variance, double prior_count, int n_threads, double* adapted);

}  // namespace convgmm::restore

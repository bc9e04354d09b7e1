// Coordinates on other axes: those of the largest variance, and samples projected on them.
#pragma once

#include <cstddef>

namespace convgmm::axes {

// Eigenvalues (D,) of a symmetric matrix (D, D), of which the lower triangle is read, the largest first, and its
// eigenvectors as the columns of `axes` (D, D). On one thread, so that the bits are always the same. Throws
// std::domain_error when the matrix is not finite or the iteration does not converge.
void principal(const double* symmetric, std::size_t D, double* variances, double* axes);

// (x − centre) · axes for samples (n, D), centre (D,) and axes (D, E), into (n, E); in the samples' type.
template <class T>
void project(const T* samples, std::size_t n, const double* centre, const double* axes, std::size_t D, std::size_t E,
             int n_threads, T* out);

}  // namespace convgmm::axes

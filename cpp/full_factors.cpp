// Factors of covariances, in the order in which walks read them.
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "full.hpp"
#include "full_triangle.hpp"
#include "parallel.hpp"
#include "sizes.hpp"

namespace convgmm::full {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;  // column-major
using Eigen::Index;

// Columns of an inverse that are solved for at a time.
constexpr Index kColumnBlock = 96;

// A bound of the largest eigenvalue of a matrix without negative ones: (tr Mᵖ)^(1/p), p = 8.
double largest_eigenvalue_bound(Matrix M) {
  const double trace = M.trace();
  if (!(trace > 0)) return 0;
  M /= trace;
  M = (M * M).eval();
  M = (M * M).eval();
  return trace * std::pow(M.norm(), 0.25);
}

}  // namespace

std::size_t packed_size(std::size_t n_features) {
  checked_product({n_features, n_features + 2 * kTileRows});  // more than it uses
  return PackedTriangle::size(n_features);
}

template <class T>
void transpose_whiteners(const T* whiteners, std::size_t n_components, std::size_t n_features, int n_threads,
                         T* upper) {
  parallel::chunks(
      n_components, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        const T* packed = whiteners + k * packed_size(n_features);
        T* out = upper + k * n_features * n_features;
        PackedTriangle::for_each(n_features, [&](std::size_t place, std::size_t row, std::size_t column) {
          if (row < n_features) out[column * n_features + row] = packed[place];
        });
      });
}

template <class T>
std::ptrdiff_t factorize(const double* covariances, std::size_t n_components, std::size_t n_features, int n_threads,
                         T* whiteners, double* log_diagonal, double* inverse_diagonal) {
  const auto D = static_cast<Index>(n_features);
  std::vector<char> failed(n_components, 0);
  parallel::chunks(
      n_components, 1, n_threads, [&] { return Matrix(D, D); },
      [&](Matrix& inverse, std::size_t k, std::size_t) {
        const Eigen::LLT<Matrix> factor(Eigen::Map<const Matrix>(covariances + k * n_features * n_features, D, D));
        if (factor.info() != Eigen::Success) {
          failed[k] = 1;
          return;
        }
        inverse.setIdentity();
        // The columns of an inverse triangle begin at the diagonal: a block at a time needs a third of the arithmetic.
        for (Index column = 0; column < D; column += kColumnBlock) {
          const Index rest = D - column;
          factor.matrixLLT()
              .bottomRightCorner(rest, rest)
              .template triangularView<Eigen::Lower>()
              .solveInPlace(inverse.block(column, column, rest, std::min<Index>(kColumnBlock, rest)));
        }
        log_diagonal[k] = inverse.diagonal().array().log().sum();
        // C⁻¹ = Wᵀ W
        for (Index j = 0; j < D; ++j)
          inverse_diagonal[k * n_features + static_cast<std::size_t>(j)] = inverse.col(j).tail(D - j).squaredNorm();
        T* packed = whiteners + k * packed_size(n_features);
        PackedTriangle::for_each(n_features, [&](std::size_t place, std::size_t row, std::size_t column) {
          const bool inside = row < n_features && row >= column;
          packed[place] = inside ? static_cast<T>(inverse(static_cast<Index>(row), static_cast<Index>(column))) : T{0};
        });
        if (!std::isfinite(log_diagonal[k])) failed[k] = 1;
      });
  const auto first = std::find(failed.begin(), failed.end(), char{1});
  return first == failed.end() ? -1 : first - failed.begin();
}

Tails tails_of(const double* means, const double* covariances, std::size_t n_components, std::size_t n_features,
               double least, std::vector<std::size_t> rows, int n_threads) {
  const auto D = static_cast<Index>(n_features);
  const std::size_t size = rows.size() * n_components;
  Tails tails{std::move(rows), std::vector<double>(size), std::vector<double>(size), std::vector<double>(size)};
  parallel::chunks(
      n_components, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        const Eigen::LLT<Matrix> factor(Eigen::Map<const Matrix>(covariances + k * n_features * n_features, D, D));
        const Matrix L = factor.matrixL();
        const Eigen::Map<const Eigen::VectorXd> mean(means + k * n_features, D);
        for (std::size_t i = 0; i < tails.rows.size(); ++i) {
          const auto q = static_cast<Index>(tails.rows[i]);
          const auto below = L.bottomLeftCorner(D - q, q);
          Matrix of_b = L.bottomRightCorner(D - q, D - q) * L.bottomRightCorner(D - q, D - q).transpose();
          of_b.diagonal().array() -= least;
          const Matrix of_a = q < D - q ? Matrix(below.transpose() * below) : Matrix(below * below.transpose());
          // Rounding must not make a bound too tight.
          constexpr double kSlack = 1e-4;
          const std::size_t place = i * n_components + k;
          tails.cross[place] = std::sqrt(largest_eigenvalue_bound(of_a)) * (1 + kSlack);
          tails.inverse[place] = (1 - kSlack) / (least + largest_eigenvalue_bound(std::move(of_b)));
          tails.shift[place] = mean.tail(D - q).norm() * (1 + kSlack);
        }
      });
  return tails;
}

#define CONVGMM_INSTANTIATE(T)                                                       \
  template void transpose_whiteners<T>(const T*, std::size_t, std::size_t, int, T*); \
  template std::ptrdiff_t factorize<T>(const double*, std::size_t, std::size_t, int, T*, double*, double*);
CONVGMM_INSTANTIATE(float)
CONVGMM_INSTANTIATE(double)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::full

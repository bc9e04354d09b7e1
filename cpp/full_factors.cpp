// Factors of covariances, in the order in which walks read them.
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
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

#define CONVGMM_INSTANTIATE(T)                                                       \
  template void transpose_whiteners<T>(const T*, std::size_t, std::size_t, int, T*); \
  template std::ptrdiff_t factorize<T>(const double*, std::size_t, std::size_t, int, T*, double*, double*);
CONVGMM_INSTANTIATE(float)
CONVGMM_INSTANTIATE(double)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::full

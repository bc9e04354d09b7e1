#include "torus.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "parallel.hpp"

namespace convgmm::torus {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;  // column-major
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;
using Eigen::Index;

// A window in the terms of Eigen, with what one thread works in.
class Field {
 public:
  explicit Field(const Window& window)
      : window_(window),
        n_(static_cast<Index>(window.n_values)),
        cosines_(window.cosines, static_cast<Index>(window.n_lags), static_cast<Index>(window.n_frequencies)),
        multiplicities_(window.multiplicities, static_cast<Index>(window.n_frequencies)),
        axes_(window.axes, n_, static_cast<Index>(window.n_axes)),
        by_lag_(static_cast<Index>(window.n_lags)),
        covariance_(n_, n_) {}

  const Eigen::Map<const RowMajor>& axes() const { return axes_; }

  // C, not centred.
  const Matrix& covariance(const Eigen::Ref<const Vector>& spectrum) {
    by_lag_.noalias() = cosines_ * multiplicities_.cwiseProduct(spectrum);
    const std::int32_t* lag = window_.lag;
    for (Index i = 0; i < n_ * n_; ++i) covariance_.data()[i] = by_lag_[lag[i]];
    return covariance_;
  }

  // b(ω)ᴴ M b(ω) for all ω, of a symmetric M.
  Vector diagonal(const Matrix& matrix) {
    by_lag_.setZero();
    const std::int32_t* lag = window_.lag;
    for (Index i = 0; i < n_ * n_; ++i) by_lag_[lag[i]] += matrix.data()[i];
    return cosines_.transpose() * by_lag_;
  }

 private:
  const Window& window_;
  Index n_;
  Eigen::Map<const RowMajor> cosines_;
  Eigen::Map<const Vector> multiplicities_;
  Eigen::Map<const RowMajor> axes_;
  Vector by_lag_;
  Matrix covariance_;
};

// P M P, and `back` · 1 1ᵀ/n added in the place of what P takes away.
void centre(Matrix& matrix, double back) {
  const Vector means = matrix.rowwise().mean();
  const double whole = means.mean() + back / static_cast<double>(matrix.rows());
  matrix.colwise() -= means;
  matrix.rowwise() -= means.transpose();
  matrix.array() += whole;
}

}  // namespace

void covariances(const Window& window, const double* spectra, std::size_t n_components, int n_threads, double* out) {
  const auto F = static_cast<Index>(window.n_frequencies);
  const auto E = static_cast<Index>(window.n_axes);
  parallel::chunks(
      n_components, 1, n_threads, [&] { return Field(window); },
      [&](Field& field, std::size_t k, std::size_t) {
        const auto component = static_cast<Index>(k);
        const Eigen::Map<const Vector> spectrum(spectra + component * F, F);
        const Matrix half = field.covariance(spectrum) * field.axes();
        const Matrix whole = field.axes().transpose() * half;
        Eigen::Map<Matrix>(out + component * E * E, E, E) = 0.5 * (whole + whole.transpose());
      });
}

void maximize(const Window& window, const double* scatter, std::size_t n_components, double floor, int n_steps,
              int n_threads, double* spectra) {
  const auto F = static_cast<Index>(window.n_frequencies);
  const auto E = static_cast<Index>(window.n_axes);
  const auto n = static_cast<Index>(window.n_values);
  struct Scratch {
    Field field;
    Matrix scatter, inverse, product;
  };
  parallel::chunks(
      n_components, 1, n_threads, [&] { return Scratch{Field(window), Matrix(n, n), Matrix(n, n), Matrix(n, n)}; },
      [&](Scratch& scratch, std::size_t k, std::size_t) {
        auto& [field, S, inverse, product] = scratch;
        const auto component = static_cast<Index>(k);
        const Matrix half = field.axes() * Eigen::Map<const Matrix>(scatter + component * E * E, E, E);
        S.noalias() = half * field.axes().transpose();
        Eigen::Map<Vector> spectrum(spectra + component * F, F);
        for (int step = 0; step < n_steps; ++step) {
          Matrix covariance = field.covariance(spectrum);
          if (window.remove_mean) centre(covariance, covariance.trace() / static_cast<double>(n));
          const Eigen::LLT<Matrix> factor(covariance);
          if (factor.info() != Eigen::Success) throw std::domain_error("torus: a covariance is not positive definite");
          inverse = factor.solve(Matrix::Identity(n, n));
          product.noalias() = inverse * S;
          const Vector found = field.diagonal(product * inverse);
          if (window.remove_mean) centre(inverse, 0);
          const Vector expected = field.diagonal(inverse);
          for (Index w = 0; w < F; ++w)
            if (expected[w] > 0)
              spectrum[w] = std::max(floor, spectrum[w] * std::sqrt(std::max(found[w], 0.0) / expected[w]));
        }
      });
}

}  // namespace convgmm::torus

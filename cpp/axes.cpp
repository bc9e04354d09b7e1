#include "axes.hpp"

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <stdexcept>

#include "aligned.hpp"
#include "packed_matrix.hpp"
#include "parallel.hpp"

namespace convgmm::axes {
namespace {

// Samples that are projected together: with a tile of their coordinates they stay in the second-level cache.
constexpr std::size_t kBlock = 96;

}  // namespace

void principal(const double* symmetric, std::size_t D, double* variances, double* axes) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto size = static_cast<Eigen::Index>(D);
  const Eigen::Map<const RowMajor> matrix(symmetric, size, size);
  if (!matrix.allFinite()) throw std::domain_error("principal axes: the matrix is not finite");
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(matrix);
  if (solver.info() != Eigen::Success) throw std::domain_error("principal axes: the iteration did not converge");
  Eigen::Map<Eigen::VectorXd>(variances, size) = solver.eigenvalues().reverse();
  Eigen::Map<RowMajor>(axes, size, size) = solver.eigenvectors().rowwise().reverse();
}

template <class T>
void project(const T* samples, std::size_t n, const double* centre, const double* axes, std::size_t D, std::size_t E,
             int n_threads, T* out) {
  constexpr std::size_t kDepth = PackedMatrix<T>::kDepthTile;
  PackedMatrix<T> packed(D, E);
  for (std::size_t d = 0; d < D; ++d)
    for (std::size_t e = 0; e < E; ++e) packed.at(d, e) = static_cast<T>(axes[d * E + e]);
  AlignedBuffer<T> shift(D);
  std::transform(centre, centre + D, shift.begin(), [](double value) { return static_cast<T>(value); });

  struct Scratch {
    AlignedBuffer<T> centred;    // (kBlock, kDepth)
    AlignedBuffer<T> projected;  // (kBlock, width)
  };
  parallel::chunks(
      n, kBlock, n_threads,
      [&] { return Scratch{AlignedBuffer<T>(kBlock * kDepth), AlignedBuffer<T>(kBlock * packed.width())}; },
      [&](Scratch& scratch, std::size_t begin, std::size_t end) {
        const std::size_t count = end - begin;
        for (std::size_t d = 0; d < D; d += kDepth) {
          const std::size_t depth = std::min(kDepth, D - d);
          for (std::size_t i = 0; i < count; ++i)
            std::transform(samples + (begin + i) * D + d, samples + (begin + i) * D + d + depth, shift.data() + d,
                           scratch.centred.data() + i * kDepth, [](T x, T c) { return x - c; });
          packed.multiply(scratch.centred.data(), kDepth, count, d, depth, d == 0, scratch.projected.data());
        }
        for (std::size_t i = 0; i < count; ++i)
          std::copy_n(scratch.projected.data() + i * packed.width(), E, out + (begin + i) * E);
      });
}

template void project<float>(const float*, std::size_t, const double*, const double*, std::size_t, std::size_t, int,
                             float*);
template void project<double>(const double*, std::size_t, const double*, const double*, std::size_t, std::size_t, int,
                              double*);

}  // namespace convgmm::axes

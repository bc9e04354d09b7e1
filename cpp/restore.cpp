#include "restore.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>

#include "aligned.hpp"
#include "full.hpp"
#include "full_stages.hpp"
#include "full_walk.hpp"
#include "packed_matrix.hpp"
#include "parallel.hpp"
#include "posterior.hpp"
#include "simd.hpp"
#include "sizes.hpp"

namespace convgmm::restore {
namespace {

// Patches that are worked on together, with all they need in the second-level cache.
constexpr std::size_t kBlock = 128;
// Patches of a tile: enough for products of the components that few of them belong to.
constexpr std::size_t kTilePatches = 2048;
// Patches from which the course of the pruned choice is planned.
constexpr std::size_t kPlanned = 1024;

std::size_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

template <class T>
PackedMatrix<T> packed(const double* matrix, std::size_t rows, std::size_t columns, bool transposed = false) {
  PackedMatrix<T> result(rows, columns);
  for (std::size_t d = 0; d < rows; ++d)
    for (std::size_t e = 0; e < columns; ++e)
      result.at(d, e) = static_cast<T>(transposed ? matrix[e * rows + d] : matrix[d * columns + e]);
  return result;
}

// rows (count, depth), `stride` apart, times the matrix, into (count, matrix.width()).
template <class T>
void multiply(const T* rows, std::size_t stride, std::size_t count, const PackedMatrix<T>& matrix, T* out) {
  constexpr std::size_t kTile = PackedMatrix<T>::kDepthTile;
  for (std::size_t d = 0; d < matrix.depth(); d += kTile)
    matrix.multiply(rows + d, stride, count, d, std::min(kTile, matrix.depth() - d), d == 0, out);
}

// The constants relative to the largest, so that nothing is lost in T.
template <class T>
void relative_to_largest(std::vector<double>& constants, AlignedBuffer<T>& out) {
  const double largest = *std::max_element(constants.begin(), constants.end());
  std::fill(out.begin(), out.end(), -std::numeric_limits<T>::infinity());
  std::transform(constants.begin(), constants.end(), out.begin(),
                 [&](double constant) { return static_cast<T>(constant - largest); });
}

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

using ConstMap = Eigen::Map<const RowMajor>;

// A Bᵀ; not inlined, since every copy of Eigen's product costs 10 kB in each level.
[[gnu::noinline]] RowMajor times_transpose(const ConstMap& A, const ConstMap& B) { return A * B.transpose(); }

// C_k + vI for K covariances C_k (K, D, D).
std::vector<double> with_noise(const double* covariances, std::size_t n_components, std::size_t n_features,
                               double noise_variance) {
  const std::size_t square = checked_product({n_features, n_features});
  std::vector<double> noisy(covariances, covariances + checked_product({n_components, square}));
  for (std::size_t k = 0; k < n_components; ++k)
    for (std::size_t d = 0; d < n_features; ++d) noisy[k * square + d * (n_features + 1)] += noise_variance;
  return noisy;
}

// C (C + vI)⁻¹ = I − v Wᵀ W in the place of each C + vI (K, D, D).
std::vector<double> filters_of(std::vector<double> noisy, std::size_t n_components, std::size_t n_features,
                               double noise_variance, int n_threads) {
  const std::size_t square = n_features * n_features;
  std::vector<double> whiteners(checked_product({n_components, full::packed_size(n_features)}));
  std::vector<double> log_diagonal(n_components), inverse_diagonal(n_components * n_features);
  const std::ptrdiff_t failed = full::factorize(noisy.data(), n_components, n_features, n_threads, whiteners.data(),
                                                log_diagonal.data(), inverse_diagonal.data());
  if (failed >= 0) throw std::domain_error("a covariance with the noise added is not positive definite");
  std::fill(noisy.begin(), noisy.end(), 0.0);
  full::transpose_whiteners(whiteners.data(), n_components, n_features, n_threads, noisy.data());
  const auto size = static_cast<Eigen::Index>(n_features);
  parallel::chunks(
      n_components, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        const ConstMap upper(noisy.data() + k * square, size, size);
        RowMajor filter = -noise_variance * times_transpose(upper, upper);
        filter.diagonal().array() += 1.0;
        std::copy_n(filter.data(), square, noisy.data() + k * square);
      });
  return noisy;
}

Assignment assignment_of(const Options& options) {
  Assignment assignment;
  assignment.kind = options.average ? Assignment::Kind::soft : Assignment::Kind::hard;
  return assignment;
}

// The likeliest component of each of `count` samples, of equal ones the first.
template <class T>
void write_likeliest(const SampleGroup<T>& group, std::size_t n_components, std::size_t count,
                     std::int32_t* components) {
  using namespace simd;
  using Integer = typename IntegerOf<T>::type;
  Vec<T> largest = group.exponential(0);
  IntVec<T> likeliest{};
  for (std::size_t k = 1; k < n_components; ++k) {
    const IntVec<T> larger = group.exponential(k) > largest;
    largest = maximum<T>(largest, group.exponential(k));
    likeliest = larger ? IntVec<T>{} + static_cast<Integer>(k) : likeliest;
  }
  for (std::size_t i = 0; i < count; ++i) components[i] = static_cast<std::int32_t>(likeliest[i]);
}

// The component of the largest joint value, of equal ones the first, in a row that lacks the constants; throws
// NoDensity with this number if there is none. `width` is a multiple of the lanes, with constants of −∞ beyond the
// components.
template <class T>
std::int32_t likeliest_of_row(const T* row, const T* constants, std::size_t width, std::size_t number) {
  using namespace simd;
  using Integer = typename IntegerOf<T>::type;
  Vec<T> largest = Vec<T>{} - std::numeric_limits<T>::infinity();
  IntVec<T> first{};
  for (std::size_t k = 0; k < width; k += kLanes<T>) {
    const Vec<T> joint = load(row + k) + load(constants + k);
    const IntVec<T> larger = joint > largest;
    largest = larger ? joint : largest;
    first = larger ? IntVec<T>{} + static_cast<Integer>(k) : first;
  }
  std::int32_t likeliest = -1;
  T best = -std::numeric_limits<T>::infinity();
  for (std::size_t i = 0; i < kLanes<T>; ++i) {
    const auto component = static_cast<std::int32_t>(first[i]) + static_cast<std::int32_t>(i);
    if (!(largest[i] > best) && !(largest[i] == best && component < likeliest)) continue;
    best = largest[i];
    likeliest = component;
  }
  if (likeliest < 0) throw NoDensity(number);
  return likeliest;
}

// Wiener filters that are gains in one basis.
template <class T>
class DiagonalFilter {
 public:
  DiagonalFilter(const Diagonal& mixture, double noise_variance, const Options& options)
      : n_(mixture.n_values),
        E_(mixture.n_coordinates),
        D_(mixture.n_groups),
        K_(mixture.n_components),
        forward_(packed<T>(mixture.axes, n_, E_)),
        back_(packed<T>(mixture.axes, E_, n_, true)),
        precision_(D_, K_),
        constants_(precision_.width()),
        group_(mixture.group, mixture.group + E_),
        gains_(K_ * forward_.width()),
        assignment_(assignment_of(options)) {
    std::vector<double> multiplicity(D_), constants(mixture.log_weights, mixture.log_weights + K_);
    for (const std::int64_t d : group_) multiplicity[static_cast<std::size_t>(d)] += 1;
    std::fill(gains_.begin(), gains_.end(), T{0});
    for (std::size_t k = 0; k < K_; ++k) {
      const double* variance = mixture.variances + k * D_;
      for (std::size_t d = 0; d < D_; ++d) {
        const double noisy = variance[d] + noise_variance;
        precision_.at(d, k) = static_cast<T>(-0.5 / noisy);
        constants[k] -= 0.5 * multiplicity[d] * std::log(noisy);
      }
      double trace = 0;
      for (std::size_t e = 0; e < E_; ++e) {
        const double signal = variance[static_cast<std::size_t>(group_[e])];
        gains_[k * forward_.width() + e] = static_cast<T>(signal / (signal + noise_variance));
        trace += signal / (signal + noise_variance);
      }
      weights_.push_back(static_cast<T>(std::pow(1 + trace, -options.weighting)));
    }
    relative_to_largest(constants, constants_);
  }

  void plan(const T*, std::size_t) {}

  T weight(std::size_t component) const { return weights_[component]; }

  struct Scratch {
    AlignedBuffer<T> coordinates, squares, joint, filtered, estimates;
    SampleGroup<T> group;
    Kept<T> kept;
  };

  Scratch scratch() const {
    Scratch s{AlignedBuffer<T>(kBlock * forward_.width()),
              AlignedBuffer<T>(kBlock * D_),
              AlignedBuffer<T>(kBlock * precision_.width()),
              AlignedBuffer<T>(kBlock * forward_.width()),
              AlignedBuffer<T>(kBlock * back_.width()),
              SampleGroup<T>(precision_.width()),
              Kept<T>(K_, kBlock)};
    std::fill(s.joint.begin(), s.joint.end(), T{0});  // rows beyond the last patch are computed with, and not used
    return s;
  }

  // Replaces patches (count, n), the first of this number, by their estimates, and writes their likeliest components
  // (count,).
  void apply(Scratch& s, T* patches, std::size_t count, std::size_t number, std::int32_t* components) const {
    for (std::size_t first = 0; first < count; first += kBlock)
      apply_to_block(s, patches + first * n_, std::min(kBlock, count - first), number + first, components + first);
  }

 private:
  void apply_to_block(Scratch& s, T* patches, std::size_t count, std::size_t number, std::int32_t* components) const {
    const std::size_t width = forward_.width();
    multiply(patches, n_, count, forward_, s.coordinates.data());
    std::fill(s.squares.begin(), s.squares.end(), T{0});
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t e = 0; e < E_; ++e) {
        const T c = s.coordinates[i * width + e];
        s.squares[i * D_ + static_cast<std::size_t>(group_[e])] += c * c;
      }
    multiply(s.squares.data(), D_, count, precision_, s.joint.data());
    s.kept.clear();
    if (assignment_.kind == Assignment::Kind::hard)
      for (std::size_t i = 0; i < count; ++i) {
        components[i] = likeliest_of_row(s.joint.data() + i * precision_.width(), constants_.data(), precision_.width(),
                                         number + i);
        s.kept.add(static_cast<std::size_t>(components[i]), static_cast<std::uint32_t>(i));
      }
    for (std::size_t i = 0; i < count && assignment_.kind == Assignment::Kind::soft; i += SampleGroup<T>::kSize) {
      const std::size_t n = std::min(SampleGroup<T>::kSize, count - i);
      s.group.set_rows(s.joint.data() + i * precision_.width(), constants_.data());
      s.group.exponentiate(n);
      s.group.require_density(number + i);
      s.kept.add(s.group, static_cast<std::uint32_t>(i), n, nullptr, assignment_, i);
      write_likeliest(s.group, K_, n, components + i);
    }
    std::fill(s.filtered.begin(), s.filtered.end(), T{0});
    for (std::size_t k = 0; k < K_; ++k) {
      const T* gain = gains_.data() + k * width;
      for (std::size_t j = 0; j < s.kept.count(k); ++j) {
        const T gamma = s.kept.responsibilities(k)[j];
        const T* c = s.coordinates.data() + s.kept.samples(k)[j] * width;
        T* out = s.filtered.data() + s.kept.samples(k)[j] * width;
        for (std::size_t e = 0; e < width; e += simd::kLanes<T>)
          simd::store(out + e, simd::load(out + e) + gamma * simd::load(gain + e) * simd::load(c + e));
      }
    }
    multiply(s.filtered.data(), width, count, back_, s.estimates.data());
    for (std::size_t i = 0; i < count; ++i) std::copy_n(s.estimates.data() + i * back_.width(), n_, patches + i * n_);
  }

  std::size_t n_, E_, D_, K_;
  PackedMatrix<T> forward_, back_, precision_;  // (n, E), (E, n), and −½ / (S + v) as (D, K)
  AlignedBuffer<T> constants_;                  // log π_k − ½ Σ log(S + v), relative to the largest
  std::vector<std::int64_t> group_;
  AlignedBuffer<T> gains_;  // (K, width of the coordinates)
  std::vector<T> weights_;  // (K,)
  Assignment assignment_;
};

// Wiener filters that are matrices, chosen by the pruned evaluation of full covariances.
template <class T>
class RotatedFilter {
 public:
  RotatedFilter(const Rotated& mixture, double noise_variance, const Options& options)
      : n_(mixture.n_values),
        E_(mixture.n_coordinates),
        K_(mixture.n_components),
        forward_(packed<T>(mixture.axes, n_, E_)),
        centre_(mixture.centre, mixture.centre + n_),
        means_(mixture.means, mixture.means + K_ * E_),
        own_means_(K_ * n_),
        weights_(K_),
        constants_(mixture.log_weights, mixture.log_weights + K_),
        whiteners_(checked_product({K_, full::packed_size(E_)})),
        tau_(options.average ? full::threshold<T>(K_) : T{0}),
        assignment_(assignment_of(options)) {
    const auto size = static_cast<Eigen::Index>(E_);
    const std::size_t square = checked_product({E_, E_});
    std::vector<double> noisy = with_noise(mixture.covariances, K_, E_, noise_variance);
    std::vector<double> log_diagonal(K_), inverse_diagonal(K_ * E_);
    full::factorize(noisy.data(), K_, E_, options.n_threads, whiteners_.data(), log_diagonal.data(),
                    inverse_diagonal.data());
    for (std::size_t k = 0; k < K_; ++k) constants_[k] += log_diagonal[k];
    std::vector<std::size_t> rows = full::stage_candidates(E_);
    rows.pop_back();
    tails_ = full::tails_of(mixture.means, noisy.data(), K_, E_, noise_variance, std::move(rows), options.n_threads);
    const std::vector<double> filters = filters_of(std::move(noisy), K_, E_, noise_variance, options.n_threads);
    for (std::size_t k = 0; k < K_; ++k) filters_.emplace_back(E_, n_);
    const ConstMap axes(mixture.axes, static_cast<Eigen::Index>(n_), size);
    parallel::chunks(
        K_, 1, options.n_threads, [] { return 0; },
        [&](int, std::size_t k, std::size_t) {
          const ConstMap filter(filters.data() + k * square, size, size);
          weights_[k] = static_cast<T>(std::pow(1 + filter.trace(), -options.weighting));
          const RowMajor whole = times_transpose(filter, axes);  // back from the axes
          for (std::size_t d = 0; d < E_; ++d)
            for (std::size_t e = 0; e < n_; ++e)
              filters_[k].at(d, e) = static_cast<T>(whole(static_cast<Eigen::Index>(d), static_cast<Eigen::Index>(e)));
          const Eigen::Map<const Eigen::VectorXd> mean(mixture.means + k * E_, size);
          const Eigen::VectorXd own = axes * mean;
          for (std::size_t d = 0; d < n_; ++d)
            own_means_[k * n_ + d] = static_cast<T>(own[static_cast<Eigen::Index>(d)] + mixture.centre[d]);
        });
    mixture_.emplace(full::Mixture<T>{K_, E_, means_.data(), constants_.data(), whiteners_.data()});
    prepared_.emplace(*mixture_, &tails_);
    stages_ = {E_};
  }
  RotatedFilter(const RotatedFilter&) = delete;
  RotatedFilter& operator=(const RotatedFilter&) = delete;

  T weight(std::size_t component) const { return weights_[component]; }

  // Chooses the stages of the walk from some patches (count, n).
  void plan(const T* patches, std::size_t count) {
    AlignedBuffer<T> coordinates(count * E_), wide(kBlock * forward_.width());
    project(patches, count, wide, coordinates.data());
    const std::vector<std::int32_t> unknown(count, -1);
    stages_ = full::plan_stages(coordinates.data(), count, *prepared_, unknown.data(), tau_);
  }

  struct Scratch {
    full::Walker<T> walker;
    AlignedBuffer<T> coordinates, wide, gathered, filtered;
    std::vector<std::int32_t> winners;
    SampleGroup<T> group;
    Kept<T> kept;
  };

  Scratch scratch() const {
    return {full::Walker<T>(*prepared_, stages_, tau_),
            AlignedBuffer<T>(kTilePatches * E_),
            AlignedBuffer<T>(kBlock * forward_.width()),
            AlignedBuffer<T>(kBlock * E_),
            AlignedBuffer<T>(kBlock * simd::round_up(n_, simd::kLanes<T>)),
            {},
            SampleGroup<T>(K_),
            Kept<T>(K_, kTilePatches)};
  }

  // Replaces patches (count, n), at most kTilePatches, by their estimates, and writes their likeliest components
  // (count,).
  void apply(Scratch& s, T* patches, std::size_t count, std::size_t number, std::int32_t* components) const {
    project(patches, count, s.wide, s.coordinates.data());
    s.winners.assign(count, -1);
    s.walker.run(s.coordinates.data(), count, s.winners.data());
    s.kept.clear();
    if (assignment_.kind == Assignment::Kind::hard) {
      s.walker.require_density(number);
      std::copy(s.winners.begin(), s.winners.end(), components);
      for (std::size_t i = 0; i < count; ++i)
        s.kept.add(static_cast<std::size_t>(components[i]), static_cast<std::uint32_t>(i));
    }
    for (std::size_t i = 0; i < count && assignment_.kind == Assignment::Kind::soft; i += SampleGroup<T>::kSize) {
      const std::size_t n = s.walker.fill(i, s.group);
      s.group.require_density(number + i);
      s.kept.add(s.group, static_cast<std::uint32_t>(i), n, nullptr, assignment_, i);
      write_likeliest(s.group, K_, n, components + i);
    }
    std::fill_n(patches, count * n_, T{0});
    for (std::size_t k = 0; k < K_; ++k)
      for (std::size_t first = 0; first < s.kept.count(k); first += kBlock)
        add_estimates_of(k, first, std::min(kBlock, s.kept.count(k) - first), s, patches);
  }

 private:
  void project(const T* patches, std::size_t count, AlignedBuffer<T>& wide, T* coordinates) const {
    std::vector<T> centred(kBlock * n_);
    for (std::size_t first = 0; first < count; first += kBlock) {
      const std::size_t n = std::min(kBlock, count - first);
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t d = 0; d < n_; ++d)
          centred[i * n_ + d] = patches[(first + i) * n_ + d] - static_cast<T>(centre_[d]);
      multiply(centred.data(), n_, n, forward_, wide.data());
      for (std::size_t i = 0; i < n; ++i)
        std::copy_n(wide.data() + i * forward_.width(), E_, coordinates + (first + i) * E_);
    }
  }

  void add_estimates_of(std::size_t k, std::size_t first, std::size_t count, Scratch& s, T* patches) const {
    const std::uint32_t* samples = s.kept.samples(k) + first;
    const T* gamma = s.kept.responsibilities(k) + first;
    const double* mean = means_.data() + k * E_;
    for (std::size_t j = 0; j < count; ++j)
      for (std::size_t d = 0; d < E_; ++d)
        s.gathered[j * E_ + d] = s.coordinates[samples[j] * E_ + d] - static_cast<T>(mean[d]);
    multiply(s.gathered.data(), E_, count, filters_[k], s.filtered.data());
    const T* own_mean = own_means_.data() + k * n_;
    for (std::size_t j = 0; j < count; ++j) {
      const T* row = s.filtered.data() + j * filters_[k].width();
      for (std::size_t d = 0; d < n_; ++d) patches[samples[j] * n_ + d] += gamma[j] * (row[d] + own_mean[d]);
    }
  }

  std::size_t n_, E_, K_;
  PackedMatrix<T> forward_;
  std::vector<double> centre_, means_;
  std::vector<T> own_means_;  // (K, n) as patches
  std::vector<T> weights_;    // (K,)
  std::vector<double> constants_;
  AlignedBuffer<T> whiteners_;            // of C_k + vI
  std::vector<PackedMatrix<T>> filters_;  // from coordinates to patches
  T tau_;                                 // how far below the likeliest a component is dropped
  Assignment assignment_;
  full::Tails tails_;
  std::optional<full::Mixture<T>> mixture_;
  std::optional<full::PreparedMixture<T>> prepared_;
  std::vector<std::size_t> stages_;
};

template <class T, class Mixture>
struct FilterOf;
template <class T>
struct FilterOf<T, Diagonal> {
  using type = DiagonalFilter<T>;
};
template <class T>
struct FilterOf<T, Rotated> {
  using type = RotatedFilter<T>;
};

// Takes away each patch's mean, applies the filter, and gives the mean back.
template <class T, class Filter>
void apply(const Filter& filter, typename Filter::Scratch& scratch, const Options& options, std::size_t n_values,
           T* patches, std::size_t count, std::size_t number, std::vector<T>& means, std::int32_t* components) {
  if (options.remove_mean) {
    means.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      T* patch = patches + i * n_values;
      means[i] = simd::sum(patch, n_values) / static_cast<T>(n_values);
      for (std::size_t d = 0; d < n_values; ++d) patch[d] -= means[i];
    }
  }
  filter.apply(scratch, patches, count, number, components);
  if (options.remove_mean)
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t d = 0; d < n_values; ++d) patches[i * n_values + d] += means[i];
}

// Plans the filter's work from some patches (count, n_values), which lose their means.
template <class T, class Filter>
void plan(Filter& filter, const Options& options, std::size_t n_values, T* patches, std::size_t count) {
  for (std::size_t i = 0; i < count && options.remove_mean; ++i) {
    T* patch = patches + i * n_values;
    const T mean = simd::sum(patch, n_values) / static_cast<T>(n_values);
    for (std::size_t d = 0; d < n_values; ++d) patch[d] -= mean;
  }
  filter.plan(patches, count);
}

// What a grid's cells, tiles and patches are made of, axis by axis.
class Layout {
 public:
  explicit Layout(const Grid& grid) : grid_(grid), rank_(grid.image.size()) {
    // The number of cells of a tile is nearly the same a side, larger along the rows.
    Shape wanted(rank_, 1);
    for (std::size_t cells = 1, axis = rank_ - 1; cells < kTilePatches;
         cells *= 2, axis = axis > 0 ? axis - 1 : rank_ - 1)
      wanted[axis] *= 2;
    for (std::size_t a = 0; a < rank_; ++a) {
      last_.push_back(grid.image[a] - grid.patch[a]);
      cells_.push_back((last_[a] + grid.stride - 1) / grid.stride + 1);
      tile_.push_back(wanted[a]);
      tiles_.push_back((cells_[a] + tile_[a] - 1) / tile_[a]);
      box_.push_back(tile_[a] * grid.stride + grid.patch[a]);
    }
    Shape index(rank_, 0);
    for (std::size_t run = 0; run < product(grid.patch) / grid.patch.back(); ++run) {
      image_runs.push_back(flat(index, grid.image));
      box_runs.push_back(flat(index, box_));
      for (std::size_t a = rank_ - 1; a-- > 0;) {
        if (++index[a] < grid.patch[a]) break;
        index[a] = 0;
      }
    }
  }

  std::size_t tiles() const { return product(tiles_); }
  std::size_t box_size() const { return product(box_); }
  std::size_t run_length() const { return grid_.patch.back(); }

  // Where the first values of a tile's patches are, in the image and in the tile's box.
  void positions(std::size_t tile, std::vector<std::size_t>& in_image, std::vector<std::size_t>& in_box) const {
    in_image.clear();
    in_box.clear();
    Shape first = corner(tile), count(rank_), start(rank_), inside(rank_);
    for (std::size_t a = 0; a < rank_; ++a) count[a] = std::min(tile_[a], cells_[a] - first[a]);
    const Shape begin = origin(tile);
    for (std::size_t flat_cell = 0; flat_cell < product(count); ++flat_cell) {
      std::size_t rest = flat_cell;
      Shape cell(rank_);
      for (std::size_t a = rank_; a-- > 0;) {
        cell[a] = first[a] + rest % count[a];
        rest /= count[a];
      }
      const std::uint64_t number = flat(cell, cells_);
      for (std::size_t a = 0; a < rank_; ++a) {
        start[a] = start_of(a, cell[a], number);
        inside[a] = start[a] - begin[a];
      }
      in_image.push_back(flat(start, grid_.image));
      in_box.push_back(flat(inside, box_));
    }
  }

  // Adds a tile's box to the image.
  template <class T>
  void add(std::size_t tile, const T* box, T* image) const {
    const Shape begin = origin(tile);
    Shape extent(rank_), index(rank_), place(rank_);
    for (std::size_t a = 0; a < rank_; ++a) extent[a] = std::min(box_[a], grid_.image[a] - begin[a]);
    for (std::size_t row = 0; row < product(extent) / extent.back(); ++row) {
      std::size_t rest = row;
      index.back() = 0;
      for (std::size_t a = rank_ - 1; a-- > 0;) {
        index[a] = rest % extent[a];
        rest /= extent[a];
      }
      for (std::size_t a = 0; a < rank_; ++a) place[a] = begin[a] + index[a];
      const T* source = box + flat(index, box_);
      T* target = image + flat(place, grid_.image);
      for (std::size_t i = 0; i < extent.back(); ++i) target[i] += source[i];
    }
  }

  std::vector<std::size_t> image_runs, box_runs;  // where the rows of a patch stand, from its first value

 private:
  static std::size_t flat(const Shape& index, const Shape& shape) {
    std::size_t place = 0;
    for (std::size_t a = 0; a < shape.size(); ++a) place = place * shape[a] + index[a];
    return place;
  }

  // The first cell of a tile.
  Shape corner(std::size_t tile) const {
    Shape cell(rank_);
    for (std::size_t a = rank_; a-- > 0;) {
      cell[a] = tile % tiles_[a] * tile_[a];
      tile /= tiles_[a];
    }
    return cell;
  }

  // The first value of a tile's box.
  Shape origin(std::size_t tile) const {
    Shape place = corner(tile);
    for (std::size_t a = 0; a < rank_; ++a) place[a] = std::min(place[a] * grid_.stride, last_[a]);
    return place;
  }

  std::size_t start_of(std::size_t axis, std::size_t cell, std::uint64_t number) const {
    if (cell + 1 == cells_[axis]) return last_[axis];
    const std::size_t jitter = cell > 0 ? hash_of(grid_.seed, axis, number) % grid_.stride : 0;
    return std::min(cell * grid_.stride + jitter, last_[axis]);
  }

  const Grid& grid_;
  std::size_t rank_;
  Shape last_, cells_, tile_, tiles_, box_;
};

template <class T>
void extract(const T* image, const Layout& layout, const std::vector<std::size_t>& positions, T* patches) {
  for (const std::size_t position : positions)
    for (const std::size_t run : layout.image_runs) {
      std::copy_n(image + position + run, layout.run_length(), patches);
      patches += layout.run_length();
    }
}

}  // namespace

void check(const Grid& grid) {
  const auto require = [](bool holds, const char* message) {
    if (!holds) throw std::invalid_argument(message);
  };
  require(!grid.image.empty() && grid.image.size() == grid.patch.size(), "image and patch: expected as many axes");
  for (std::size_t a = 0; a < grid.image.size(); ++a) {
    require(grid.patch[a] > 0 && grid.patch[a] <= grid.image[a], "image: smaller than a patch");
    require(grid.stride > 0 && (2 * grid.stride <= grid.patch[a] + 1), "stride: beyond half of a patch");
  }
}

std::size_t tile_count(const Grid& grid) { return Layout(grid).tiles(); }

template <class T, class Mixture>
void add_estimates(const T* noisy, const Grid& grid, const Mixture& mixture, double noise_variance,
                   const Options& options, std::size_t first, std::size_t last, T* sums, T* counts) {
  using Filter = typename FilterOf<T, Mixture>::type;
  const Layout layout(grid);
  const std::size_t n = mixture.n_values;
  Filter filter(mixture, noise_variance, options);
  {
    // Some patches from all over the image; those of one step through all tiles.
    std::vector<std::size_t> positions, unused, chosen;
    const std::size_t tiles = layout.tiles();
    const std::size_t looked_at = std::min<std::size_t>(tiles, 32);
    for (std::size_t t = 0; t < looked_at; ++t) {
      layout.positions(t * tiles / looked_at, positions, unused);
      const std::size_t step = std::max<std::size_t>(1, positions.size() * looked_at / kPlanned);
      for (std::size_t i = 0; i < positions.size() && chosen.size() < kPlanned; i += step)
        chosen.push_back(positions[i]);
    }
    AlignedBuffer<T> patches(chosen.size() * n);
    extract(noisy, layout, chosen, patches.data());
    plan(filter, options, n, patches.data(), chosen.size());
  }
  struct Local {
    typename Filter::Scratch scratch;
    AlignedBuffer<T> patches, sums, counts;
    std::vector<std::int32_t> components;
    std::vector<T> means;
    std::vector<std::size_t> in_image, in_box;
    std::size_t tile = 0;
  };
  parallel::ordered_chunks(
      last - first, 1, options.n_threads,
      [&] {
        return Local{filter.scratch(),
                     AlignedBuffer<T>(kTilePatches * n),
                     AlignedBuffer<T>(layout.box_size()),
                     AlignedBuffer<T>(layout.box_size()),
                     std::vector<std::int32_t>(kTilePatches),
                     {},
                     {},
                     {}};
      },
      [&](Local& local, std::size_t begin, std::size_t) {
        local.tile = first + begin;
        layout.positions(local.tile, local.in_image, local.in_box);
        extract(noisy, layout, local.in_image, local.patches.data());
        apply(filter, local.scratch, options, n, local.patches.data(), local.in_image.size(), 0, local.means,
              local.components.data());
        std::fill(local.sums.begin(), local.sums.end(), T{0});
        std::fill(local.counts.begin(), local.counts.end(), T{0});
        const T* patch = local.patches.data();
        for (std::size_t p = 0; p < local.in_box.size(); ++p) {
          const T weight = filter.weight(static_cast<std::size_t>(local.components[p]));
          for (const std::size_t run : layout.box_runs) {
            T* sum = local.sums.data() + local.in_box[p] + run;
            T* count = local.counts.data() + local.in_box[p] + run;
            for (std::size_t i = 0; i < layout.run_length(); ++i) {
              sum[i] += weight * patch[i];
              count[i] += weight;
            }
            patch += layout.run_length();
          }
        }
      },
      [&](Local& local) {
        layout.add(local.tile, local.sums.data(), sums);
        layout.add(local.tile, local.counts.data(), counts);
      });
}

template <class T, class Mixture>
void estimate(const T* noisy, std::size_t n, const Mixture& mixture, double noise_variance, const Options& options,
              T* out, std::int32_t* components) {
  using Filter = typename FilterOf<T, Mixture>::type;
  Filter filter(mixture, noise_variance, options);
  const std::size_t size = mixture.n_values;
  {
    const std::size_t count = std::min(n, kPlanned);
    AlignedBuffer<T> patches(count * size);
    for (std::size_t i = 0; i < count; ++i) std::copy_n(noisy + i * n / count * size, size, patches.data() + i * size);
    plan(filter, options, size, patches.data(), count);
  }
  struct Local {
    typename Filter::Scratch scratch;
    std::vector<T> means;
  };
  parallel::chunks(
      n, kTilePatches, options.n_threads, [&] { return Local{filter.scratch(), {}}; },
      [&](Local& local, std::size_t begin, std::size_t end) {
        T* own = out + begin * size;
        std::copy(noisy + begin * size, noisy + end * size, own);
        apply(filter, local.scratch, options, size, own, end - begin, begin, local.means, components + begin);
      });
}

void adapt(const double* covariances, const double* moments, const double* counts, std::size_t n_components,
           std::size_t n_features, double noise_variance, double prior_count, int n_threads, double* adapted) {
  const std::vector<double> filters = filters_of(with_noise(covariances, n_components, n_features, noise_variance),
                                                 n_components, n_features, noise_variance, n_threads);
  const auto size = static_cast<Eigen::Index>(n_features);
  parallel::chunks(
      n_components, 1, n_threads, [] { return 0; },
      [&](int, std::size_t k, std::size_t) {
        const std::size_t place = k * n_features * n_features;
        const ConstMap C(covariances + place, size, size), S(moments + place, size, size),
            F(filters.data() + place, size, size);
        const RowMajor filtered = times_transpose(F, S);  // S is symmetric
        RowMajor sum = times_transpose(ConstMap(filtered.data(), size, size), F);
        sum += counts[k] * noise_variance * F + prior_count * C;
        Eigen::Map<RowMajor>(adapted + place, size, size) = (sum + sum.transpose()) / (2 * (counts[k] + prior_count));
      });
}

#define CONVGMM_INSTANTIATE(T, Mixture)                                                                               \
  template void add_estimates<T, Mixture>(const T*, const Grid&, const Mixture&, double, const Options&, std::size_t, \
                                          std::size_t, T*, T*);                                                       \
  template void estimate<T, Mixture>(const T*, std::size_t, const Mixture&, double, const Options&, T*, std::int32_t*);
CONVGMM_INSTANTIATE(float, Diagonal)
CONVGMM_INSTANTIATE(double, Diagonal)
CONVGMM_INSTANTIATE(float, Rotated)
CONVGMM_INSTANTIATE(double, Rotated)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::restore

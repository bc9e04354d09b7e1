#include "spectral.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "aligned.hpp"
#include "parallel.hpp"
#include "posterior.hpp"
#include "simd.hpp"

namespace convgmm::spectral {
namespace {

using simd::kLanes;
using simd::load;
using simd::store;
using simd::Vec;

// Samples whose joint values are worked on together: they and their coefficients stay in the second-level cache.
constexpr std::size_t kBlock = 128;
// Coefficients of one tile that stay in the first-level cache together with the tile's share of the parameters.
constexpr std::size_t kCoefficientTile = 256;
// Accumulators of the inner kernel: kRows samples × kColumns vectors of components fill the register file.
constexpr std::size_t kRows = simd::kRegisters == 32 ? 8 : 6;
constexpr std::size_t kColumns = 2;

// The mixture in the form that the kernel reads: ½ m/S by tiles of components, each (D, tile), and the constants
// log π_k − ½ Σ m (log S + log 2π). Components are padded to whole vectors with a constant of −inf.
template <class T>
struct Packed {
  std::size_t width;  // padded K
  std::size_t D;
  AlignedBuffer<T> precision;  // tiles of up to kColumns vectors, each (D, tile width)
  AlignedBuffer<T> constant;   // (width,)

  explicit Packed(const Mixture& mixture)
      : width(simd::round_up(mixture.n_components, kLanes<T>)),
        D(mixture.n_coefficients),
        precision(width * D),
        constant(width) {
    std::fill(precision.begin(), precision.end(), T{0});
    std::fill(constant.begin(), constant.end(), -std::numeric_limits<T>::infinity());
    for (std::size_t k = 0; k < mixture.n_components; ++k) {
      const std::size_t tile = k / tile_width();
      T* column = precision.data() + tile * tile_width() * D + k % tile_width();
      const std::size_t stride = width_of(tile);
      double log_normaliser = 0;
      for (std::size_t d = 0; d < D; ++d) {
        const double variance = mixture.spectra[k * D + d];
        const double m = mixture.multiplicities[d];
        column[d * stride] = static_cast<T>(0.5 * m / variance);
        log_normaliser += m * (std::log(variance) + std::log(2 * std::numbers::pi));
      }
      const double log_weight = mixture.weights != nullptr ? std::log(mixture.weights[k]) : 0.0;
      constant[k] = static_cast<T>(log_weight - 0.5 * log_normaliser);
    }
  }

  static constexpr std::size_t tile_width() { return kColumns * kLanes<T>; }
  std::size_t n_tiles() const { return (width + tile_width() - 1) / tile_width(); }
  std::size_t width_of(std::size_t tile) const { return std::min(tile_width(), width - tile * tile_width()); }
};

// out[i][k] (+)= −Σ_d P[i][d] A[d][k] for `Rows` samples and `Columns` vectors of components, sums held in registers.
// `begin` says that the sum starts here; otherwise it continues what stands in `out`.
template <class T, std::size_t Rows, std::size_t Columns>
inline void accumulate_distances(const T* P, std::size_t P_stride, const T* A, std::size_t n_coefficients, bool begin,
                                 T* out, std::size_t out_stride) {
  Vec<T> sum[Rows][Columns] = {};
  if (!begin)
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t c = 0; c < Columns; ++c) sum[i][c] = load(out + i * out_stride + c * kLanes<T>);
  for (std::size_t d = 0; d < n_coefficients; ++d) {
    Vec<T> a[Columns];
    for (std::size_t c = 0; c < Columns; ++c) a[c] = load(A + (d * Columns + c) * kLanes<T>);
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t c = 0; c < Columns; ++c) sum[i][c] -= P[i * P_stride + d] * a[c];
  }
  for (std::size_t i = 0; i < Rows; ++i)
    for (std::size_t c = 0; c < Columns; ++c) store(out + i * out_stride + c * kLanes<T>, sum[i][c]);
}

template <class T, std::size_t Columns>
void tile_distances(const T* P, std::size_t count, std::size_t D, const T* A, T* out, std::size_t out_stride) {
  for (std::size_t d = 0; d < D; d += kCoefficientTile) {
    const std::size_t depth = std::min(kCoefficientTile, D - d);
    const T* a = A + d * Columns * kLanes<T>;
    std::size_t i = 0;
    for (; i + kRows <= count; i += kRows)
      accumulate_distances<T, kRows, Columns>(P + i * D + d, D, a, depth, d == 0, out + i * out_stride, out_stride);
    for (; i < count; ++i)
      accumulate_distances<T, 1, Columns>(P + i * D + d, D, a, depth, d == 0, out + i * out_stride, out_stride);
  }
}

// log π_k + log p(x|k) of `count` samples into (count, width).
template <class T>
void joint_values(const T* P, std::size_t count, const Packed<T>& mixture, T* out) {
  for (std::size_t tile = 0; tile < mixture.n_tiles(); ++tile) {
    const std::size_t offset = tile * Packed<T>::tile_width();
    const T* A = mixture.precision.data() + offset * mixture.D;
    if (mixture.width_of(tile) == Packed<T>::tile_width())
      tile_distances<T, kColumns>(P, count, mixture.D, A, out + offset, mixture.width);
    else
      tile_distances<T, 1>(P, count, mixture.D, A, out + offset, mixture.width);
  }
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t k = 0; k < mixture.width; k += kLanes<T>)
      store(out + i * mixture.width + k, load(out + i * mixture.width + k) + load(mixture.constant.data() + k));
}

// power[d] += Σ γ P[sample][d] over the kept samples of one component; sums in registers, then added in float64.
template <class T, std::size_t Columns>
inline void accumulate_power(const T* P, std::size_t stride, const typename Kept<T>::Entry* kept, std::size_t n_kept,
                             double* power) {
  Vec<T> sum[Columns] = {};
  for (std::size_t j = 0; j < n_kept; ++j) {
    const T* row = P + kept[j].sample * stride;
    for (std::size_t c = 0; c < Columns; ++c) sum[c] += kept[j].responsibility * load(row + c * kLanes<T>);
  }
  for (std::size_t c = 0; c < Columns; ++c)
    for (std::size_t l = 0; l < kLanes<T>; ++l) power[c * kLanes<T> + l] += static_cast<double>(sum[c][l]);
}

template <class T>
void add_block(const T* P, std::size_t D, const Kept<T>& kept, Statistics& statistics) {
  constexpr std::size_t kWide = 4;
  for (std::size_t k = 0; k < statistics.responsibility.size(); ++k) {
    const auto* entries = kept.of(k);
    const std::size_t n_kept = kept.count(k);
    if (n_kept == 0) continue;
    double* power = statistics.power.data() + k * D;
    std::size_t d = 0;
    for (; d + kWide * kLanes<T> <= D; d += kWide * kLanes<T>)
      accumulate_power<T, kWide>(P + d, D, entries, n_kept, power + d);
    for (; d + kLanes<T> <= D; d += kLanes<T>) accumulate_power<T, 1>(P + d, D, entries, n_kept, power + d);
    double total = 0;
    for (std::size_t j = 0; j < n_kept; ++j) total += static_cast<double>(entries[j].responsibility);
    statistics.responsibility[k] += total;
    for (; d < D; ++d) {
      T sum = 0;
      for (std::size_t j = 0; j < n_kept; ++j) sum += entries[j].responsibility * P[entries[j].sample * D + d];
      power[d] += static_cast<double>(sum);
    }
  }
}

// Calls use(joint, begin, count) with the joint values of one block of samples after the other.
template <class T, class Use>
void for_blocks(const T* coefficients, std::size_t n, const Packed<T>& mixture, int n_threads, Use use) {
  parallel::chunks(
      n, parallel::chunk_size(n, kBlock), n_threads, [&] { return AlignedBuffer<T>(kBlock * mixture.width); },
      [&](AlignedBuffer<T>& joint, std::size_t begin, std::size_t end) {
        for (std::size_t first = begin; first < end; first += kBlock) {
          const std::size_t count = std::min(kBlock, end - first);
          joint_values(coefficients + first * mixture.D, count, mixture, joint.data());
          use(joint.data(), first, count);
        }
      });
}

}  // namespace

void Statistics::clear() {
  std::fill(responsibility.begin(), responsibility.end(), 0.0);
  std::fill(power.begin(), power.end(), 0.0);
  log_likelihood = 0;
}

Statistics& Statistics::operator+=(const Statistics& other) {
  std::transform(responsibility.begin(), responsibility.end(), other.responsibility.begin(), responsibility.begin(),
                 std::plus<>());
  std::transform(power.begin(), power.end(), other.power.begin(), power.begin(), std::plus<>());
  log_likelihood += other.log_likelihood;
  return *this;
}

template <class T>
Statistics expect(const T* coefficients, std::size_t n, const double* sample_weight, const Mixture& mixture,
                  int n_threads) {
  const std::size_t K = mixture.n_components;
  const std::size_t D = mixture.n_coefficients;
  const Packed<T> packed(mixture);
  struct Local {
    AlignedBuffer<T> joint;
    Kept<T> kept;
    Statistics statistics;
  };
  Statistics total(K, D);
  parallel::ordered_chunks(
      n, parallel::chunk_size(n, kBlock), n_threads,
      [&] { return Local{AlignedBuffer<T>(kBlock * packed.width), Kept<T>(packed.width, kBlock), Statistics(K, D)}; },
      [&](Local& local, std::size_t begin, std::size_t end) {
        local.statistics.clear();
        for (std::size_t first = begin; first < end; first += kBlock) {
          const std::size_t count = std::min(kBlock, end - first);
          const T* P = coefficients + first * D;
          joint_values(P, count, packed, local.joint.data());
          local.statistics.log_likelihood +=
              responsibilities(local.joint.data(), packed.width, count, first,
                               sample_weight != nullptr ? sample_weight + first : nullptr, local.kept);
          add_block(P, D, local.kept, local.statistics);
        }
      },
      [&](Local& local) { total += local.statistics; });
  return total;
}

template <class T>
void log_density(const T* coefficients, std::size_t n, const Mixture& mixture, int n_threads, T* out) {
  const Packed<T> packed(mixture);
  const std::size_t K = mixture.n_components;
  for_blocks(coefficients, n, packed, n_threads, [&](const T* joint, std::size_t first, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) std::copy_n(joint + i * packed.width, K, out + (first + i) * K);
  });
}

template <class T>
void posterior(const T* coefficients, std::size_t n, const Mixture& mixture, int n_threads, T* responsibilities,
               T* log_probability) {
  const Packed<T> packed(mixture);
  const std::size_t K = mixture.n_components;
  for_blocks(coefficients, n, packed, n_threads, [&](T* joint, std::size_t first, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      T* row = joint + i * packed.width;
      T largest;
      const T total = exponentiate(row, packed.width, largest);
      log_probability[first + i] = static_cast<T>(log_sum(largest, total, first + i));
      T* out = responsibilities + (first + i) * K;
      for (std::size_t k = 0; k < K; ++k) out[k] = row[k] / total;
    }
  });
}

#define CONVGMM_INSTANTIATE(T)                                                              \
  template Statistics expect<T>(const T*, std::size_t, const double*, const Mixture&, int); \
  template void log_density<T>(const T*, std::size_t, const Mixture&, int, T*);             \
  template void posterior<T>(const T*, std::size_t, const Mixture&, int, T*, T*);
CONVGMM_INSTANTIATE(float)
CONVGMM_INSTANTIATE(double)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::spectral

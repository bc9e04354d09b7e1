#include "spectral.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <utility>
#include <variant>

#include "aligned.hpp"
#include "packed_matrix.hpp"
#include "parallel.hpp"
#include "posterior.hpp"
#include "scales.hpp"
#include "simd.hpp"

namespace convgmm::spectral {
namespace {

using simd::kLanes;
using simd::load;
using simd::store;
using simd::Vec;

// Samples whose joint values are worked on together: they and their coefficients stay in the second-level cache.
constexpr std::size_t kBlock = 128;
// Samples whose power is summed in the data's type before it is added to the float64 sums.
constexpr std::size_t kFlush = 2048;
// The mixture in the form that the kernel reads: −½ m/S by tiles of components, and the constants less the largest one.
// Components are padded to whole vectors with a constant of −inf.
template <class T>
struct Packed {
  std::size_t D;
  PackedMatrix<T> precision;             // (D, K)
  double offset;                         // the largest constant
  AlignedBuffer<T> constant;             // (width,) less the offset
  AlignedBuffer<double> exact_constant;  // the same in float64
  std::size_t n_components;
  Scales scales;
  const double* constants;

  explicit Packed(const Mixture& mixture)
      : D(mixture.n_coefficients),
        precision(mixture.n_coefficients, mixture.n_components),
        offset(*std::max_element(mixture.constants, mixture.constants + mixture.n_components)),
        constant(precision.width()),
        exact_constant(precision.width()),
        n_components(mixture.n_components),
        scales(mixture.scales),
        constants(mixture.constants) {
    std::fill(exact_constant.begin(), exact_constant.end(), -std::numeric_limits<double>::infinity());
    for (std::size_t k = 0; k < mixture.n_components; ++k) {
      exact_constant[k] = mixture.constants[k] - offset;
      for (std::size_t d = 0; d < D; ++d)
        precision.at(d, k) = static_cast<T>(-0.5 * mixture.multiplicities[d] / mixture.spectra[k * D + d]);
    }
    std::transform(exact_constant.begin(), exact_constant.end(), constant.begin(),
                   [](double value) { return static_cast<T>(value); });
  }

  std::size_t width() const { return precision.width(); }

  // Do sums over so many coefficients need float64 between tiles? In float32, with two close components,
  // responsibilities are otherwise wrong by 1.4e-3 for 64×64 patches, and by 2.6e-2 for 32×32×32.
  bool is_wide() const { return sizeof(T) == 4 && D > PackedMatrix<T>::kDepthTile; }

  // Coefficients that are summed in T at a time: few of many, whose roundings add up.
  std::size_t run() const { return D > 4 * PackedMatrix<T>::kDepthTile ? 16 : PackedMatrix<T>::kDepthTile; }
};

// −½ Σ m P / S of `count` samples into (count, width): joint values without their constants.
template <class T, class Out>
void distances(const T* P, std::size_t count, const Packed<T>& mixture, Out* out) {
  constexpr std::size_t kTile = PackedMatrix<T>::kDepthTile;
  for (std::size_t d = 0; d < mixture.D; d += kTile)
    mixture.precision.multiply(P + d, mixture.D, count, d, std::min(kTile, mixture.D - d), d == 0, out, mixture.run());
}

// Σ γ P over samples in T, for every component: (K, vectors) that are added to float64 sums now and then. The last
// vector of a row reaches back, so that nothing beyond the row is read; its first lanes are those of the one before.
template <class T>
class PowerSums {
 public:
  PowerSums(std::size_t n_components, std::size_t D)
      : D_(D), vectors_((D + kLanes<T> - 1) / kLanes<T>), sums_(n_components * vectors_ * kLanes<T>) {
    std::fill(sums_.begin(), sums_.end(), T{0});
  }

  // Adds the samples of a block that the component keeps.
  void add(const T* P, const Kept<T>& kept, std::size_t component) {
    const std::size_t count = kept.count(component);
    const std::uint32_t* samples = kept.samples(component);
    const T* gamma = kept.responsibilities(component);
    T* sums = sums_.data() + component * vectors_ * kLanes<T>;
    if (D_ < kLanes<T>) {
      for (std::size_t j = 0; j < count; ++j)
        for (std::size_t d = 0; d < D_; ++d) sums[d] += gamma[j] * P[samples[j] * D_ + d];
      return;
    }
    constexpr std::size_t kWide = 8;
    std::size_t v = 0;
    for (; v + kWide <= vectors_; v += kWide) add_columns<kWide>(P, samples, gamma, count, v, sums);
    for (; v < vectors_; ++v) add_columns<1>(P, samples, gamma, count, v, sums);
  }

  // Moves the sums of all components to `power` (K, D).
  void flush(std::vector<double>& power) {
    const std::size_t n_components = power.size() / D_;
    for (std::size_t k = 0; k < n_components; ++k) {
      const T* sums = sums_.data() + k * vectors_ * kLanes<T>;
      const std::size_t last = (vectors_ - 1) * kLanes<T>;
      for (std::size_t d = 0; d < last; ++d) power[k * D_ + d] += static_cast<double>(sums[d]);
      for (std::size_t d = last; d < D_; ++d)
        power[k * D_ + d] += static_cast<double>(sums[d + last - offset(vectors_ - 1)]);
    }
    std::fill(sums_.begin(), sums_.end(), T{0});
  }

 private:
  // The first column of a vector.
  std::size_t offset(std::size_t vector) const {
    return D_ < kLanes<T> ? 0 : std::min(vector * kLanes<T>, D_ - kLanes<T>);
  }

  template <std::size_t Columns>
  void add_columns(const T* P, const std::uint32_t* samples, const T* gamma, std::size_t count, std::size_t first,
                   T* sums) {
    Vec<T> sum[Columns];
    std::size_t offsets[Columns];
    for (std::size_t c = 0; c < Columns; ++c) {
      sum[c] = load(sums + (first + c) * kLanes<T>);
      offsets[c] = offset(first + c);
    }
    for (std::size_t j = 0; j < count; ++j) {
      const T* row = P + samples[j] * D_;
      for (std::size_t c = 0; c < Columns; ++c) sum[c] += gamma[j] * load(row + offsets[c]);
    }
    for (std::size_t c = 0; c < Columns; ++c) store(sums + (first + c) * kLanes<T>, sum[c]);
  }

  std::size_t D_;
  std::size_t vectors_;  // of a row
  AlignedBuffer<T> sums_;
};

// What components of several scales need of a block: distances by component, in the type that they are summed in, and
// joint values relative to the offset.
template <class Sum>
struct ScaledScratch {
  Profile<Sum> profile;
  AlignedBuffer<Sum> distances;  // (width, kBlock)
  ScaledBlock<Sum> block;

  template <class T>
  ScaledScratch(const Packed<T>& mixture, double offset)
      : profile(profile_of<Sum>(mixture.scales, mixture.n_components, mixture.constants, offset, 1)),
        distances(mixture.width() * kBlock),
        block(profile, kBlock, kUnseen<T> + static_cast<Sum>(std::log(static_cast<double>(mixture.n_components)))) {}
  ScaledScratch(const ScaledScratch&) = delete;  // the block refers to the profile

  const Sum* strip(std::size_t component) const { return distances.data() + component * kBlock; }

  // Takes the distances of samples by rows (kBlock, width).
  void transpose_rows(const Sum* rows, std::size_t width, std::size_t count) {
    constexpr std::size_t kSize = kLanes<Sum>;
    for (std::size_t i = 0; i < count; i += kSize)
      for (std::size_t k = 0; k < width; k += kSize) {
        Vec<Sum> square[kSize];
        for (std::size_t r = 0; r < kSize; ++r) square[r] = load(rows + (i + r) * width + k);
        simd::transpose<Sum>(square);
        for (std::size_t r = 0; r < kSize; ++r) store(distances.data() + (k + r) * kBlock + i, square[r]);
      }
  }
};

// What one thread works with: a block's joint values, and one group of its samples after the other.
template <class T>
struct Scratch {
  AlignedBuffer<T> joint;       // (kBlock, width), or one group's where there are sums in float64
  AlignedBuffer<double> exact;  // (kBlock, width), or none
  AlignedBuffer<T> zero;        // (width,)
  SampleGroup<T> group;
  std::unique_ptr<ScaledScratch<T>> scaled;             // with scales: this one,
  std::unique_ptr<ScaledScratch<double>> scaled_exact;  // or this one where there are sums in float64

  explicit Scratch(const Packed<T>& mixture)
      : joint((mixture.is_wide() ? SampleGroup<T>::kSize : kBlock) * mixture.width()),
        exact(mixture.is_wide() ? kBlock * mixture.width() : 0),
        zero(mixture.width()),
        group(mixture.width()) {
    // Rows beyond the last sample are computed with, and not used.
    std::fill(joint.begin(), joint.end(), T{0});
    std::fill(exact.begin(), exact.end(), 0.0);
    std::fill(zero.begin(), zero.end(), T{0});
    if (mixture.scales && mixture.is_wide())
      scaled_exact = std::make_unique<ScaledScratch<double>>(mixture, mixture.offset);
    else if (mixture.scales)
      scaled = std::make_unique<ScaledScratch<T>>(mixture, mixture.offset);
  }

  // Calls use(scaled scratch) with the one that there is, if any.
  template <class Use>
  void with_scales(Use use) {
    if (scaled) use(*scaled);
    if (scaled_exact) use(*scaled_exact);
  }
};

// The joint values of a group of samples, from rows (kSize, width) that lack their constants, less the largest of each.
template <class T>
void set_exact_rows(const double* rows, const Packed<T>& mixture, Scratch<T>& scratch) {
  const std::size_t width = mixture.width();
  for (std::size_t i = 0; i < SampleGroup<T>::kSize; ++i) {
    const double* row = rows + i * width;
    T* relative = scratch.joint.data() + i * width;
    simd::Vec<double> largest = simd::Vec<double>{} - std::numeric_limits<double>::infinity();
    for (std::size_t k = 0; k < width; k += kLanes<double>)
      largest = simd::maximum<double>(largest, load(row + k) + load(mixture.exact_constant.data() + k));
    const double most = simd::reduce<double>(largest, [](double a, double b) { return a > b ? a : b; });
    for (std::size_t k = 0; k < width; ++k) relative[k] = static_cast<T>(row[k] + mixture.exact_constant[k] - most);
    scratch.group.set_offset(i, mixture.offset + most);
  }
  scratch.group.set_rows(scratch.joint.data(), scratch.zero.data());
}

// The joint values of a group of `count` samples, the first of which is `begin` in the block, of components with
// scales.
template <class T>
void set_scaled(std::size_t begin, const ScaledScratch<T>& scaled, const Packed<T>& mixture, SampleGroup<T>& group) {
  group.set_offset(mixture.offset);
  for (std::size_t k = 0; k < mixture.width(); ++k)
    group.set(k, k < mixture.n_components ? load(scaled.block.joint(k) + begin)
                                          : Vec<T>{} - std::numeric_limits<T>::infinity());
}

// The same where they are known in float64, less the largest of each sample.
inline void set_scaled(std::size_t begin, const ScaledScratch<double>& scaled, const Packed<float>& mixture,
                       SampleGroup<float>& group) {
  constexpr std::size_t kSize = SampleGroup<float>::kSize;
  double largest[kSize];
  std::fill(largest, largest + kSize, -std::numeric_limits<double>::infinity());
  for (std::size_t k = 0; k < mixture.n_components; ++k)
    for (std::size_t i = 0; i < kSize; ++i) largest[i] = std::max(largest[i], scaled.block.joint(begin + i, k));
  for (std::size_t i = 0; i < kSize; ++i) {
    if (!(largest[i] > std::numeric_limits<double>::lowest())) largest[i] = 0;  // no density
    group.set_offset(i, mixture.offset + largest[i]);
  }
  for (std::size_t k = 0; k < mixture.width(); ++k) {
    Vec<float> joint = Vec<float>{} - std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < kSize && k < mixture.n_components; ++i)
      joint[i] = static_cast<float>(scaled.block.joint(begin + i, k) - largest[i]);
    group.set(k, joint);
  }
}

// Calls use(group, begin, count) for the samples begin, …, begin + count − 1 of each group in [first, end).
template <class T, class Use>
void for_groups(const T* coefficients, std::size_t first, std::size_t end, const Packed<T>& mixture,
                Scratch<T>& scratch, Use use) {
  constexpr std::size_t kSize = SampleGroup<T>::kSize;
  const bool wide = mixture.is_wide();
  const T* P = coefficients + first * mixture.D;
  if (wide)
    distances(P, end - first, mixture, scratch.exact.data());
  else
    distances(P, end - first, mixture, scratch.joint.data());
  const auto mix = [&](auto& scaled, const auto* rows) {
    scaled.transpose_rows(rows, mixture.width(), end - first);
    scaled.block.mix(scaled.distances.data(), kBlock, end - first);
  };
  if (scratch.scaled) mix(*scratch.scaled, scratch.joint.data());
  if (scratch.scaled_exact) mix(*scratch.scaled_exact, scratch.exact.data());
  scratch.group.set_offset(mixture.offset);
  for (std::size_t begin = first; begin < end; begin += kSize) {
    const std::size_t count = std::min(kSize, end - begin);
    const std::size_t place = (begin - first) * mixture.width();
    if (mixture.scales)
      scratch.with_scales([&](const auto& scaled) { set_scaled(begin - first, scaled, mixture, scratch.group); });
    else if (wide)
      set_exact_rows(scratch.exact.data() + place, mixture, scratch);
    else
      scratch.group.set_rows(scratch.joint.data() + place, mixture.constant.data());
    scratch.group.exponentiate(count);
    use(scratch.group, begin, count);
  }
}

// Calls work(scratch, first, end) for one block of samples after the other, in parallel.
template <class T, class Work>
void for_blocks(std::size_t n, const Packed<T>& mixture, int n_threads, Work work) {
  parallel::chunks(
      n, parallel::even_chunk(n, kBlock), n_threads, [&] { return Scratch<T>(mixture); },
      [&](Scratch<T>& scratch, std::size_t begin, std::size_t end) {
        for (std::size_t first = begin; first < end; first += kBlock)
          work(scratch, first, std::min(first + kBlock, end));
      });
}

}  // namespace

void Statistics::clear() {
  std::fill(responsibility.begin(), responsibility.end(), 0.0);
  std::fill(power.begin(), power.end(), 0.0);
  std::fill(shares.begin(), shares.end(), 0.0);
  log_likelihood = 0;
}

Statistics& Statistics::operator+=(const Statistics& other) {
  std::transform(responsibility.begin(), responsibility.end(), other.responsibility.begin(), responsibility.begin(),
                 std::plus<>());
  std::transform(power.begin(), power.end(), other.power.begin(), power.begin(), std::plus<>());
  std::transform(shares.begin(), shares.end(), other.shares.begin(), shares.begin(), std::plus<>());
  log_likelihood += other.log_likelihood;
  return *this;
}

template <class T>
Statistics expect(const T* coefficients, std::size_t n, const double* sample_weight, const Mixture& mixture,
                  const Assignment& assignment, int n_threads) {
  const std::size_t K = mixture.n_components;
  const std::size_t D = mixture.n_coefficients;
  const Packed<T> packed(mixture);
  struct Local {
    Scratch<T> scratch;
    Kept<T> kept;
    PowerSums<T> sums;
    Statistics statistics;
  };
  checked_product({K, D, sizeof(double)});
  const std::size_t J = mixture.scales.n_sums();
  Statistics total(K, D, J);
  parallel::ordered_chunks(
      n, parallel::even_chunk(n, kBlock), n_threads,
      [&] { return Local{Scratch<T>(packed), Kept<T>(K, kBlock), PowerSums<T>(K, D), Statistics(K, D, J)}; },
      [&](Local& local, std::size_t begin, std::size_t end) {
        Statistics& statistics = local.statistics;
        statistics.clear();
        std::size_t summed = 0;
        for (std::size_t first = begin; first < end; first += kBlock) {
          const std::size_t block_end = std::min(first + kBlock, end);
          local.kept.clear();
          for_groups(coefficients, first, block_end, packed, local.scratch,
                     [&](const SampleGroup<T>& group, std::size_t sample, std::size_t count) {
                       group.require_density(sample);
                       statistics.log_likelihood += local.kept.add(
                           group, static_cast<std::uint32_t>(sample - first), count,
                           sample_weight != nullptr ? sample_weight + sample : nullptr, assignment, sample);
                     });
          for (std::size_t k = 0; k < K; ++k) {
            double share = 0;
            for (std::size_t j = 0; j < local.kept.count(k); ++j)
              share += static_cast<double>(local.kept.responsibilities(k)[j]);
            statistics.responsibility[k] += share;
            local.scratch.with_scales([&](auto& scaled) {
              scaled.block.weigh(k, scaled.strip(k), local.kept.samples(k), local.kept.count(k),
                                 local.kept.responsibilities(k));
            });
            local.sums.add(coefficients + first * D, local.kept, k);
          }
          summed += block_end - first;
          if (summed >= kFlush || block_end == end) {
            local.sums.flush(statistics.power);
            local.scratch.with_scales([&](auto& scaled) { scaled.block.flush(statistics.shares.data()); });
            summed = 0;
          }
        }
      },
      [&](Local& local) { total += local.statistics; });
  return total;
}

template <class T>
void log_density(const T* coefficients, std::size_t n, const Mixture& mixture, int n_threads, T* out) {
  const Packed<T> packed(mixture);
  const std::size_t K = mixture.n_components;
  const Profile<double> profile = profile_of<double>(mixture.scales, K, mixture.constants, 0, 1);
  const auto finish = [&](const auto* joint, std::size_t first, std::size_t end) {
    for (std::size_t i = 0; i < end - first; ++i)
      for (std::size_t k = 0; k < K; ++k)
        out[(first + i) * K + k] =
            static_cast<T>(mixture.constants[k] + static_cast<double>(joint[i * packed.width() + k]));
  };
  const auto mix = [&](const auto* distances, std::size_t first, std::size_t end) {
    constexpr std::size_t kSize = kLanes<double>;
    std::visit(
        [&](const auto& of_distance) {
          for (std::size_t i = first; i < end; i += kSize)
            for (std::size_t k = 0; k < K; ++k) {
              const std::size_t count = std::min(kSize, end - i);
              Vec<double> distance{};
              for (std::size_t r = 0; r < count; ++r)
                distance[r] = static_cast<double>(distances[(i - first + r) * packed.width() + k]);
              const Vec<double> joint = of_distance.joint(k, distance);
              for (std::size_t r = 0; r < count; ++r) out[(i + r) * K + k] = static_cast<T>(joint[r]);
            }
        },
        profile);
  };
  for_blocks<T>(n, packed, n_threads, [&](Scratch<T>& scratch, std::size_t first, std::size_t end) {
    const auto fill = [&](auto* joint) {
      distances(coefficients + first * packed.D, end - first, packed, joint);
      mixture.scales ? mix(joint, first, end) : finish(joint, first, end);
    };
    packed.is_wide() ? fill(scratch.exact.data()) : fill(scratch.joint.data());
  });
}

template <class T>
void posterior(const T* coefficients, std::size_t n, const Mixture& mixture, int n_threads, T* responsibilities,
               T* log_probability) {
  const Packed<T> packed(mixture);
  const std::size_t K = mixture.n_components;
  for_blocks<T>(n, packed, n_threads, [&](Scratch<T>& scratch, std::size_t first, std::size_t end) {
    for_groups(coefficients, first, end, packed, scratch,
               [&](const SampleGroup<T>& group, std::size_t sample, std::size_t count) {
                 group.write(count, K, responsibilities + sample * K, log_probability + sample);
               });
  });
}

#define CONVGMM_INSTANTIATE(T)                                                                                 \
  template Statistics expect<T>(const T*, std::size_t, const double*, const Mixture&, const Assignment&, int); \
  template void log_density<T>(const T*, std::size_t, const Mixture&, int, T*);                                \
  template void posterior<T>(const T*, std::size_t, const Mixture&, int, T*, T*);
CONVGMM_INSTANTIATE(float)
CONVGMM_INSTANTIATE(double)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::spectral

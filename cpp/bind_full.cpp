#include <pybind11/stl.h>

#include "bind.hpp"
#include "full.hpp"
#include "sizes.hpp"

namespace convgmm {
namespace {

template <class T>
full::Mixture<T> checked_mixture(const Array<T>& samples, const Array<double>& means, const Array<T>& whiteners,
                                 const Array<double>& constants, const OptionalScales& scales) {
  require(samples.ndim() == 2 && extent(samples, 1) > 0, "samples: expected (n, D) with D > 0");
  const std::size_t D = extent(samples, 1);
  require(means.ndim() == 2 && extent(means, 0) > 0 && extent(means, 1) == D, "means: expected (K, D) with K > 0");
  const std::size_t K = extent(means, 0);
  require(whiteners.ndim() == 2 && extent(whiteners, 0) == K && extent(whiteners, 1) == full::packed_size(D),
          "whiteners: expected those of as many components and features");
  return {K,
          D,
          means.data(),
          checked_constants(constants, K),
          whiteners.data(),
          checked_scales(scales, K, static_cast<double>(D))};
}

// numpy's zeros are new pages, in large ones, that cost nothing until they are written.
template <class T>
Array<T> zeros(const py::tuple& shape) {
  return py::module_::import("numpy").attr("zeros")(shape, py::dtype::of<T>());
}

// The arrays that statistics are summed in.
struct Sums {
  Array<double> responsibility, first, second;

  Sums(std::size_t K, std::size_t D)
      : responsibility(zeros<double>(py::make_tuple(K))),
        first(zeros<double>(py::make_tuple(K, D))),
        second(zeros<double>(py::make_tuple(K, D, D))) {}

  full::Statistics statistics() {
    return {responsibility.mutable_data(), first.mutable_data(), second.mutable_data(), 0, nullptr};
  }
};

template <class T>
py::tuple factorize(const Array<double>& covariances, int n_threads) {
  require(covariances.ndim() == 3 && extent(covariances, 1) == extent(covariances, 2) && extent(covariances, 1) > 0,
          "covariances: expected (K, D, D) with D > 0");
  const std::size_t K = extent(covariances, 0);
  const std::size_t D = extent(covariances, 1);
  Array<T> whiteners({K, full::packed_size(D)});
  Array<double> log_diagonal(signed_size(K));
  Array<double> inverse_diagonal = zeros<double>(py::make_tuple(K, D));
  const double* in = covariances.data();
  T* out = whiteners.mutable_data();
  double* logs = log_diagonal.mutable_data();
  double* diagonal = inverse_diagonal.mutable_data();
  const std::ptrdiff_t failed = without_gil([&] { return full::factorize(in, K, D, n_threads, out, logs, diagonal); });
  return py::make_tuple(whiteners, log_diagonal, inverse_diagonal, failed);
}

Array<double> transpose_whiteners(const Array<double>& whiteners, std::size_t D, int n_threads) {
  require(D > 0 && whiteners.ndim() == 2 && extent(whiteners, 1) == full::packed_size(D),
          "whiteners: expected those of as many features");
  const std::size_t K = extent(whiteners, 0);
  Array<double> upper = zeros<double>(py::make_tuple(K, D, D));
  const double* in = whiteners.data();
  double* out = upper.mutable_data();
  without_gil([&] { full::transpose_whiteners(in, K, D, n_threads, out); });
  return upper;
}

template <class T>
py::tuple expect(const Array<T>& samples, const Array<double>& means, const Array<T>& whiteners,
                 const Array<double>& constants, const OptionalArray& sample_weight, Array<std::int32_t> winners,
                 const std::vector<std::size_t>& stages, int n_threads, const std::string& assignment,
                 std::uint64_t seed, std::uint64_t iteration, std::uint64_t first_number,
                 const OptionalScales& scales) {
  const full::Mixture<T> mixture = checked_mixture(samples, means, whiteners, constants, scales);
  const std::size_t n = extent(samples, 0);
  require(!sample_weight || (sample_weight->ndim() == 1 && extent(*sample_weight, 0) == n),
          "sample_weight: expected (n,)");
  require(winners.ndim() == 1 && extent(winners, 0) == n, "winners: expected (n,)");
  for (std::size_t s = 0; s < stages.size(); ++s)
    require(stages[s] > (s > 0 ? stages[s - 1] : 0) && (s + 1 < stages.size() || stages[s] == mixture.n_features),
            "stages: expected ascending numbers of rows that end with D");
  std::int32_t* winner = winners.mutable_data();
  for (std::size_t i = 0; i < n; ++i)
    require(winner[i] < static_cast<std::int32_t>(mixture.n_components), "winners: expected values below K");
  const T* data = samples.data();
  const double* weight = sample_weight ? sample_weight->data() : nullptr;
  const Assignment how = checked_assignment(assignment, seed, iteration, first_number);
  full::Walk walk;
  Sums sums(mixture.n_components, mixture.n_features);
  full::Statistics statistics = sums.statistics();
  const std::size_t n_sums = mixture.scales.n_sums();
  Array<double> shares = zeros<double>(py::make_tuple(mixture.n_components, n_sums));
  statistics.shares = shares.mutable_data();
  without_gil([&] { full::expect(data, n, weight, mixture, how, stages, n_threads, winner, walk, statistics); });
  const py::tuple told =
      py::make_tuple(sums.responsibility, sums.first, sums.second, statistics.log_likelihood, walk.rows, walk.pairs);
  if (!scales) return told;
  return told + py::make_tuple(shares);
}

template <class T>
py::tuple moments(const Array<T>& samples, const Array<std::int64_t>& offsets, const Array<std::int64_t>& indices,
                  const Array<double>& responsibilities, const Array<double>& means, int n_threads) {
  require(samples.ndim() == 2 && means.ndim() == 2 && extent(means, 1) == extent(samples, 1) && extent(means, 0) > 0,
          "expected samples (n, D) and means (K, D)");
  const std::size_t K = extent(means, 0);
  const std::size_t D = extent(means, 1);
  const auto total = static_cast<std::int64_t>(indices.size());
  require(offsets.ndim() == 1 && extent(offsets, 0) == K + 1 && offsets.at(0) == 0 && offsets.at(K) == total,
          "offsets: expected (K + 1,) from 0 to the number of indices");
  for (std::size_t k = 0; k < K; ++k) require(offsets.at(k) <= offsets.at(k + 1), "offsets: expected ascending values");
  require(responsibilities.size() == indices.size(), "expected as many responsibilities as indices");
  const std::int64_t* index = indices.data();
  for (std::int64_t j = 0; j < total; ++j)
    require(index[j] >= 0 && index[j] < static_cast<std::int64_t>(extent(samples, 0)), "indices: beyond the samples");
  const T* data = samples.data();
  const std::int64_t* offset = offsets.data();
  const double* gamma = responsibilities.data();
  const double* mean = means.data();
  Sums sums(K, D);
  full::Statistics statistics = sums.statistics();
  without_gil([&] { full::moments(data, D, offset, index, gamma, K, mean, n_threads, statistics); });
  return py::make_tuple(sums.responsibility, sums.first, sums.second, statistics.log_likelihood);
}

template <class T>
Array<T> log_density(const Array<T>& samples, const Array<double>& means, const Array<T>& whiteners,
                     const Array<double>& constants, int n_threads, const OptionalScales& scales) {
  const full::Mixture<T> mixture = checked_mixture(samples, means, whiteners, constants, scales);
  const std::size_t n = extent(samples, 0);
  Array<T> out({n, mixture.n_components});
  const T* data = samples.data();
  T* result = out.mutable_data();
  without_gil([&] { full::log_density(data, n, mixture, n_threads, result); });
  return out;
}

template <class T>
py::tuple posterior(const Array<T>& samples, const Array<double>& means, const Array<T>& whiteners,
                    const Array<double>& constants, int n_threads, const OptionalScales& scales) {
  const full::Mixture<T> mixture = checked_mixture(samples, means, whiteners, constants, scales);
  const std::size_t n = extent(samples, 0);
  Array<T> responsibilities({n, mixture.n_components});
  Array<T> log_probability(signed_size(n));
  const T* data = samples.data();
  T* gamma = responsibilities.mutable_data();
  T* log_p = log_probability.mutable_data();
  without_gil([&] { full::posterior(data, n, mixture, n_threads, gamma, log_p); });
  return py::make_tuple(responsibilities, log_probability);
}

template <class T>
void bind_for(py::module_& module, const char* factorize_name) {
  using namespace py::literals;
  const auto samples = py::arg("samples").noconvert();
  const auto whiteners = py::arg("whiteners").noconvert();
  module.def(factorize_name, &factorize<T>, "covariances"_a, "n_threads"_a);
  module.def("full_expect", &expect<T>, samples, "means"_a, whiteners, "constants"_a, "sample_weight"_a,
             py::arg("winners").noconvert(), "stages"_a, "n_threads"_a, "assignment"_a = "soft", "seed"_a = 0,
             "iteration"_a = 0, "first_number"_a = 0, "scales"_a = py::none());
  module.def("full_moments", &moments<T>, samples, "offsets"_a, "indices"_a, "responsibilities"_a, "means"_a,
             "n_threads"_a);
  module.def("full_log_density", &log_density<T>, samples, "means"_a, whiteners, "constants"_a, "n_threads"_a,
             "scales"_a = py::none());
  module.def("full_posterior", &posterior<T>, samples, "means"_a, whiteners, "constants"_a, "n_threads"_a,
             "scales"_a = py::none());
}

}  // namespace

void bind_full(py::module_& module) {
  bind_for<float>(module, "full_factorize_float32");
  bind_for<double>(module, "full_factorize_float64");
  module.def("full_transpose_whiteners", &transpose_whiteners, py::arg("whiteners").noconvert(), py::arg("n_features"),
             py::arg("n_threads"));
}

}  // namespace convgmm

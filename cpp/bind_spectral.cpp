#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bind.hpp"
#include "spectral.hpp"

namespace convgmm {
namespace {

template <class T>
spectral::Mixture checked_mixture(const Array<T>& coefficients, const Array<double>& multiplicities,
                                  const Array<double>& spectra, const Array<double>& constants,
                                  const OptionalScales& scales) {
  require(coefficients.ndim() == 2 && extent(coefficients, 1) > 0, "coefficients: expected (n, D) with D > 0");
  require(spectra.ndim() == 2 && extent(spectra, 0) > 0 && extent(spectra, 1) == extent(coefficients, 1),
          "spectra: expected (K, D) with K > 0");
  require(multiplicities.ndim() == 1 && extent(multiplicities, 0) == extent(coefficients, 1),
          "multiplicities: expected (D,)");
  const auto all = [](const Array<double>& array, auto holds) {
    return std::all_of(array.data(), array.data() + array.size(), holds);
  };
  require(all(multiplicities, [](double m) { return std::isfinite(m) && m >= 0; }),
          "multiplicities: expected finite values that are not negative");
  require(all(spectra, [](double variance) { return std::isfinite(variance) && variance > 0; }),
          "spectra: expected finite positive values");
  const double dimension = std::accumulate(multiplicities.data(), multiplicities.data() + multiplicities.size(), 0.0);
  return {extent(spectra, 0),
          extent(spectra, 1),
          multiplicities.data(),
          spectra.data(),
          checked_constants(constants, extent(spectra, 0)),
          checked_scales(scales, extent(spectra, 0), dimension)};
}

template <class T>
py::tuple expect(const Array<T>& coefficients, const Array<double>& multiplicities, const Array<double>& spectra,
                 const Array<double>& constants, const OptionalArray& sample_weight, int n_threads,
                 const std::string& assignment, std::uint64_t seed, std::uint64_t iteration, std::uint64_t first_number,
                 const OptionalScales& scales) {
  const spectral::Mixture mixture = checked_mixture(coefficients, multiplicities, spectra, constants, scales);
  const std::size_t n = extent(coefficients, 0);
  require(!sample_weight || (sample_weight->ndim() == 1 && extent(*sample_weight, 0) == n),
          "sample_weight: expected (n,)");
  const Assignment how = checked_assignment(assignment, seed, iteration, first_number);
  const T* data = coefficients.data();
  const double* weight = sample_weight ? sample_weight->data() : nullptr;
  const spectral::Statistics statistics =
      without_gil([&] { return spectral::expect(data, n, weight, mixture, how, n_threads); });
  const Array<double> responsibility(signed_size(mixture.n_components), statistics.responsibility.data());
  const Array<double> power({mixture.n_components, mixture.n_coefficients}, statistics.power.data());
  if (!scales) return py::make_tuple(responsibility, power, statistics.log_likelihood);
  return py::make_tuple(responsibility, power, statistics.log_likelihood,
                        Array<double>({mixture.n_components, mixture.scales.n_sums()}, statistics.shares.data()));
}

template <class T>
Array<T> log_density(const Array<T>& coefficients, const Array<double>& multiplicities, const Array<double>& spectra,
                     const Array<double>& constants, int n_threads, const OptionalScales& scales) {
  const spectral::Mixture mixture = checked_mixture(coefficients, multiplicities, spectra, constants, scales);
  const std::size_t n = extent(coefficients, 0);
  Array<T> out({n, mixture.n_components});
  const T* data = coefficients.data();
  T* result = out.mutable_data();
  without_gil([&] { spectral::log_density(data, n, mixture, n_threads, result); });
  return out;
}

template <class T>
py::tuple posterior(const Array<T>& coefficients, const Array<double>& multiplicities, const Array<double>& spectra,
                    const Array<double>& constants, int n_threads, const OptionalScales& scales) {
  const spectral::Mixture mixture = checked_mixture(coefficients, multiplicities, spectra, constants, scales);
  const std::size_t n = extent(coefficients, 0);
  Array<T> responsibilities({n, mixture.n_components});
  Array<T> log_probability(signed_size(n));
  const T* data = coefficients.data();
  T* gamma = responsibilities.mutable_data();
  T* log_p = log_probability.mutable_data();
  without_gil([&] { spectral::posterior(data, n, mixture, n_threads, gamma, log_p); });
  return py::make_tuple(responsibilities, log_probability);
}

template <class T>
void bind_for(py::module_& module) {
  using namespace py::literals;
  const auto coefficients = py::arg("coefficients").noconvert();
  module.def("spectral_expect", &expect<T>, coefficients, "multiplicities"_a, "spectra"_a, "constants"_a,
             "sample_weight"_a, "n_threads"_a, "assignment"_a = "soft", "seed"_a = 0, "iteration"_a = 0,
             "first_number"_a = 0, "scales"_a = py::none());
  module.def("spectral_log_density", &log_density<T>, coefficients, "multiplicities"_a, "spectra"_a, "constants"_a,
             "n_threads"_a, "scales"_a = py::none());
  module.def("spectral_posterior", &posterior<T>, coefficients, "multiplicities"_a, "spectra"_a, "constants"_a,
             "n_threads"_a, "scales"_a = py::none());
}

}  // namespace

void bind_spectral(py::module_& module) {
  bind_for<float>(module);
  bind_for<double>(module);
}

}  // namespace convgmm

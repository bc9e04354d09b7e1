#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>

#include "bind.hpp"
#include "torus.hpp"

namespace convgmm {
namespace {

torus::Window checked_window(const Array<std::int32_t>& lag, const Array<double>& cosines,
                             const Array<double>& multiplicities, const Array<double>& axes, bool remove_mean) {
  require(lag.ndim() == 2 && extent(lag, 0) == extent(lag, 1) && extent(lag, 0) > 0, "lag: expected (n, n) with n > 0");
  require(cosines.ndim() == 2 && extent(cosines, 1) > 0, "cosines: expected (L, F) with F > 0");
  require(multiplicities.ndim() == 1 && extent(multiplicities, 0) == extent(cosines, 1),
          "multiplicities: expected (F,)");
  require(axes.ndim() == 2 && extent(axes, 0) == extent(lag, 0) && extent(axes, 1) > 0,
          "axes: expected (n, E) with E > 0");
  const auto n_lags = static_cast<std::int32_t>(extent(cosines, 0));
  require(std::all_of(lag.data(), lag.data() + lag.size(), [&](std::int32_t l) { return l >= 0 && l < n_lags; }),
          "lag: expected numbers below L");
  return {extent(lag, 0), extent(cosines, 0), extent(cosines, 1),    extent(axes, 1), remove_mean,
          lag.data(),     cosines.data(),     multiplicities.data(), axes.data()};
}

void check_spectra(const Array<double>& spectra, const torus::Window& window) {
  require(spectra.ndim() == 2 && extent(spectra, 0) > 0 && extent(spectra, 1) == window.n_frequencies,
          "spectra: expected (K, F) with K > 0");
  require(std::all_of(spectra.data(), spectra.data() + spectra.size(),
                      [](double value) { return std::isfinite(value) && value > 0; }),
          "spectra: expected finite positive values");
}

Array<double> covariances(const Array<double>& spectra, const Array<std::int32_t>& lag, const Array<double>& cosines,
                          const Array<double>& multiplicities, const Array<double>& axes, bool remove_mean,
                          int n_threads) {
  const torus::Window window = checked_window(lag, cosines, multiplicities, axes, remove_mean);
  check_spectra(spectra, window);
  const std::size_t K = extent(spectra, 0);
  Array<double> out({K, window.n_axes, window.n_axes});
  const double* in = spectra.data();
  double* result = out.mutable_data();
  without_gil([&] { torus::covariances(window, in, K, n_threads, result); });
  return out;
}

Array<double> maximize(const Array<double>& scatter, const Array<double>& spectra, const Array<std::int32_t>& lag,
                       const Array<double>& cosines, const Array<double>& multiplicities, const Array<double>& axes,
                       bool remove_mean, double floor, int n_steps, int n_threads) {
  const torus::Window window = checked_window(lag, cosines, multiplicities, axes, remove_mean);
  check_spectra(spectra, window);
  const std::size_t K = extent(spectra, 0);
  require(scatter.ndim() == 3 && extent(scatter, 0) == K && extent(scatter, 1) == window.n_axes &&
              extent(scatter, 2) == window.n_axes,
          "scatter: expected (K, E, E)");
  require(floor > 0, "floor: expected a positive value");
  Array<double> out({K, window.n_frequencies});
  std::copy_n(spectra.data(), spectra.size(), out.mutable_data());
  const double* in = scatter.data();
  double* result = out.mutable_data();
  without_gil([&] { torus::maximize(window, in, K, floor, n_steps, n_threads, result); });
  return out;
}

}  // namespace

void bind_torus(py::module_& module) {
  using namespace py::literals;
  module.def("torus_covariances", &covariances, "spectra"_a, py::arg("lag").noconvert(), "cosines"_a,
             "multiplicities"_a, "axes"_a, "remove_mean"_a, "n_threads"_a);
  module.def("torus_maximize", &maximize, "scatter"_a, "spectra"_a, py::arg("lag").noconvert(), "cosines"_a,
             "multiplicities"_a, "axes"_a, "remove_mean"_a, "floor"_a, "n_steps"_a, "n_threads"_a);
}

}  // namespace convgmm

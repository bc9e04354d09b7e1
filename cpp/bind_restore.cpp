#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bind.hpp"
#include "restore.hpp"

namespace convgmm {
namespace {

restore::Diagonal checked_mixture(const Array<double>& axes, const Array<std::int64_t>& group,
                                  const Array<double>& variances, const Array<double>& log_weights) {
  require(axes.ndim() == 2 && extent(axes, 0) > 0 && extent(axes, 1) > 0, "axes: expected (n, E)");
  require(variances.ndim() == 2 && extent(variances, 0) > 0 && extent(variances, 1) > 0, "variances: expected (K, D)");
  require(group.ndim() == 1 && extent(group, 0) == extent(axes, 1), "group: expected (E,)");
  require(std::all_of(group.data(), group.data() + group.size(),
                      [&](std::int64_t g) { return g >= 0 && g < variances.shape(1); }),
          "group: expected values below D");
  require(std::all_of(variances.data(), variances.data() + variances.size(),
                      [](double v) { return std::isfinite(v) && v >= 0; }),
          "variances: expected finite values that are not negative");
  return {
      extent(variances, 0), extent(axes, 0), extent(axes, 1),  extent(variances, 1),
      axes.data(),          group.data(),    variances.data(), checked_constants(log_weights, extent(variances, 0))};
}

restore::Rotated checked_mixture(const Array<double>& centre, const Array<double>& axes, const Array<double>& means,
                                 const Array<double>& covariances, const Array<double>& log_weights) {
  require(axes.ndim() == 2 && extent(axes, 0) > 0 && extent(axes, 1) > 0, "axes: expected (n, E)");
  const std::size_t n = extent(axes, 0);
  const std::size_t E = extent(axes, 1);
  require(centre.ndim() == 1 && extent(centre, 0) == n, "centre: expected (n,)");
  require(means.ndim() == 2 && extent(means, 0) > 0 && extent(means, 1) == E, "means: expected (K, E)");
  const std::size_t K = extent(means, 0);
  require(covariances.ndim() == 3 && extent(covariances, 0) == K && extent(covariances, 1) == E &&
              extent(covariances, 2) == E,
          "covariances: expected (K, E, E)");
  return {K, n, E, centre.data(), axes.data(), means.data(), covariances.data(), checked_constants(log_weights, K)};
}

restore::Grid grid_of(const py::array& image, const restore::Shape& patch, std::size_t stride, std::uint64_t seed) {
  restore::Shape shape;
  for (py::ssize_t axis = 0; axis < image.ndim(); ++axis) shape.push_back(extent(image, axis));
  restore::Grid grid{shape, patch, stride, seed};
  restore::check(grid);
  return grid;
}

template <class T, class... Parts>
void add_estimates(const Array<T>& noisy, Array<T> sums, Array<T> counts, const restore::Shape& patch,
                   std::size_t stride, std::uint64_t seed, std::size_t first, std::size_t last, double noise_variance,
                   bool remove_mean, bool average, double weighting, int n_threads, const Parts&... parts) {
  const auto mixture = checked_mixture(parts...);
  const restore::Grid grid = grid_of(noisy, patch, stride, seed);
  std::size_t values = 1;
  for (const std::size_t size : patch) values *= size;
  require(values == mixture.n_values, "patch: expected as many values as the mixture has");
  for (const Array<T>* out : {&sums, &counts})
    require(out->ndim() == noisy.ndim() && std::equal(out->shape(), out->shape() + out->ndim(), noisy.shape()),
            "sums and counts: expected the image's shape");
  require(std::isfinite(noise_variance) && noise_variance > 0, "noise_variance: expected a positive value");
  require(first <= last && last <= restore::tile_count(grid), "tiles: beyond the last");
  require(std::isfinite(weighting) && weighting >= 0, "weighting: expected a value that is not negative");
  const restore::Options options{remove_mean, average, weighting, n_threads};
  const T* in = noisy.data();
  T* sum = sums.mutable_data();
  T* count = counts.mutable_data();
  without_gil([&] { restore::add_estimates(in, grid, mixture, noise_variance, options, first, last, sum, count); });
}

template <class T, class... Parts>
py::tuple estimate(const Array<T>& noisy, double noise_variance, bool remove_mean, bool average, int n_threads,
                   const Parts&... parts) {
  const auto mixture = checked_mixture(parts...);
  require(noisy.ndim() == 2 && extent(noisy, 1) == mixture.n_values, "patches: expected (n, values of a patch)");
  require(std::isfinite(noise_variance) && noise_variance > 0, "noise_variance: expected a positive value");
  const restore::Options options{remove_mean, average, 0, n_threads};
  const std::size_t n = extent(noisy, 0);
  Array<T> out({n, mixture.n_values});
  const T* in = noisy.data();
  T* result = out.mutable_data();
  Array<std::int32_t> components(signed_size(n));
  std::int32_t* component = components.mutable_data();
  without_gil([&] { restore::estimate(in, n, mixture, noise_variance, options, result, component); });
  return py::make_tuple(out, components);
}

Array<double> adapt(const Array<double>& covariances, const Array<double>& moments, const Array<double>& counts,
                    double noise_variance, double prior_count, int n_threads) {
  require(covariances.ndim() == 3 && extent(covariances, 1) == extent(covariances, 2) && covariances.size() > 0,
          "covariances: expected (K, D, D)");
  const std::size_t K = extent(covariances, 0);
  const std::size_t D = extent(covariances, 1);
  require(moments.ndim() == 3 && std::equal(moments.shape(), moments.shape() + 3, covariances.shape()),
          "moments: expected the covariances' shape");
  require(counts.ndim() == 1 && extent(counts, 0) == K, "counts: expected (K,)");
  require(std::isfinite(noise_variance) && noise_variance > 0, "noise_variance: expected a positive value");
  require(std::isfinite(prior_count) && prior_count > 0, "prior_count: expected a positive value");
  Array<double> adapted({K, D, D});
  const double* in = covariances.data();
  const double* sum = moments.data();
  const double* count = counts.data();
  double* out = adapted.mutable_data();
  without_gil([&] { restore::adapt(in, sum, count, K, D, noise_variance, prior_count, n_threads, out); });
  return adapted;
}

template <class T, class... Parts, class... Names>
void bind_for(py::module_& module, const char* add_name, const char* estimate_name, const Names&... names) {
  using namespace py::literals;
  const auto in_place = [](const char* name) { return py::arg(name).noconvert(); };
  module.def(add_name, &add_estimates<T, Parts...>, in_place("noisy"), in_place("sums"), in_place("counts"), "patch"_a,
             "stride"_a, "seed"_a, "first"_a, "last"_a, "noise_variance"_a, "remove_mean"_a, "average"_a, "weighting"_a,
             "n_threads"_a, names...);
  module.def(estimate_name, &estimate<T, Parts...>, in_place("noisy"), "noise_variance"_a, "remove_mean"_a, "average"_a,
             "n_threads"_a, names...);
}

template <class T>
void bind_for(py::module_& module) {
  using namespace py::literals;
  using Doubles = Array<double>;
  bind_for<T, Doubles, Array<std::int64_t>, Doubles, Doubles>(module, "restore_add_diagonal", "restore_diagonal",
                                                              "axes"_a, "group"_a, "variances"_a, "log_weights"_a);
  bind_for<T, Doubles, Doubles, Doubles, Doubles, Doubles>(module, "restore_add_rotated", "restore_rotated", "centre"_a,
                                                           "axes"_a, "means"_a, "covariances"_a, "log_weights"_a);
}

}  // namespace

void bind_restore(py::module_& module) {
  bind_for<float>(module);
  bind_for<double>(module);
  using namespace py::literals;
  module.def("restore_adapt", &adapt, "covariances"_a, "moments"_a, "counts"_a, "noise_variance"_a, "prior_count"_a,
             "n_threads"_a);
  module.def("restore_tile_count", [](const restore::Shape& image, const restore::Shape& patch, std::size_t stride) {
    const restore::Grid grid{image, patch, stride, 0};
    restore::check(grid);
    return restore::tile_count(grid);
  });
}

}  // namespace convgmm

#include "axes.hpp"
#include "bind.hpp"

namespace convgmm {
namespace {

py::tuple principal_axes(const Array<double>& symmetric) {
  require(symmetric.ndim() == 2 && extent(symmetric, 0) == extent(symmetric, 1) && extent(symmetric, 0) > 0,
          "symmetric: expected (D, D) with D > 0");
  const std::size_t D = extent(symmetric, 0);
  Array<double> variances(D);
  Array<double> axes({D, D});
  const double* in = symmetric.data();
  double* values = variances.mutable_data();
  double* vectors = axes.mutable_data();
  without_gil([&] { axes::principal(in, D, values, vectors); });
  return py::make_tuple(variances, axes);
}

template <class T>
Array<T> project(const Array<T>& samples, const Array<double>& centre, const Array<double>& axes, int n_threads) {
  require(samples.ndim() == 2 && extent(samples, 1) > 0, "samples: expected (n, D) with D > 0");
  const std::size_t D = extent(samples, 1);
  require(centre.ndim() == 1 && extent(centre, 0) == D, "centre: expected (D,)");
  require(axes.ndim() == 2 && extent(axes, 0) == D && extent(axes, 1) > 0, "axes: expected (D, E) with E > 0");
  const std::size_t n = extent(samples, 0);
  const std::size_t E = extent(axes, 1);
  Array<T> out({n, E});
  const T* in = samples.data();
  const double* origin = centre.data();
  const double* directions = axes.data();
  T* result = out.mutable_data();
  without_gil([&] { axes::project(in, n, origin, directions, D, E, n_threads, result); });
  return out;
}

}  // namespace

void bind_axes(py::module_& module) {
  using namespace py::literals;
  module.def("principal_axes", &principal_axes, "symmetric"_a);
  module.def("project", &project<float>, py::arg("samples").noconvert(), "centre"_a, "axes"_a, "n_threads"_a);
  module.def("project", &project<double>, py::arg("samples").noconvert(), "centre"_a, "axes"_a, "n_threads"_a);
}

}  // namespace convgmm

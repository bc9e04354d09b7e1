#include <pybind11/stl.h>

#include <cstdint>
#include <limits>

#include "bind.hpp"
#include "fft.hpp"

namespace convgmm {
namespace {

fft::Shape checked_shape(const std::vector<std::int64_t>& lengths) {
  fft::Shape shape;
  for (const std::int64_t length : lengths) {
    require(length > 0 && length <= std::numeric_limits<int>::max(), "shape: every axis must be positive, and an int");
    shape.push_back(static_cast<int>(length));
  }
  fft::check(shape);
  return shape;
}

template <class T>
Array<T> squared_coefficients(const Array<T>& patches, const std::vector<std::int64_t>& shape, bool remove_mean,
                              int n_threads) {
  const fft::Shape checked = checked_shape(shape);
  const fft::Sizes sizes = fft::sizes(checked);
  require(patches.ndim() == 2 && extent(patches, 1) == sizes.values, "patches: expected (n, prod(shape))");
  const std::size_t n = extent(patches, 0);
  Array<T> out({n, sizes.frequencies - (remove_mean ? 1 : 0)});
  const T* in = patches.data();
  T* result = out.mutable_data();
  without_gil([&] { fft::squared_coefficients(in, n, checked, remove_mean, n_threads, result); });
  return out;
}

}  // namespace

void bind_fft(py::module_& module) {
  using namespace py::literals;
  module.def("set_fft_libraries", &fft::set_libraries, "single_path"_a, "double_path"_a);
  module.def("fft_library_version", &fft::version);
  module.def(
      "half_spectrum",
      [](const std::vector<std::int64_t>& shape) {
        const fft::HalfSpectrum half = fft::half_spectrum(checked_shape(shape));
        Array<std::int64_t> plane(half.plane_index.size());
        std::copy(half.plane_index.begin(), half.plane_index.end(), plane.mutable_data());
        return py::make_tuple(Array<double>(half.multiplicities.size(), half.multiplicities.data()), plane);
      },
      "shape"_a);
  module.def("squared_coefficients", &squared_coefficients<float>, py::arg("patches").noconvert(), "shape"_a,
             "remove_mean"_a, "n_threads"_a);
  module.def("squared_coefficients", &squared_coefficients<double>, py::arg("patches").noconvert(), "shape"_a,
             "remove_mean"_a, "n_threads"_a);
}

}  // namespace convgmm

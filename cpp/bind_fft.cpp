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

enum class Transform { fourier, cosine };

template <class T, Transform kind>
Array<T> squared_coefficients(const Array<T>& patches, const std::vector<std::int64_t>& shape, bool remove_mean,
                              int n_threads) {
  const fft::Shape checked = checked_shape(shape);
  const fft::Sizes sizes = fft::sizes(checked);
  require(patches.ndim() == 2 && extent(patches, 1) == sizes.values, "patches: expected (n, prod(shape))");
  const std::size_t n = extent(patches, 0);
  constexpr bool kFourier = kind == Transform::fourier;
  Array<T> out({n, (kFourier ? sizes.frequencies : sizes.values) - (remove_mean ? 1 : 0)});
  const T* in = patches.data();
  T* result = out.mutable_data();
  constexpr auto compute = kFourier ? &fft::squared_coefficients<T> : &fft::squared_cosine_coefficients<T>;
  without_gil([&] { compute(in, n, checked, remove_mean, n_threads, result); });
  return out;
}

template <class T>
void bind_for(py::module_& module) {
  using namespace py::literals;
  const auto patches = py::arg("patches").noconvert();
  module.def("squared_coefficients", &squared_coefficients<T, Transform::fourier>, patches, "shape"_a, "remove_mean"_a,
             "n_threads"_a);
  module.def("squared_cosine_coefficients", &squared_coefficients<T, Transform::cosine>, patches, "shape"_a,
             "remove_mean"_a, "n_threads"_a);
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
        Array<std::int64_t> plane(signed_size(half.plane_index.size()));
        std::copy(half.plane_index.begin(), half.plane_index.end(), plane.mutable_data());
        return py::make_tuple(Array<double>(signed_size(half.multiplicities.size()), half.multiplicities.data()),
                              plane);
      },
      "shape"_a);
  bind_for<float>(module);
  bind_for<double>(module);
}

}  // namespace convgmm

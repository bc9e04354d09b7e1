// What the binding files share: how arrays come in, and how a call enters and leaves the core.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "parallel.hpp"
#include "posterior.hpp"
#include "scales.hpp"

namespace convgmm {

namespace py = pybind11;

// A C-contiguous array of T. Large ones are bound with noconvert: never cast or copied unseen. An array whose values do
// not stand where, or as, the processor reads them is refused, since a cast of what should be written to would be lost.
template <class T>
class Array : public py::array_t<T, py::array::c_style> {
 public:
  using Base = py::array_t<T, py::array::c_style>;
  using Base::Base;
  Array() = default;
  Array(Base base) : Base(std::move(base)) {}

  static bool check_(py::handle source) {
    return Base::check_(source) &&
           (py::reinterpret_borrow<py::array>(source).flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
  }

  // Are values of this array those that a cast may make? Of numpy's arrays only aligned ones in the native byte order.
  static bool may_be_cast(py::handle source) {
    if (!py::isinstance<py::array>(source)) return true;
    const auto array = py::reinterpret_borrow<py::array>(source);
    const char order = array.dtype().byteorder();
    const bool native =
        order == '=' || order == '|' || order == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>');
    return native && (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
  }
};

using OptionalArray = std::optional<Array<double>>;

inline void require(bool condition, const char* message) {
  if (!condition) throw py::value_error(message);
}

inline std::size_t extent(const py::array& array, py::ssize_t axis) {
  return static_cast<std::size_t>(array.shape(axis));
}

inline py::ssize_t signed_size(std::size_t size) { return static_cast<py::ssize_t>(size); }

// A call into the core while it runs: made and ended with the GIL held, so that the interpreter's end can wait for it.
class CoreCall {
 public:
  // Throws Ending when the interpreter is about to end.
  CoreCall();
  ~CoreCall();
  CoreCall(const CoreCall&) = delete;
  CoreCall& operator=(const CoreCall&) = delete;
};

// Runs the work without the GIL; an interrupt becomes the exception that Python's signal handler raised. When the
// interpreter ends, so does the thread, by an exception that threads end with silently.
template <class Work>
auto without_gil(Work work) {
  try {
    const CoreCall call;
    const py::gil_scoped_release release;
    return work();
  } catch (const parallel::Interrupted&) {
    throw py::error_already_set();
  } catch (const parallel::Ending& ending) {
    py::set_error(PyExc_SystemExit, ending.what());
    throw py::error_already_set();
  }
}

// The constants of K components: −inf for one of weight 0.
const double* checked_constants(const Array<double>& constants, std::size_t n_components);

// `assignment` is soft, hard or draw; what is drawn depends on `seed`, `iteration` and each sample's number, of which
// the first is `first_number`.
Assignment checked_assignment(const std::string& assignment, std::uint64_t seed, std::uint64_t iteration,
                              std::uint64_t first_number);

// The squared scales (J,) and log-weights (K, J) of components of several scales; or the degrees of freedom (K,) of
// Student's t.
using OptionalScales = std::optional<std::variant<Array<double>, std::tuple<Array<double>, Array<double>>>>;
Scales checked_scales(const OptionalScales& scales, std::size_t n_components, double dimension);

void bind_axes(py::module_& module);
void bind_calls(py::module_& module);
void bind_fft(py::module_& module);
void bind_full(py::module_& module);
void bind_restore(py::module_& module);
void bind_spectral(py::module_& module);
void bind_torus(py::module_& module);

}  // namespace convgmm

namespace pybind11::detail {

template <class T>
struct handle_type_name<convgmm::Array<T>> : handle_type_name<typename convgmm::Array<T>::Base> {};

template <class T>
struct pyobject_caster<convgmm::Array<T>> {
  using type = convgmm::Array<T>;

  bool load(handle source, bool convert) {
    if (type::check_(source)) {
      value = reinterpret_borrow<type>(source);
      return true;
    }
    if (!convert || !type::may_be_cast(source)) return false;
    value = type(type::Base::ensure(source));
    return static_cast<bool>(value);
  }

  static handle cast(const handle& source, return_value_policy, handle) { return source.inc_ref(); }
  PYBIND11_TYPE_CASTER(type, handle_type_name<type>::name);
};

}  // namespace pybind11::detail

// What the binding files share: how arrays come in, and what leaves a region of threads.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.hpp"

namespace convgmm {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;  // large arrays are bound with noconvert: never cast or copied unseen

inline void require(bool condition, const char* message) {
  if (!condition) throw py::value_error(message);
}

inline std::size_t extent(const py::array& array, py::ssize_t axis) {
  return static_cast<std::size_t>(array.shape(axis));
}

// Runs the work without the GIL; an interrupt becomes the exception that Python's signal handler raised.
template <class Work>
auto without_gil(Work work) {
  try {
    const py::gil_scoped_release release;
    return work();
  } catch (const parallel::Interrupted&) {
    throw py::error_already_set();
  }
}

void bind_fft(py::module_& module);
void bind_full(py::module_& module);
void bind_spectral(py::module_& module);

}  // namespace convgmm

// The core's table of contents.
#include <Eigen/Core>

#include "bind.hpp"

PYBIND11_MODULE(CONVGMM_CORE_NAME, module) {
  namespace py = convgmm::py;
  convgmm::parallel::interrupt_check() = [] {
    const py::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
  };
  convgmm::parallel::watch_forks();
  module.def("thread_count", &convgmm::parallel::thread_count, py::arg("requested"));
  module.attr("compiler") = CONVGMM_COMPILER;
  module.attr("eigen_version") = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                                 std::to_string(EIGEN_MINOR_VERSION);
  convgmm::bind_fft(module);
  convgmm::bind_full(module);
  convgmm::bind_spectral(module);
}

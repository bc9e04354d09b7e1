// The core's table of contents.
#include <Eigen/Core>

#include "bind.hpp"

PYBIND11_MODULE(CONVGMM_CORE_NAME, module) {
  module.attr("compiler") = CONVGMM_COMPILER;
  module.attr("eigen_version") = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                                 std::to_string(EIGEN_MINOR_VERSION);
  convgmm::bind_calls(module);
  convgmm::bind_axes(module);
  convgmm::bind_fft(module);
  convgmm::bind_full(module);
  convgmm::bind_restore(module);
  convgmm::bind_spectral(module);
  convgmm::bind_torus(module);
}

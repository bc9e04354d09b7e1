// The tiny baseline module that names the processor's level; compiled without any instruction-set flag.
#include "cpu.hpp"

#include <pybind11/pybind11.h>

PYBIND11_MODULE(_cpu, module) {
  module.attr("levels_built") = CONVGMM_LEVELS;
  module.def("processor_level", &convgmm::processor_level);
}

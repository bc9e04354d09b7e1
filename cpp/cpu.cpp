// The tiny baseline module that names the processor's level; compiled without any instruction-set flag.
#include <pybind11/pybind11.h>

namespace {

// The highest x86-64 level that processor and operating system support; "base" elsewhere, "" below v2.
const char* processor_level() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return "v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "v3";
  if (__builtin_cpu_supports("x86-64-v2")) return "v2";
  return "";
#else
  return "base";
#endif
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.attr("levels_built") = CONVGMM_LEVELS;
  module.def("processor_level", &processor_level);
}

// The tiny baseline module that names the processor's level; compiled without any instruction-set flag. Written in
// Python's own C interface: pybind11 would make it fifteen times as large.
#include "cpu.hpp"

#include <Python.h>

namespace {

PyObject* processor_level(PyObject*, PyObject*) { return PyUnicode_FromString(convgmm::processor_level()); }

PyMethodDef methods[] = {{"processor_level", processor_level, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_cpu", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__cpu() {
  PyObject* module = PyModule_Create(&definition);
  if (module && PyModule_AddStringConstant(module, "levels_built", CONVGMM_LEVELS) < 0) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}

// How calls enter and leave the core: interrupts, forks, the interpreter's end, and errors that have a Python class.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "bind.hpp"

namespace convgmm {
namespace {

std::atomic<int> calls_running{0};
std::atomic<unsigned long> ending_thread{0};  // 0: none
PyObject* no_density = nullptr;

// Only Python's main thread handles signals; after a fork that is the thread that forked.
bool on_main_thread() {
  static PyObject* const threading = py::module_::import("threading").release().ptr();
  const py::object main = py::handle(threading).attr("main_thread")();
  return py::cast<unsigned long>(main.attr("ident")) == PyThread_get_thread_ident();
}

// At its end the interpreter ends every other thread that takes the GIL, in the midst of C++ frames that must not be
// left so: the process would abort. So the core is emptied before.
void empty_core() {
  ending_thread = PyThread_get_thread_ident();
  const py::gil_scoped_release release;
  parallel::ending() = true;
  while (calls_running > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  parallel::ending() = false;  // what follows is the ending thread's alone
}

}  // namespace

CoreCall::CoreCall() {
  if (ending_thread != 0 && ending_thread != PyThread_get_thread_ident()) throw parallel::Ending{};
  ++calls_running;
  try {
    parallel::asks_for_interrupts = on_main_thread();
  } catch (...) {
    --calls_running;
    throw;
  }
}

CoreCall::~CoreCall() { --calls_running; }

const double* checked_constants(const Array<double>& constants, std::size_t n_components) {
  require(constants.ndim() == 1 && extent(constants, 0) == n_components, "constants: expected (K,)");
  const double* begin = constants.data();
  require(std::none_of(begin, begin + n_components, [](double c) { return std::isnan(c) || (std::isinf(c) && c > 0); }),
          "constants: expected finite values, or -inf for a component of weight 0");
  require(std::any_of(begin, begin + n_components, [](double c) { return std::isfinite(c); }),
          "constants: at least one component must have a weight");
  return begin;
}

Assignment checked_assignment(const std::string& assignment, std::uint64_t seed, std::uint64_t iteration,
                              std::uint64_t first_number) {
  using Kind = Assignment::Kind;
  require(assignment == "soft" || assignment == "hard" || assignment == "draw",
          "assignment: expected 'soft', 'hard' or 'draw'");
  const Kind kind = assignment == "soft" ? Kind::soft : assignment == "hard" ? Kind::hard : Kind::draw;
  return {kind, seed, iteration, first_number};
}

Scales checked_scales(const OptionalScales& scales, std::size_t n_components, double dimension) {
  if (!scales) return {};
  const auto all = [](const Array<double>& values) {
    return std::all_of(values.data(), values.data() + values.size(),
                       [](double v) { return std::isfinite(v) && v > 0; });
  };
  if (const auto* degrees = std::get_if<Array<double>>(&*scales)) {
    require(degrees->ndim() == 1 && extent(*degrees, 0) == n_components, "scales: expected degrees of freedom (K,)");
    require(all(*degrees), "scales: expected finite positive degrees of freedom");
    return {0, nullptr, nullptr, degrees->data(), dimension};
  }
  const auto& [squared, log_weights] = std::get<1>(*scales);
  require(squared.ndim() == 1 && extent(squared, 0) > 0, "scales: expected squares (J,) with J > 0");
  const std::size_t J = extent(squared, 0);
  require(log_weights.ndim() == 2 && extent(log_weights, 0) == n_components && extent(log_weights, 1) == J,
          "scales: expected log-weights (K, J)");
  require(all(squared), "scales: expected finite positive squares");
  for (std::size_t k = 0; k < n_components; ++k) {
    const double* row = log_weights.data() + k * J;
    require(std::all_of(row, row + J, [](double w) { return w <= 0; }) &&
                std::any_of(row, row + J, [](double w) { return std::isfinite(w); }),
            "scales: expected log-weights that are not positive, and not all -inf");
  }
  return {J, squared.data(), log_weights.data(), nullptr, dimension};
}

void bind_calls(py::module_& module) {
  parallel::interrupt_check() = [] {
    const py::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
  };
  parallel::watch_forks([] { calls_running = 0; });  // other threads' calls are not the child's
  py::module_::import("atexit").attr("register")(py::cpp_function(&empty_core));
  module.def("thread_count", &parallel::thread_count, py::arg("requested"));

  no_density = PyErr_NewExceptionWithDoc(
      "convgmm._core.NoDensity",
      "A sample has no finite log-density under any component; ``args[0]`` is its index, the lowest such.",
      PyExc_ValueError, nullptr);
  if (no_density == nullptr) throw py::error_already_set();
  module.attr("NoDensity") = py::reinterpret_steal<py::object>(no_density);
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const NoDensity& lacking) {
      PyErr_SetObject(no_density, py::make_tuple(lacking.sample, lacking.what()).ptr());
    }
  });
}

}  // namespace convgmm

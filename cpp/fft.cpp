#include "fft.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <complex>
#include <functional>
#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "aligned.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace convgmm::fft {
namespace {

std::mutex planner_mutex;  // FFTW's planner is not thread-safe; executing a plan is
std::string library_paths[2];

template <class T>
constexpr int kPrecision = std::is_same_v<T, double> ? 1 : 0;

// The functions of FFTW's C interface that are used, resolved from the library at run time.
template <class T>
struct Library {
  using Plan = void*;
  using PlanMany = Plan (*)(int rank, const int* n, int howmany, T* in, const int* inembed, int istride, int idist,
                            std::complex<T>* out, const int* onembed, int ostride, int odist, unsigned flags);
  using Execute = void (*)(Plan, T* in, std::complex<T>* out);

  PlanMany plan_many = nullptr;
  Execute execute = nullptr;
  const char* version = nullptr;

  // Opened once; called under the planner's mutex.
  static const Library& get() {
    static const Library library(library_paths[kPrecision<T>]);
    return library;
  }

 private:
  explicit Library(const std::string& path) {
    if (path.empty()) throw std::runtime_error("no FFTW library has been named");
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) throw std::runtime_error("cannot open FFTW: " + std::string(dlerror()));
    const std::string prefix = std::is_same_v<T, double> ? "fftw_" : "fftwf_";
    const auto find = [&](const char* name) {
      void* symbol = dlsym(handle, (prefix + name).c_str());
      if (symbol == nullptr) throw std::runtime_error(path + " has no function " + prefix + name);
      return symbol;
    };
    plan_many = reinterpret_cast<PlanMany>(find("plan_many_dft_r2c"));
    execute = reinterpret_cast<Execute>(find("execute_dft_r2c"));
    version = static_cast<const char*>(find("version"));
  }
};

std::size_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

// Values in one row-major output of the real transform: the last axis keeps s_d / 2 + 1.
std::size_t transform_size(const Shape& shape) {
  return product(shape) / static_cast<std::size_t>(shape.back()) * (static_cast<std::size_t>(shape.back()) / 2 + 1);
}

// Patches transformed together: as many as keep input and output in the second-level cache, 64 at most. A function
// of the shape alone, so that the plan, and with it every bit of the result, never depends on the number of samples.
std::size_t batch_size(const Shape& shape) {
  return std::clamp<std::size_t>((std::size_t{1} << 16) / product(shape), 1, 64);
}

// Plans are made once per shape and kept for the life of the process. FFTW_ESTIMATE: other planners choose by
// timing, so that results would differ between runs.
template <class T>
typename Library<T>::Plan plan(const Shape& shape) {
  constexpr unsigned kEstimate = 1U << 6;
  static std::map<Shape, typename Library<T>::Plan> plans;
  const std::lock_guard<std::mutex> lock(planner_mutex);
  const auto known = plans.find(shape);
  if (known != plans.end()) return known->second;
  const Library<T>& library = Library<T>::get();
  const std::size_t batch = batch_size(shape);
  AlignedBuffer<T> in(batch * product(shape));
  AlignedBuffer<std::complex<T>> out(batch * transform_size(shape));
  void* made = library.plan_many(static_cast<int>(shape.size()), shape.data(), static_cast<int>(batch), in.data(),
                                 nullptr, 1, static_cast<int>(product(shape)), out.data(), nullptr, 1,
                                 static_cast<int>(transform_size(shape)), kEstimate);
  if (made == nullptr) throw std::runtime_error("FFTW cannot plan a transform of this shape");
  plans.emplace(shape, made);
  return made;
}

}  // namespace

HalfSpectrum half_spectrum(const Shape& shape) {
  const std::size_t rank = shape.size();
  const std::size_t n = product(shape);
  const auto columns = static_cast<std::size_t>(shape.back()) / 2 + 1;
  HalfSpectrum half;
  half.plane_index.resize(n);
  std::vector<std::size_t> index(rank, 0);
  for (std::size_t flat = 0; flat < n; ++flat) {
    std::size_t rest = flat;
    for (std::size_t axis = rank; axis-- > 0;) {
      index[axis] = rest % static_cast<std::size_t>(shape[axis]);
      rest /= static_cast<std::size_t>(shape[axis]);
    }
    std::size_t conjugate = 0;
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const auto size = static_cast<std::size_t>(shape[axis]);
      conjugate = conjugate * size + (size - index[axis]) % size;
    }
    // Of a pair, the one kept is the first that the transform's output holds.
    const bool in_output = index.back() < columns;
    const bool conjugate_in_output =
        (static_cast<std::size_t>(shape.back()) - index.back()) % static_cast<std::size_t>(shape.back()) < columns;
    if (!in_output || (conjugate_in_output && conjugate < flat)) continue;
    const std::size_t place = half.multiplicities.size();
    half.multiplicities.push_back(conjugate == flat ? 1.0 : 2.0);
    half.plane_index[flat] = place;
    half.plane_index[conjugate] = place;
    const std::size_t source = flat / static_cast<std::size_t>(shape.back()) * columns + index.back();
    if (!half.runs.empty() && half.runs.back().source + half.runs.back().length == source)
      ++half.runs.back().length;
    else
      half.runs.push_back({source, 1});
  }
  const double degrees = std::accumulate(half.multiplicities.begin(), half.multiplicities.end(), 0.0);
  if (degrees != static_cast<double>(n)) throw std::logic_error("half spectrum: multiplicities do not add up");
  return half;
}

void set_libraries(std::string single_path, std::string double_path) {
  const std::lock_guard<std::mutex> lock(planner_mutex);
  library_paths[0] = std::move(single_path);
  library_paths[1] = std::move(double_path);
}

std::string version() {
  const std::lock_guard<std::mutex> lock(planner_mutex);
  return Library<float>::get().version;
}

template <class T>
void squared_coefficients(const T* patches, std::size_t n, const Shape& shape, bool remove_mean, int n_threads,
                          T* out) {
  const std::size_t size = product(shape);
  const std::size_t transformed = transform_size(shape);
  const std::size_t batch = batch_size(shape);
  HalfSpectrum half = half_spectrum(shape);
  std::size_t width = half.multiplicities.size();
  if (remove_mean) {  // ω = 0 is the first value of the first run
    --width;
    ++half.runs.front().source;
    --half.runs.front().length;
  }
  const typename Library<T>::Plan planned = plan<T>(shape);
  const auto execute = [] {
    const std::lock_guard<std::mutex> lock(planner_mutex);
    return Library<T>::get().execute;
  }();
  const T scale = T{1} / static_cast<T>(size);  // unitary: X / √n

  struct Scratch {
    AlignedBuffer<T> in;
    AlignedBuffer<std::complex<T>> out;
  };
  const auto make_scratch = [&] {
    Scratch scratch{AlignedBuffer<T>(batch * size), AlignedBuffer<std::complex<T>>(batch * transformed)};
    std::fill(scratch.in.begin(), scratch.in.end(), T{0});
    return scratch;
  };
  parallel::chunks(
      n, parallel::chunk_size(n, batch), n_threads, make_scratch,
      [&](Scratch& scratch, std::size_t begin, std::size_t end) {
        for (std::size_t first = begin; first < end; first += batch) {
          const std::size_t count = std::min(batch, end - first);
          std::copy_n(patches + first * size, count * size, scratch.in.data());
          if (remove_mean) {  // before the transform: a large mean would leave its rounding in every coefficient
            for (std::size_t i = 0; i < count; ++i) {
              T* patch = scratch.in.data() + i * size;
              const T mean = simd::sum(patch, size) / static_cast<T>(size);
              for (std::size_t j = 0; j < size; ++j) patch[j] -= mean;
            }
          }
          execute(planned, scratch.in.data(), scratch.out.data());
          for (std::size_t i = 0; i < count; ++i) {
            T* row = out + (first + i) * width;
            for (const HalfSpectrum::Run& run : half.runs) {
              const auto* source = reinterpret_cast<const T*>(scratch.out.data() + i * transformed + run.source);
              for (std::size_t j = 0; j < run.length; ++j)
                row[j] = (source[2 * j] * source[2 * j] + source[2 * j + 1] * source[2 * j + 1]) * scale;
              row += run.length;
            }
          }
        }
      });
}

template void squared_coefficients<float>(const float*, std::size_t, const Shape&, bool, int, float*);
template void squared_coefficients<double>(const double*, std::size_t, const Shape&, bool, int, double*);

}  // namespace convgmm::fft

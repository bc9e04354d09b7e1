#include "fft.hpp"

#include <dlfcn.h>
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <complex>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "aligned.hpp"
#include "parallel.hpp"
#include "simd.hpp"
#include "sizes.hpp"

namespace convgmm::fft {
namespace {

std::mutex planner_mutex;  // FFTW's planner is not thread-safe; executing a plan is
std::string library_paths[2];

// A handle of a copy of the library that nobody else has, or null. Who loads the file itself shares the planner with
// pyfftw, which locks it with a mutex of its own and cleans it up at the interpreter's end.
void* open_private_copy(const std::string& path) {
#ifdef __linux__
  std::ifstream file(path, std::ios::binary);
  if (!file) return nullptr;
  // The descriptor stays open: the loader knows a library by its path, and a number used again would be taken for it.
  const int descriptor = memfd_create("fftw", MFD_CLOEXEC);
  if (descriptor < 0) return nullptr;
  std::vector<char> bytes(std::size_t{1} << 16);
  bool complete = true;
  while (complete && (file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())), file.gcount() > 0)) {
    const auto count = static_cast<std::size_t>(file.gcount());
    for (std::size_t written = 0; complete && written < count;) {
      const ssize_t step = write(descriptor, bytes.data() + written, count - written);
      complete = step > 0;
      if (complete) written += static_cast<std::size_t>(step);
    }
  }
  void* handle = nullptr;
  if (complete && file.eof())
    handle = dlopen(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) close(descriptor);
  return handle;
#else
  (void)path;
  return nullptr;
#endif
}

// FFTW takes distances between transforms as int, and those of the output may be as large again.
constexpr std::size_t kLargestPatch = std::size_t{std::numeric_limits<int>::max()} / 2;

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
    void* handle = open_private_copy(path);
    if (handle == nullptr) handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
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

// The squared coefficients of a patch, (D,): of each pair of conjugates one, and those that are their own.
std::size_t distinct_frequencies(const Shape& shape) {
  const std::size_t own = std::accumulate(shape.begin(), shape.end(), std::size_t{1}, [](std::size_t so_far, int size) {
    return size % 2 == 0 ? 2 * so_far : so_far;
  });
  return product(shape) / 2 + own / 2 + (product(shape) % 2 + own % 2) / 2;
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

// What is known of a shape, once for the life of the process. FFTW_ESTIMATE: other planners choose by timing, so that
// results would differ between runs.
template <class T>
struct Planned {
  typename Library<T>::Plan plan;
  typename Library<T>::Execute execute;
  std::vector<HalfSpectrum::Run> runs;
};

template <class T>
const Planned<T>& planned(const Shape& shape) {
  constexpr unsigned kEstimate = 1U << 6;
  static std::map<Shape, Planned<T>> known;  // its values never move
  {
    const std::lock_guard<std::mutex> lock(planner_mutex);
    const auto found = known.find(shape);
    if (found != known.end()) return found->second;
  }
  std::vector<HalfSpectrum::Run> runs = half_spectrum(shape).runs;
  const std::lock_guard<std::mutex> lock(planner_mutex);
  const auto found = known.find(shape);
  if (found != known.end()) return found->second;
  const Library<T>& library = Library<T>::get();
  const std::size_t batch = batch_size(shape);
  AlignedBuffer<T> in(batch * product(shape));
  AlignedBuffer<std::complex<T>> out(batch * transform_size(shape));
  void* made = library.plan_many(static_cast<int>(shape.size()), shape.data(), static_cast<int>(batch), in.data(),
                                 nullptr, 1, static_cast<int>(product(shape)), out.data(), nullptr, 1,
                                 static_cast<int>(transform_size(shape)), kEstimate);
  if (made == nullptr) throw std::runtime_error("FFTW cannot plan a transform of this shape");
  return known.emplace(shape, Planned<T>{made, library.execute, std::move(runs)}).first->second;
}

}  // namespace

void check(const Shape& shape) {
  if (shape.empty()) throw std::invalid_argument("shape: at least one axis is needed");
  std::size_t size = 1;
  for (const int length : shape) {
    if (length <= 0) throw std::invalid_argument("shape: every axis must be positive");
    size = checked_product({size, static_cast<std::size_t>(length)}, kLargestPatch);
  }
}

Sizes sizes(const Shape& shape) { return {product(shape), distinct_frequencies(shape)}; }

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
  const std::size_t width = distinct_frequencies(shape) - (remove_mean ? 1 : 0);
  if (n == 0) return;
  const Planned<T>& known = planned<T>(shape);
  std::vector<HalfSpectrum::Run> runs = known.runs;
  if (remove_mean) {  // ω = 0 is the first value of the first run
    ++runs.front().source;
    --runs.front().length;
  }
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
      n, parallel::even_chunk(n, batch), n_threads, make_scratch,
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
          known.execute(known.plan, scratch.in.data(), scratch.out.data());
          for (std::size_t i = 0; i < count; ++i) {
            T* row = out + (first + i) * width;
            for (const HalfSpectrum::Run& run : runs) {
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

#include "fft.hpp"

#include <dlfcn.h>
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
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

// Transforms n patches, batch by batch in parallel: read(number, in) gives the values of a patch (Π s_i,), of which
// the mean is taken if it is to be removed, and write(number, out) gets the real transform's output.
template <class T, class Read, class Write>
void transform(std::size_t n, const Shape& shape, const Planned<T>& known, bool remove_mean, int n_threads, Read read,
               Write write) {
  const std::size_t size = product(shape);
  const std::size_t transformed = transform_size(shape);
  const std::size_t batch = batch_size(shape);
  struct Scratch {
    AlignedBuffer<T> in;
    AlignedBuffer<std::complex<T>> out;
  };
  const auto make_scratch = [&] {
    Scratch scratch{AlignedBuffer<T>(batch * size), AlignedBuffer<std::complex<T>>(batch * transformed)};
    std::fill(scratch.in.begin(), scratch.in.end(), T{0});
    return scratch;
  };
  parallel::chunks(n, parallel::even_chunk(n, batch), n_threads, make_scratch,
                   [&](Scratch& scratch, std::size_t begin, std::size_t end) {
                     for (std::size_t first = begin; first < end; first += batch) {
                       const std::size_t count = std::min(batch, end - first);
                       for (std::size_t i = 0; i < count; ++i) {
                         T* patch = scratch.in.data() + i * size;
                         read(first + i, patch);
                         if (!remove_mean) continue;
                         // Before the transform: a large mean would leave its rounding in every coefficient.
                         const T mean = simd::sum(patch, size) / static_cast<T>(size);
                         for (std::size_t j = 0; j < size; ++j) patch[j] -= mean;
                       }
                       known.execute(known.plan, scratch.in.data(), scratch.out.data());
                       for (std::size_t i = 0; i < count; ++i) write(first + i, scratch.out.data() + i * transformed);
                     }
                   });
}

// The DCT-II by the real Fourier transform F of reordered patches (Makhoul, IEEE Trans. ASSP 28, 1980): along an axis
// of N values x, those of even place and, backwards, those of odd place, and with w = exp(−iπ/2N)
//
//     Σ_j x_j cos(π (j + ½) k / N) = ½ [w^k F(k) + w^−k F(−k)],
//
// which for the last axis, where F(−k) is conjugate to F(k), is Re w^k F(k), and −Im of it at N − k. FFTW's own
// transforms of this kind take 4 times as long as its Fourier transform for 16×16 values (float32, 2026-11).
template <class T>
class Cosines {
 public:
  explicit Cosines(const Shape& shape) : shape_(shape), order_(product(shape)), scale_(product(shape)) {
    for (const int length : shape_) {
      twiddles_.emplace_back();
      for (int k = 0; k < length; ++k) {
        const double angle = -std::acos(-1.0) * k / (2.0 * length);
        twiddles_.back().push_back({static_cast<T>(std::cos(angle)), static_cast<T>(std::sin(angle))});
      }
    }
    for (std::size_t flat = 0; flat < order_.size(); ++flat) {
      std::size_t rest = flat, stride = 1, from = 0;
      double squared = std::pow(0.25, static_cast<double>(shape_.size() - 1));  // the sums below lack their halves
      for (std::size_t axis = shape_.size(); axis-- > 0;) {
        const auto N = static_cast<std::size_t>(shape_[axis]);
        const std::size_t k = rest % N;
        from += stride * (2 * k < N ? 2 * k : 2 * (N - k) - 1);
        squared *= (k == 0 ? 1.0 : 2.0) / static_cast<double>(N);
        rest /= N;
        stride *= N;
      }
      order_[flat] = static_cast<std::uint32_t>(from);
      scale_[flat] = static_cast<T>(squared);
    }
  }

  void reorder(const T* __restrict patch, T* __restrict in) const {
    for (std::size_t j = 0; j < order_.size(); ++j) in[j] = patch[order_[j]];
  }

  // Squared coefficients of one patch, from its real transform (…, s_d / 2 + 1), which is used up.
  void squares(T* __restrict transformed, bool without_first, T* __restrict out) const {
    const auto N = static_cast<std::size_t>(shape_.back());
    const std::size_t columns = N / 2 + 1;
    std::size_t inner = columns;  // complex values from one place on an axis to the next
    for (std::size_t axis = shape_.size() - 1; axis-- > 0;) {
      const auto length = static_cast<std::size_t>(shape_[axis]);
      const std::size_t outer = order_.size() / N * columns / (inner * length);
      for (T* block = transformed; block < transformed + 2 * outer * length * inner; block += 2 * length * inner) {
        for (std::size_t j = 0; j < 2 * inner; ++j) block[j] *= T{2};
        for (std::size_t k = 1; 2 * k < length; ++k)
          butterfly(twiddles_[axis][k], inner, block + 2 * k * inner, block + 2 * (length - k) * inner);
        if (length % 2 == 0)
          for (std::size_t j = length * inner; j < (length + 2) * inner; ++j)
            block[j] *= static_cast<T>(std::sqrt(2.0));
      }
      inner *= length;
    }
    const Twiddle* __restrict twiddle = twiddles_.back().data();
    const T* __restrict factor = scale_.data();
    const std::size_t skipped = without_first ? 1 : 0;
    for (std::size_t start = 0; start < order_.size(); start += N, transformed += 2 * columns, factor += N) {
      if (start >= skipped) out[start - skipped] = transformed[0] * transformed[0] * factor[0];
      T* __restrict row = out + start + 1 - skipped;
      for (std::size_t k = 1; k < columns; ++k) {
        const T re = twiddle[k].re * transformed[2 * k] - twiddle[k].im * transformed[2 * k + 1];
        row[k - 1] = re * re * factor[k];
      }
      for (std::size_t k = 1; k < N - N / 2; ++k) {
        const T im = twiddle[k].re * transformed[2 * k + 1] + twiddle[k].im * transformed[2 * k];
        row[N - 1 - k] = im * im * factor[N - k];
      }
    }
  }

 private:
  struct Twiddle {
    T re, im;
  };

  // F(k), F(N − k) → w^k F(k) + w^−k F(N − k) and, since w^N = −i, i (w^k F(k) − w^−k F(N − k)).
  static void butterfly(Twiddle w, std::size_t count, T* __restrict low, T* __restrict high) {
    for (std::size_t j = 0; j < 2 * count; j += 2) {
      const T p = w.re * low[j] - w.im * low[j + 1], p_im = w.re * low[j + 1] + w.im * low[j];
      const T q = w.re * high[j] + w.im * high[j + 1], q_im = w.re * high[j + 1] - w.im * high[j];
      low[j] = p + q;
      low[j + 1] = p_im + q_im;
      high[j] = q_im - p_im;
      high[j + 1] = p - q;
    }
  }

  Shape shape_;
  std::vector<std::uint32_t> order_;            // (Π s_i,) where in a patch each value of the reordered one stands
  std::vector<std::vector<Twiddle>> twiddles_;  // of each axis (s_i,)
  std::vector<T> scale_;                        // (Π s_i,)
};

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
  const std::size_t width = distinct_frequencies(shape) - (remove_mean ? 1 : 0);
  if (n == 0) return;
  const Planned<T>& known = planned<T>(shape);
  std::vector<HalfSpectrum::Run> runs = known.runs;
  if (remove_mean) {  // ω = 0 is the first value of the first run
    ++runs.front().source;
    --runs.front().length;
  }
  const T scale = T{1} / static_cast<T>(size);  // unitary: X / √n
  transform(
      n, shape, known, remove_mean, n_threads,
      [&](std::size_t number, T* in) { std::copy_n(patches + number * size, size, in); },
      [&](std::size_t number, std::complex<T>* transformed) {
        T* row = out + number * width;
        for (const HalfSpectrum::Run& run : runs) {
          const auto* source = reinterpret_cast<const T*>(transformed + run.source);
          for (std::size_t j = 0; j < run.length; ++j)
            row[j] = (source[2 * j] * source[2 * j] + source[2 * j + 1] * source[2 * j + 1]) * scale;
          row += run.length;
        }
      });
}

template <class T>
void squared_cosine_coefficients(const T* patches, std::size_t n, const Shape& shape, bool remove_mean, int n_threads,
                                 T* out) {
  const std::size_t size = product(shape);
  if (n == 0) return;
  const Planned<T>& known = planned<T>(shape);
  const Cosines<T> cosines(shape);
  const std::size_t width = size - (remove_mean ? 1 : 0);
  transform(
      n, shape, known, remove_mean, n_threads,
      [&](std::size_t number, T* in) { cosines.reorder(patches + number * size, in); },
      [&](std::size_t number, std::complex<T>* transformed) {
        cosines.squares(reinterpret_cast<T*>(transformed), remove_mean, out + number * width);
      });
}

#define CONVGMM_INSTANTIATE(T)                                                               \
  template void squared_coefficients<T>(const T*, std::size_t, const Shape&, bool, int, T*); \
  template void squared_cosine_coefficients<T>(const T*, std::size_t, const Shape&, bool, int, T*);
CONVGMM_INSTANTIATE(float)
CONVGMM_INSTANTIATE(double)
#undef CONVGMM_INSTANTIATE

}  // namespace convgmm::fft

// Squared coefficients of real patches, in the half spectrum or of cosines; the only place that knows FFTW.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace convgmm::fft {

using Shape = std::vector<int>;  // (s_1, …, s_d), row-major

// The distinct frequencies of a real patch, ω = 0 first. X(ω) and X(−ω) are conjugate, so one of each pair stands
// for both with multiplicity 2; a frequency that is its own conjugate has multiplicity 1. Σ multiplicity = Π s_i.
struct HalfSpectrum {
  struct Run {
    std::size_t source, length;  // neighbours in a row of the real transform's output that stay neighbours here
  };
  std::vector<double> multiplicities;    // (D,)
  std::vector<std::size_t> plane_index;  // (Π s_i,) for each frequency of the full plane its place in the half spectrum
  std::vector<Run> runs;
};

// Throws an exception that says what is wrong with a shape: no axis, one that is not positive, or too many values.
void check(const Shape& shape);

// How many values a patch has, and its half spectrum.
struct Sizes {
  std::size_t values;       // Π s_i
  std::size_t frequencies;  // D
};
Sizes sizes(const Shape& shape);

HalfSpectrum half_spectrum(const Shape& shape);

// Names the two shared libraries (single and double precision); they are opened at the first transform.
void set_libraries(std::string single_path, std::string double_path);

// The library's own version text. Throws std::runtime_error when it cannot be opened.
std::string version();

// |X(ω)|² with the unitary transform, for n patches (n, Π s_i) → (n, D), or (n, D − 1) without ω = 0 when the mean of
// each patch is removed.
template <class T>
void squared_coefficients(const T* patches, std::size_t n, const Shape& shape, bool remove_mean, int n_threads, T* out);

// The squares of the orthonormal DCT-II's coefficients, of n patches (n, Π s_i) → (n, Π s_i) in row-major order, or
// (n, Π s_i − 1) without the constant one when the mean of each patch is removed.
template <class T>
void squared_cosine_coefficients(const T* patches, std::size_t n, const Shape& shape, bool remove_mean, int n_threads,
                                 T* out);

}  // namespace convgmm::fft

// Scratch memory at addresses that vector loads like and that FFTW plans expect.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace convgmm {

inline constexpr std::size_t kAlignment = 64;

struct AlignedDelete {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{kAlignment}); }
};

// n values of T, uninitialised.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t n)
      : memory_(static_cast<T*>(::operator new((n > 0 ? n : 1) * sizeof(T), std::align_val_t{kAlignment}))), size_(n) {}

  T* data() { return memory_.get(); }
  const T* data() const { return memory_.get(); }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return memory_.get()[i]; }
  const T& operator[](std::size_t i) const { return memory_.get()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }

 private:
  std::unique_ptr<T, AlignedDelete> memory_;
  std::size_t size_ = 0;
};

}  // namespace convgmm

// The only place with threads: chunks of samples, worked on in parallel and merged in index order.
//
// Chunks and their merge order depend on the number of samples alone, so a result is bitwise the same for any number
// of threads. An exception is carried out of the region; an interrupt asked for by the caller ends it early.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
#endif

namespace convgmm::parallel {

// Thrown out of a region when the interrupt check said so.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

// Asked about every 50 ms by the calling thread, between chunks; true ends the region. Set once, by the module.
inline std::function<bool()>& interrupt_check() {
  static std::function<bool()> check;
  return check;
}

// libgomp's threads do not survive a fork: a child that opened a parallel region would hang.
inline std::atomic<bool>& forked() {
  static std::atomic<bool> flag{false};
  return flag;
}

// Called when the module is loaded, since another library may open regions and fork before this one does.
inline void watch_forks() {
#ifdef _OPENMP
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { forked() = true; }); });
#endif
}

// How many threads `requested` means: 0 or less is all that OpenMP would use.
inline int thread_count(int requested) {
#ifdef _OPENMP
  if (forked()) return 1;
  return requested > 0 ? requested : std::max(1, omp_get_max_threads());
#else
  (void)requested;
  return 1;
#endif
}

// About 128 chunks, so that many cores find work, but none so small that merging it costs more than computing it.
inline std::size_t chunk_size(std::size_t n_samples, std::size_t block) {
  const std::size_t wanted = std::clamp<std::size_t>(n_samples / 128, 512, 8192);
  return (wanted + block - 1) / block * block;
}

class Watch {
 public:
  bool stopped() const { return stop_.load(std::memory_order_relaxed); }

  void keep(std::exception_ptr error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!error_) error_ = std::move(error);
    stop_ = true;
  }

  // Called by the thread that opened the region.
  void ask() {
    const auto now = std::chrono::steady_clock::now();
    if (!interrupt_check() || now - asked_ < std::chrono::milliseconds(50)) return;
    asked_ = now;
    if (interrupt_check()()) keep(std::make_exception_ptr(Interrupted{}));
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

// For every chunk [begin, end) of n samples: work(local, begin, end) in parallel. Ordered, merge(local) follows in
// index order, and a thread waits for its turn; otherwise chunks write to places of their own, and no thread waits.
// `make_local()` is called once in each thread; work finds there what merge left.
template <bool Ordered, class MakeLocal, class Work, class Merge>
void for_chunks(std::size_t n, std::size_t chunk, int n_threads, MakeLocal make_local, Work work, Merge merge) {
  const auto n_chunks = static_cast<std::ptrdiff_t>((n + chunk - 1) / chunk);
  const int threads =
      static_cast<int>(std::min<std::ptrdiff_t>(thread_count(n_threads), std::max<std::ptrdiff_t>(n_chunks, 1)));
  Watch watch;
  const auto guarded = [&](auto step) {
    if (watch.stopped()) return;
    try {
      step();
    } catch (...) {
      watch.keep(std::current_exception());
    }
  };
  const auto work_on = [&](auto& local, std::ptrdiff_t index) {
    const std::size_t begin = static_cast<std::size_t>(index) * chunk;
    work(local, begin, std::min(n, begin + chunk));
  };
  if (threads == 1) {
    auto local = make_local();
    for (std::ptrdiff_t index = 0; index < n_chunks && !watch.stopped(); ++index) {
      watch.ask();
      guarded([&] { work_on(local, index); });
      guarded([&] { merge(local); });
    }
    watch.rethrow();
    return;
  }
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  {
    std::vector<decltype(make_local())> own;  // empty when making it failed
    guarded([&] { own.push_back(make_local()); });
    const bool opened_region = omp_get_thread_num() == 0;
    const auto step = [&](std::ptrdiff_t index) {
      if (opened_region) watch.ask();
      if (!own.empty()) guarded([&] { work_on(own.front(), index); });
    };
    if constexpr (Ordered) {
#pragma omp for ordered schedule(dynamic, 1)
      for (std::ptrdiff_t index = 0; index < n_chunks; ++index) {
        step(index);
#pragma omp ordered
        if (!own.empty()) guarded([&] { merge(own.front()); });
      }
    } else {
#pragma omp for schedule(dynamic, 1)
      for (std::ptrdiff_t index = 0; index < n_chunks; ++index) step(index);
    }
  }
  watch.rethrow();
#endif
}

template <class MakeLocal, class Work, class Merge>
void ordered_chunks(std::size_t n, std::size_t chunk, int n_threads, MakeLocal make_local, Work work, Merge merge) {
  for_chunks<true>(n, chunk, n_threads, make_local, work, merge);
}

template <class MakeLocal, class Work>
void chunks(std::size_t n, std::size_t chunk, int n_threads, MakeLocal make_local, Work work) {
  for_chunks<false>(n, chunk, n_threads, make_local, work, [](auto&) {});
}

}  // namespace convgmm::parallel

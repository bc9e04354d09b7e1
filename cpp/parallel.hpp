// The only place with threads: chunks of samples, worked on in parallel and merged in index order.
//
// Chunks and their merge order depend on the number of samples alone, so a result is bitwise the same for any number
// of threads. An exception is carried out of the region, that of the lowest chunk that has one; an interrupt ends it
// early, and so does the end of the process.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <limits>
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

// Thrown out of a region when the process is about to end.
struct Ending : std::exception {
  const char* what() const noexcept override { return "the process is ending"; }
};

// True while the process, about to end, waits for its threads to leave their regions.
inline std::atomic<bool>& ending() {
  static std::atomic<bool> flag{false};
  return flag;
}

// Does this thread ask for interrupts in the regions that it opens?
inline thread_local bool asks_for_interrupts = false;

// Asked about every 50 ms by the thread that opened the region, between chunks; true ends the region. Set once, by the
// module.
inline std::function<bool()>& interrupt_check() {
  static std::function<bool()> check;
  return check;
}

// libgomp's threads do not survive a fork: a child that opened a parallel region would hang.
inline std::atomic<bool>& forked() {
  static std::atomic<bool> flag{false};
  return flag;
}

// Called when the module is loaded, since another library may open regions and fork before this one does. `in_child` is
// called once in every child; null: nothing.
inline void watch_forks(void (*in_child)()) {
#ifdef _OPENMP
  static std::atomic<void (*)()> call{nullptr};
  static std::once_flag once;
  call = in_child;
  std::call_once(once, [] {
    pthread_atfork(nullptr, nullptr, [] {
      forked() = true;
      if (call != nullptr) call.load()();
    });
  });
#else
  (void)in_child;
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
inline std::size_t even_chunk(std::size_t n_samples, std::size_t block) {
  const std::size_t wanted = std::clamp<std::size_t>(n_samples / 128, 512, 8192);
  return (wanted + block - 1) / block * block;
}

class Watch {
 public:
  // Chunks after one that failed are not worked on; those before it are, so that the error does not depend on which
  // thread came first.
  bool skips(std::ptrdiff_t index) const {
    return index >= end_.load(std::memory_order_relaxed) || ending().load(std::memory_order_relaxed);
  }

  void keep(std::exception_ptr error, std::ptrdiff_t index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (index >= end_) return;
    error_ = std::move(error);
    end_ = index;
  }

  // Called by the thread that opened the region.
  void ask() {
    if (!asks_for_interrupts || !interrupt_check()) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - asked_ < std::chrono::milliseconds(50)) return;
    asked_ = now;
    if (interrupt_check()()) keep(std::make_exception_ptr(Interrupted{}), kBeforeAll);
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
    if (ending()) throw Ending{};
  }

  static constexpr std::ptrdiff_t kBeforeAll = -1;

 private:
  std::atomic<std::ptrdiff_t> end_{std::numeric_limits<std::ptrdiff_t>::max()};
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
  const auto guarded = [&](std::ptrdiff_t index, auto step) {
    if (watch.skips(index)) return;
    try {
      step();
    } catch (...) {
      watch.keep(std::current_exception(), index);
    }
  };
  const auto work_on = [&](auto& local, std::ptrdiff_t index) {
    const std::size_t begin = static_cast<std::size_t>(index) * chunk;
    work(local, begin, std::min(n, begin + chunk));
  };
  if (threads == 1) {
    auto local = make_local();
    for (std::ptrdiff_t index = 0; index < n_chunks && !watch.skips(index); ++index) {
      watch.ask();
      guarded(index, [&] { work_on(local, index); });
      guarded(index, [&] { merge(local); });
    }
    watch.rethrow();
    return;
  }
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  {
    std::vector<decltype(make_local())> own;  // empty when making it failed
    guarded(Watch::kBeforeAll, [&] { own.push_back(make_local()); });
    const bool opened_region = omp_get_thread_num() == 0;
    const auto step = [&](std::ptrdiff_t index) {
      if (opened_region) watch.ask();
      if (!own.empty()) guarded(index, [&] { work_on(own.front(), index); });
    };
    if constexpr (Ordered) {
#pragma omp for ordered schedule(dynamic, 1)
      for (std::ptrdiff_t index = 0; index < n_chunks; ++index) {
        step(index);
#pragma omp ordered
        if (!own.empty()) guarded(index, [&] { merge(own.front()); });
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

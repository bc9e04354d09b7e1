// Chunks of samples: order, exceptions, interrupts, forks.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "parallel.hpp"
#include "random.hpp"

using namespace convgmm;

namespace {

// A sum whose bits show the order of its terms.
float sum_of(const std::vector<float>& values, int n_threads) {
  float total = 0;
  parallel::ordered_chunks(
      values.size(), 64, n_threads, [] { return 0.0F; },
      [&](float& local, std::size_t begin, std::size_t end) {
        local = std::accumulate(values.begin() + static_cast<std::ptrdiff_t>(begin),
                                values.begin() + static_cast<std::ptrdiff_t>(end), 0.0F);
      },
      [&](float& local) { total += local; });
  return total;
}

void fail_at(std::size_t chunk) { throw std::runtime_error(std::to_string(chunk)); }

}  // namespace

TEST_CASE("sums have the same bits for any number of threads") {
  const auto values = test::normal<float>(10'007, 13);
  const float one = sum_of(values, 1);
  for (const int threads : {2, 3, 5}) CHECK(sum_of(values, threads) == one);
}

TEST_CASE("every sample is in one chunk") {
  for (const int threads : {1, 2, 3})
    for (const std::size_t n : std::initializer_list<std::size_t>{0, 1, 63, 64, 65, 1000}) {
      std::vector<int> seen(n);
      parallel::chunks(
          n, 64, threads, [] { return 0; },
          [&](int, std::size_t begin, std::size_t end) {
            CHECK(end - begin <= 64);
            for (std::size_t i = begin; i < end; ++i) ++seen[i];
          });
      CHECK(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
    }
}

TEST_CASE("the exception of the lowest chunk is carried out") {
  for (const int threads : {1, 2, 3})
    for (int repetition = 0; repetition < 50; ++repetition) {
      const auto work = [](int, std::size_t begin, std::size_t) {
        if (begin == 3) std::this_thread::sleep_for(std::chrono::microseconds(200));
        if (begin >= 3) fail_at(begin);
      };
      CHECK_THROWS_WITH_AS(parallel::chunks(100, 1, threads, [] { return 0; }, work), "3", std::runtime_error);
      int merged = 0;
      CHECK_THROWS_WITH_AS(parallel::ordered_chunks(
                               100, 1, threads, [] { return 0; }, work, [&](int) { ++merged; }),
                           "3", std::runtime_error);
      CHECK(merged == 3);
    }
}

TEST_CASE("what a thread cannot make ends the region") {
  for (const int threads : {1, 2}) {
    const auto none = []() -> int { throw std::bad_alloc(); };
    CHECK_THROWS_AS(parallel::chunks(100, 1, threads, none, [](int, std::size_t, std::size_t) {}), std::bad_alloc);
  }
}

TEST_CASE("only a thread that asks for interrupts is interrupted") {
  parallel::interrupt_check() = [] { return true; };
  for (const int threads : {1, 2})
    for (const bool asks : {false, true}) {
      std::atomic<int> done{0};
      parallel::asks_for_interrupts = asks;
      const auto run = [&] {
        parallel::chunks(
            60, 1, threads, [] { return 0; },
            [&](int, std::size_t, std::size_t) {
              ++done;
              std::this_thread::sleep_for(std::chrono::milliseconds(4));
            });
      };
      if (asks)
        CHECK_THROWS_AS(run(), parallel::Interrupted);
      else
        run();
      CHECK((done == 60) == !asks);
    }
  parallel::asks_for_interrupts = false;
  parallel::interrupt_check() = nullptr;
}

TEST_CASE("regions end when the process does") {
  parallel::ending() = true;
  for (const int threads : {1, 2})
    CHECK_THROWS_AS(
        parallel::chunks(10, 1, threads, [] { return 0; }, [](int, std::size_t, std::size_t) {}), parallel::Ending);
  parallel::ending() = false;
}

TEST_CASE("a forked child computes on its one thread") {
  const auto values = test::normal<float>(10'007, 13);
  const float expected = sum_of(values, 2);
  parallel::watch_forks(nullptr);
  const pid_t child = fork();
  if (child == 0) _exit(parallel::thread_count(4) == 1 && sum_of(values, 2) == expected ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

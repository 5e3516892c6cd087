// The simplest way to share independent pieces of work; see schedule.h for the ones that wait for
// each other.
#pragma once

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace esrgan::cpu {

// Runs body(thread) on `threads` threads, the calling one among them as thread 0. Fewer where the
// system refuses more.
template <class Body>
void on_threads(int threads, const Body& body) {
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) {
    try {
      others.emplace_back([&body, t] { body(t); });
    } catch (const std::system_error&) {
      break;
    }
  }
  body(0);
  for (std::thread& other : others) other.join();
}

template <class Work>
void parallel_for(int count, int threads, const Work& work) {
  std::atomic<int> next{0};
  on_threads(std::min(threads, count), [&](int) {
    for (int i; (i = next.fetch_add(1)) < count;) work(i);
  });
}

}  // namespace esrgan::cpu

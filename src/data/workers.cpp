#include "workers.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <latch>
#include <memory>
#include <mutex>
#include <system_error>

#include "winnow/core/error.h"

namespace winnow::data {

// at::set_num_threads sets the number of its own thread, and the number that threads started later begin with. So the
// workers set theirs first, and the caller then sets its own again, to the number it had.
std::vector<std::thread> start_workers(int64_t count, const std::function<void()>& work) {
  const int intra_op_threads = at::get_num_threads();
  const auto ready = std::make_shared<std::latch>(count);
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  while (static_cast<int64_t>(threads.size()) < count) {
    try {
      threads.emplace_back([ready, work] {
        // LibTorch sets a thread's number again at the first use of either of these two, so that comes first.
        at::internal::lazy_init_num_threads();
        at::get_num_threads();
        at::set_num_threads(1);
        ready->count_down();
        const at::NoGradGuard no_grad;
        work();
      });
    } catch (const std::system_error& error) {
      WINNOW_CHECK_KIND(!threads.empty(), ErrorKind::unsupported, "data: the system starts no thread: {}",
                        error.what());
      ready->count_down(count - static_cast<int64_t>(threads.size()));
      break;
    }
  }
  ready->wait();
  at::set_num_threads(intra_op_threads);
  return threads;
}

void for_each_index(int64_t count, int64_t threads, const std::function<void(int64_t)>& fn) {
  if (threads <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) fn(i);
    return;
  }
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  int64_t error_index = count;
  auto pool = start_workers(std::min(threads, count), [&] {
    for (int64_t i = next++; i < count; i = next++) {
      try {
        fn(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < error_index) error_index = i, error = std::current_exception();
        next = count;
      }
    }
  });
  for (auto& thread : pool) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace winnow::data

// Threads of the data layer. Inside src/data only.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace winnow::data {

// Starts up to `count` threads that run `work`; fewer if the system gives no more, at least one, else winnow::Error.
// Each is set up for LibTorch with one intra-op thread and without gradients, so that workers do not each start a pool.
// The caller's own number of intra-op threads, and that of threads started later, stay as they were. `work` must not
// throw. The caller joins.
std::vector<std::thread> start_workers(int64_t count, const std::function<void()>& work);

// fn(0) ... fn(count - 1), each at most once, on `threads` threads (1: the caller's). After a failure nothing more is
// begun; of several failures the one of the smallest index is thrown, after all threads have ended.
void for_each_index(int64_t count, int64_t threads, const std::function<void(int64_t)>& fn);

}  // namespace winnow::data

#include "winnow/core/stop_signal.h"

#include <atomic>
#include <csignal>

namespace winnow {
namespace {

std::atomic<int> requested = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // the handler below may touch nothing else

struct sigaction before_interrupt, before_terminate;

extern "C" void winnow_on_stop_signal(int signal) {
  if (requested.exchange(signal) == 0) return;
  // The second one: as if there were no handler. The signal is pending until this returns.
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

bool stop_requested() noexcept {
  return requested.load(std::memory_order_relaxed) != 0;
}
int stop_signal() noexcept {
  return requested.load(std::memory_order_relaxed);
}
void request_stop(int signal) noexcept {
  requested.store(signal);
}

void throw_if_stopped() {
  if (stop_requested()) throw Interrupted{};
}

StopSignal::StopSignal() {
  requested = 0;
  struct sigaction action = {};
  action.sa_handler = winnow_on_stop_signal;
  action.sa_flags = SA_RESTART;  // so that a read or write under way does not fail
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_interrupt);
  sigaction(SIGTERM, &action, &before_terminate);
}

StopSignal::~StopSignal() {
  sigaction(SIGINT, &before_interrupt, nullptr);
  sigaction(SIGTERM, &before_terminate, nullptr);
  requested = 0;
}

}  // namespace winnow

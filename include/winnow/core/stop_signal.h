// SIGINT and SIGTERM as a request that long work answers at a safe point.
#pragma once

namespace winnow {

// Whether SIGINT or SIGTERM came. Long work asks at each safe point, saves, and returns. Cheap; any thread.
bool stop_requested() noexcept;
// The signal that came, or 0.
int stop_signal() noexcept;
// What the signal handler does, callable by a program or test; 0 clears the request.
void request_stop(int signal) noexcept;

// Thrown by throw_if_stopped: work that has nothing to save is left this way, and run_program ends with 130 or 143.
struct Interrupted {};
void throw_if_stopped();

// While it lives, the first SIGINT or SIGTERM sets the flag above and a second one ends the process. One at a time;
// run_program has its own. The destructor restores the handlers that were there and clears the request.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
};

}  // namespace winnow

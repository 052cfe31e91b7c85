#pragma once

namespace winnow {

// While one is alive, modules of winnow/nn that are made on this thread leave random initial weights (and the biases
// beside them) unwritten: for a network whose weights are drawn or loaded as a whole right afterwards. Weights that
// start as constants, norms for instance, are written as ever.
class SkipRandomInit {
 public:
  SkipRandomInit() { ++depth; }
  ~SkipRandomInit() { --depth; }
  SkipRandomInit(const SkipRandomInit&) = delete;
  SkipRandomInit& operator=(const SkipRandomInit&) = delete;

  static bool active() { return depth > 0; }

 private:
  static inline thread_local int depth = 0;
};

}  // namespace winnow

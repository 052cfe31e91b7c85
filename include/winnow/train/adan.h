// Adan: adaptive Nesterov momentum (Xie et al., arXiv 2208.06677).
#pragma once

#include "winnow/train/optimizer.h"

namespace winnow::train {

struct AdanOptions {
  double beta1 = 0.98;         // [0, 1), of the gradient
  double beta2 = 0.92;         // [0, 1), of the gradient difference
  double beta3 = 0.99;         // [0, 1), of the square
  double eps = 1e-8;           // > 0
  double max_grad_norm = 0.0;  // >= 0; global clipping over all parameters by min(1, max / (norm + eps)); 0 = off
  bool decay_before = false;   // false: p = (p - lr u) / (1 + lr wd) (proximal); true: p = p (1 - lr wd) - lr u
};

// With d = g - g_previous (0 at the first step): m = b1 m + (1-b1) g; v = b2 v + (1-b2) d; n = b3 n + (1-b3) (g + b2
// d)^2; u = (m / (1-b1^t) + b2 v / (1-b2^t)) / (sqrt(n / (1-b3^t)) + eps). g is the clipped gradient. Slots exp_avg,
// exp_avg_diff, exp_avg_sq, previous_grad.
class Adan : public Optimizer {
 public:
  explicit Adan(std::vector<ParamGroup> groups, AdanOptions options = {});

 protected:
  std::vector<std::string> slot_names() const override;
  void before_update(const std::vector<Entry*>& all) override;
  void update(const std::vector<Entry*>& entries, double lr, double weight_decay) override;

 private:
  AdanOptions options_;
};

}  // namespace winnow::train

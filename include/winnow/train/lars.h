// LARS: layer-wise adaptive rates (You et al., arXiv 1708.03888), in the form used for linear probes of self-supervised
// ViTs.
#pragma once

#include "winnow/train/optimizer.h"

namespace winnow::train {

struct LarsOptions {
  double momentum = 0.9;  // [0, 1)
  double trust = 0.001;   // > 0, the trust coefficient
};

// For a parameter with more than one dimension: u = g + wd p; u *= trust |p| / |u|, the factor being 1 if either norm
// is 0. For the others u = g: no decay, no trust ratio. Then buffer = momentum * buffer + u; p -= lr * buffer. The rate
// multiplies the buffer, not what enters it, so a change of rate acts at once. Slot "mu" (zero at first).
class Lars : public Optimizer {
 public:
  explicit Lars(std::vector<ParamGroup> groups, LarsOptions options = {});

 protected:
  std::vector<std::string> slot_names() const override;
  void update(const std::vector<Entry*>& entries, double lr, double weight_decay) override;

 private:
  LarsOptions options_;
};

}  // namespace winnow::train

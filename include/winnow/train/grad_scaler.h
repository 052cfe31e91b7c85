// Loss scaling for fp16 training (Micikevicius et al., arXiv 1710.03740).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "winnow/train/state.h"

namespace winnow::train {

struct GradScalerOptions {
  double initial_scale = 65536.0;  // > 0
  double growth = 2.0;             // > 1, factor after `interval` good steps in a row
  double backoff = 0.5;            // in (0, 1), factor after a step with an infinite or NaN gradient
  int64_t interval = 2000;         // >= 1
};

// Order of use in a step: scale(loss).backward(); const bool good = unscale(parameters); if (good) optimizer.step(lr);
// update(good). With accumulation, scale every micro-batch and unscale once before the step.
class GradScaler : public Stateful {
 public:
  explicit GradScaler(GradScalerOptions options = {});

  at::Tensor scale(const at::Tensor& loss) const;  // loss * scale

  // Divides all gradients by the scale, in place. False if any is infinite or NaN: the step must be left out. One
  // device-to-host read.
  bool unscale(const std::vector<at::Tensor>& parameters) const;

  // Backs off after a bad step, grows after `interval` good ones in a row.
  void update(bool good);

  double current_scale() const { return scale_; }
  StateDict state() const override;
  void load_state(const StateDict& state) override;

 private:
  GradScalerOptions options_;
  double scale_;
  int64_t good_steps_ = 0;  // in a row, since the last change of the scale
};

}  // namespace winnow::train

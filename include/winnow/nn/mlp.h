#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "winnow/core/options.h"
#include "winnow/nn/activation.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/linear.h"

namespace winnow {

enum class MlpKind {
  plain,  // fc2(act(fc1 x))
  gated,  // fc2(act(gate x) * fc1 x): GEGLU with gelu, SwiGLU with silu (Shazeer 2020, arXiv 2002.05202)
};
EnumNames<MlpKind> enum_names(MlpKind);

struct MlpOptions {
  int64_t dim = 0;     // D >= 1, width of the input
  int64_t hidden = 0;  // width inside; 0 means 4 D
  int64_t out = 0;     // width of the output; 0 means D
  MlpKind kind = MlpKind::plain;
  Activation activation = Activation::gelu;
  bool bias = true;      // of all linear layers
  double dropout = 0.0;  // after the activation, in training
  uint64_t seed = 0;     // of the dropout's generator
  static Fields<MlpOptions> fields();
};

// The feed-forward layer of a transformer. Children: fc1, fc2 and, when gated, gate (what published files call
// up_proj, down_proj and gate_proj).
struct MlpImpl : torch::nn::Cloneable<MlpImpl>, Hookable {
  explicit MlpImpl(MlpOptions opts);  // throws winnow::Error on a size out of range
  void reset() override;

  // x [..., D] -> [..., out]; any leading shape, also empty.
  at::Tensor forward(const at::Tensor& x);

  MlpOptions options;
  Linear fc1{nullptr}, gate{nullptr}, fc2{nullptr};
  Dropout drop{nullptr};  // only if dropout > 0
};
TORCH_MODULE(Mlp);

}  // namespace winnow

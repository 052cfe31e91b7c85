#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "winnow/core/options.h"
#include "winnow/nn/activation.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/linear.h"

namespace winnow {

struct MambaMixerOptions {
  int64_t dim = 0;      // D >= 1
  int64_t inner = 0;    // E; 0: 2 dim
  int64_t states = 16;  // N
  int64_t kernel = 4;   // width of the convolution, >= 1
  int64_t rank = 0;     // of the step sizes; 0: dim / 16, rounded up
  bool bias = false;    // of in_proj and out_proj
  bool conv_bias = true;
  Activation activation = Activation::silu;  // behind the convolution
  static Fields<MambaMixerOptions> fields();
};

// What a mixer remembers of the tokens it has read; undefined before the first.
struct MambaMixerState {
  at::Tensor conv;  // [B, kernel - 1, E]: the last inputs of the convolution, oldest first
  at::Tensor scan;  // [B, N, E]
};

// The sequence mixer of Mamba: projection to two halves, a short causal convolution, the selective scan, the gate,
// projection back. Source: Gu and Dao 2023, arXiv 2312.00752, section 3.4. Children: in_proj, x_proj (rows: step
// sizes, B, C), dt_proj, out_proj; parameters conv_weight [E, kernel], conv_bias [E], a_log [E, N] (A = -exp(a_log)),
// d [E].
struct MambaMixerImpl : torch::nn::Cloneable<MambaMixerImpl>, Hookable {
  explicit MambaMixerImpl(MambaMixerOptions opts);  // throws winnow::Error on a size out of range
  void reset() override;
  // Draws the parameters as the official code does: A = -1 .. -N, d = 1, step sizes log-uniform in [0.001, 0.1], the
  // matrices U(-1/sqrt(in), 1/sqrt(in)). reset() does so with seed 0.
  void init_weights(at::Generator generator);

  // x [B, L, D] -> [B, L, D]. keep [B, L], nonzero = a real token: padding on the left changes nothing behind it.
  // With a state the tokens continue those before, and it is moved on; it takes no part in autograd.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& keep = {}, MambaMixerState* state = nullptr);

  MambaMixerOptions options;  // with every 0 replaced by its meaning
  Linear in_proj{nullptr}, x_proj{nullptr}, dt_proj{nullptr}, out_proj{nullptr};
  at::Tensor conv_weight, conv_bias, a_log, d;

 private:
  at::Tensor convolve(const at::Tensor& u, MambaMixerState* state) const;
};
TORCH_MODULE(MambaMixer);

}  // namespace winnow

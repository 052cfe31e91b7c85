#include "winnow/nn/activation.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

namespace winnow {

EnumNames<Activation> enum_names(Activation) {
  return {{"gelu", Activation::gelu},
          {"gelu_new", Activation::gelu_new},
          {"quick_gelu", Activation::quick_gelu},
          {"relu", Activation::relu},
          {"silu", Activation::silu}};
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::gelu: return at::gelu(x, "none");
    case Activation::gelu_new: return at::gelu(x, "tanh");
    case Activation::quick_gelu: return x * at::sigmoid(x * 1.702);
    case Activation::relu: return at::relu(x);
    case Activation::silu: return at::silu(x);
  }
  fail(ErrorKind::argument, "activate: activation must be one of the enum, got {}", static_cast<int>(activation));
}

}  // namespace winnow

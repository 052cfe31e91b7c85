#include "winnow/nn/mlp.h"

#include "winnow/core/error.h"

namespace winnow {

EnumNames<MlpKind> enum_names(MlpKind) {
  return {{"plain", MlpKind::plain}, {"gated", MlpKind::gated}};
}

Fields<MlpOptions> MlpOptions::fields() {
  return Fields<MlpOptions>("Mlp")
      .add("dim", &MlpOptions::dim, "width of the input; 0: that of the enclosing block", at_least(0))
      .add("hidden", &MlpOptions::hidden, "width inside; 0: 4 times dim", at_least(0))
      .add("out", &MlpOptions::out, "width of the output; 0: dim", at_least(0))
      .add("kind", &MlpOptions::kind, "plain, or gated by a second linear layer")
      .add("activation", &MlpOptions::activation, "activation inside")
      .add("bias", &MlpOptions::bias, "whether the linear layers have biases")
      .add("dropout", &MlpOptions::dropout, "dropout after the activation", in_range(0, 1, Ends::right_open))
      .add("seed", &MlpOptions::seed, "of the dropout's generator");
}

MlpImpl::MlpImpl(MlpOptions opts) : options(opts) {
  check(options);
  WINNOW_CHECK(options.dim >= 1, "Mlp: dim must be >= 1, got {}", options.dim);
  if (options.hidden == 0) options.hidden = 4 * options.dim;
  if (options.out == 0) options.out = options.dim;
  reset();
}

void MlpImpl::reset() {
  const auto& o = options;
  fc1 = register_module("fc1", Linear(o.dim, o.hidden, o.bias));
  if (o.kind == MlpKind::gated) gate = register_module("gate", Linear(o.dim, o.hidden, o.bias));
  fc2 = register_module("fc2", Linear(o.hidden, o.out, o.bias));
  if (o.dropout > 0) drop = register_module("drop", Dropout(DropOptions{.p = o.dropout, .seed = o.seed}));
}

at::Tensor MlpImpl::forward(const at::Tensor& x) {
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) == options.dim, "Mlp: x must have {} as its last size, got shape [{}]",
               options.dim, fmt::join(x.sizes(), ", "));
  at::Tensor hidden;  // [..., hidden]
  if (gate) {
    hidden = activate(gate->forward(x), options.activation) * fc1->forward(x);
  } else {
    hidden = activate(fc1->forward(x), options.activation);
  }
  if (drop) hidden = drop->forward(hidden);
  return hooked(fc2->forward(hidden));
}

}  // namespace winnow

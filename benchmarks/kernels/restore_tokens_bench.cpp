// Restoring the sequence (mask tokens and positions in one pass), forward and backward, beside concatenate, gather,
// add.
#include <torch/torch.h>

#include "bench.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"

using namespace winnow;

namespace {

at::Tensor composed(const at::Tensor& kept, const at::Tensor& ids, const at::Tensor& fill,
                    const at::Tensor& positions) {
  const auto B = kept.size(0), L = ids.size(1), D = kept.size(2), K = kept.size(1) - 1;
  const auto tokens = at::cat({kept.narrow(1, 1, K), fill.view({1, 1, D}).expand({B, L - K, D})}, 1);
  const auto rows = (ids + at::arange(B).view({B, 1}) * L).flatten();
  const auto ordered = tokens.reshape({B * L, D}).index_select(0, rows).view({B, L, D});
  return at::cat({kept.narrow(1, 0, 1), ordered}, 1) + positions;
}

void compare(bench::Report& report, int64_t B, int64_t L, int64_t D) {
  const auto kept = at::randn({B, 1 + L / 4, D}, make_generator(1)).requires_grad_();
  const auto fill = at::randn({D}, make_generator(2)).requires_grad_();
  const auto positions = at::randn({1 + L, D}, make_generator(3)), upper = at::randn({B, 1 + L, D}, make_generator(4));
  const auto ids = masking_permutation(at::rand({B, L}, make_generator(5)), L / 4).ids_restore;
  const auto gradient = [=](const at::Tensor& y) { bench::keep(torch::autograd::grad({y}, {kept, fill}, {upper})); };
  report.compare("B " + std::to_string(B) + " L " + std::to_string(L) + " D " + std::to_string(D),
                 {"winnow", [=] { gradient(restore_tokens(kept, ids, fill, positions, 1)); }},
                 {"LibTorch", [=] { gradient(composed(kept, ids, fill, positions)); }}, {.target = 1.2});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("restore_tokens", argc, argv, [](bench::Report& report) {
    compare(report, 8, 196, 96);
    compare(report, 8, 196, 512);
    compare(report, 64, 16, 48);
  });
}

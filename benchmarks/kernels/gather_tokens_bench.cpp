// Gathering kept tokens (forward and backward) and kept patches beside LibTorch's best compositions.
#include <torch/torch.h>

#include "bench.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"
#include "winnow/tensor/patches.h"

using namespace winnow;

namespace {

// Rows of the flattened batch: a copy per row, faster than at::gather with an expanded index.
at::Tensor select_rows(const at::Tensor& x, const at::Tensor& ids) {
  const auto B = x.size(0), L = x.size(1);
  const auto rows = ids + at::arange(B).view({B, 1}) * L;
  return x.reshape({B * L, -1}).index_select(0, rows.flatten()).view({B, ids.size(1), -1});
}

void compare(bench::Report& report, int64_t B, int64_t L, int64_t D) {
  const auto x = at::randn({B, L, D}, make_generator(1)).requires_grad_();
  const auto ids = masking_permutation(at::rand({B, L}, make_generator(2)), L / 4).ids_keep;
  const auto upper = at::randn({B, L / 4, D}, make_generator(3));
  const auto name = "B " + std::to_string(B) + " L " + std::to_string(L) + " D " + std::to_string(D);
  const auto fixed = x.detach();
  report.compare(name + ", forward", {"winnow", [=] { bench::keep(gather_tokens(fixed, ids)); }},
                 {"index_select", [=] { bench::keep(select_rows(fixed, ids)); }}, {.target = 1.2});
  report.compare(name + ", with gradient",
                 {"winnow", [=] { bench::keep(torch::autograd::grad({gather_tokens(x, ids)}, {x}, {upper})); }},
                 {"index_select", [=] { bench::keep(torch::autograd::grad({select_rows(x, ids)}, {x}, {upper})); }},
                 {.target = 1.2});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("gather_tokens", argc, argv, [](bench::Report& report) {
    compare(report, 8, 196, 192);
    compare(report, 64, 16, 64);
    const auto images = at::randn({8, 3, 224, 224}, make_generator(4));
    const auto ids = masking_permutation(at::rand({8, 196}, make_generator(5)), 49).ids_keep;
    report.compare("kept patches of 8 x 3 x 224 x 224, p 16",
                   {"winnow", [=] { bench::keep(gather_patches(images, 16, ids)); }},
                   {"permute + index_select",
                    [=] {
                      const auto all = images.view({8, 3, 14, 16, 14, 16}).permute({0, 2, 4, 1, 3, 5});
                      bench::keep(select_rows(all.reshape({8, 196, 768}), ids));
                    }},
                   {.target = 1.2});
  });
}

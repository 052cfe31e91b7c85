// The permutation of random masking beside two sorts, a gather and a fill in LibTorch.
#include <torch/torch.h>

#include "bench.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"

using namespace winnow;

int main(int argc, char** argv) {
  return bench::run("masking_permutation", argc, argv, [](bench::Report& report) {
    for (const auto& [B, L] : {std::pair<int64_t, int64_t>{8, 196}, {64, 16}, {64, 196}, {8, 4096}}) {
      const auto noise = at::rand({B, L}, make_generator(1));
      const auto keep = L / 4;
      report.compare("B " + std::to_string(B) + " L " + std::to_string(L),
                     {"winnow", [=] { bench::keep(masking_permutation(noise, keep)); }},
                     {"LibTorch",
                      [=] {
                        const auto shuffle = std::get<1>(at::sort(noise, std::optional<bool>(true), 1, false));
                        const auto restore = at::empty_like(shuffle).scatter_(
                            1, shuffle, at::arange(noise.size(1)).expand_as(shuffle));  // cheaper than a second sort
                        bench::keep(at::ones_like(noise).scatter_(1, shuffle.narrow(1, 0, keep), 0.0));
                        bench::keep(restore);
                      }},
                     {.target = 1.2});
    }
  });
}

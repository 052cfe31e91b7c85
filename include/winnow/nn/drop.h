#pragma once
#include <ATen/core/Generator.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <vector>

#include "winnow/core/options.h"
#include "winnow/nn/hooks.h"

namespace winnow {

struct DropOptions {
  double p = 0.0;     // probability of zero, 0 <= p < 1
  uint64_t seed = 0;  // of the module's own generator, see set_drop_generator
  static Fields<DropOptions> fields();
};

// Each element of x is zero with probability p, else divided by 1 - p. The draws come from `generator`, a CPU generator
// for a CPU tensor; for a tensor elsewhere a generator of that device, or a CPU generator (drawn there, then copied).
at::Tensor dropout(const at::Tensor& x, double p, at::Generator generator);

// Whole samples (rows of dimension 0) are zero with probability p, else divided by 1 - p.
at::Tensor drop_path(const at::Tensor& x, double p, at::Generator generator);

// Dropout with an explicit generator; the identity in evaluation. A clone has a generator of its own, seeded anew.
struct DropoutImpl : torch::nn::Cloneable<DropoutImpl>, Hookable {
  explicit DropoutImpl(DropOptions opts);
  void reset() override;
  at::Tensor forward(const at::Tensor& x);

  DropOptions options;
  at::Generator generator;
};
TORCH_MODULE(Dropout);

// Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training the branch of a whole sample is zero with
// probability p and divided by 1 - p otherwise; the identity in evaluation. x [B, ...].
struct DropPathImpl : torch::nn::Cloneable<DropPathImpl>, Hookable {
  explicit DropPathImpl(DropOptions opts);
  void reset() override;
  at::Tensor forward(const at::Tensor& x);

  DropOptions options;
  at::Generator generator;
};
TORCH_MODULE(DropPath);

// Rates for `depth` blocks that rise linearly from 0 (first block) to `last` (last block); depth 1 gives {0}.
std::vector<double> drop_path_rates(int64_t depth, double last);

// Lets every Dropout, DropPath and attention dropout of the tree draw from one generator: then its state is the state
// to save in a checkpoint. Without this call each module draws from its own generator, seeded by its options.
void set_drop_generator(torch::nn::Module& root, const at::Generator& generator);

// The distinct generators of the Dropout and DropPath modules of the tree, in the order of named_modules().
std::vector<at::Generator> drop_generators(torch::nn::Module& root);

}  // namespace winnow

#include "text_parts.h"

#include <torch/types.h>

#include <string>

#include "winnow/core/error.h"
#include "winnow/nn/init.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {

void check_token_ids(const char* what, const at::Tensor& ids, int64_t vocabulary, int64_t longest) {
  const auto name = std::string(what) + ": ids";
  check_dim(name, ids, 2);
  check_dtype(name, ids, at::kLong);
  WINNOW_CHECK(ids.size(1) >= 1, "{} must hold at least one token, got an empty sequence", name);
  WINNOW_CHECK(ids.size(1) <= longest, "{} must hold at most {} tokens, the positions that there are, got {}", name,
               longest, ids.size(1));
  check_indices(name, ids, vocabulary);
}

at::Tensor position_rows(const char* what, LearnedPositions table, const at::Tensor& positions, int64_t length) {
  if (!positions.defined()) return table->forward(length);
  WINNOW_CHECK(positions.dim() >= 1 && positions.dim() <= 2 && positions.size(-1) == length,
               "{}: positions must have shape [{}] or [*, {}], got [{}]", what, length, length,
               fmt::join(positions.sizes(), ", "));
  return table->forward(positions);
}

AttentionMask keep_mask(const char* what, const at::Tensor& keep, const at::Tensor& ids) {
  if (!keep.defined()) return {};
  check_shape(std::string(what) + ": keep", keep, ids.sizes());
  if (keep.is_cpu() && keep.all().item<bool>()) return {};
  return padding_mask(keep);
}

void init_normal_weights(torch::nn::Module& root, uint64_t seed, double deviation) {
  if (SkipRandomInit::active()) return;  // all of it is about to be read from a file
  const at::NoGradGuard no_grad;
  const auto generator = make_generator(seed);
  for (auto& item : root.named_parameters()) {
    auto& parameter = item.value();
    if (parameter.dim() >= 2) {
      normal_(parameter, generator, deviation);
    } else if (item.key().ends_with("bias")) {
      parameter.zero_();
    }
  }
}

}  // namespace winnow::models

#include "winnow/train/language_model.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/cross_entropy.h"

namespace winnow::train {

Fields<PerplexityOptions> PerplexityOptions::fields() {
  return Fields<PerplexityOptions>("Perplexity")
      .add("window", &PerplexityOptions::window, "tokens that one call reads", at_least(1))
      .add("stride", &PerplexityOptions::stride, "new tokens judged in each call", at_least(1))
      .add("batch", &PerplexityOptions::batch, "windows in one call", at_least(1));
}

double TextLoss::perplexity() const {
  return std::exp(mean());
}

double TextLoss::bits_per_byte(int64_t bytes) const {
  return bytes > 0 ? nll / std::log(2.0) / static_cast<double>(bytes) : 0.0;
}

namespace {

struct Window {
  int64_t begin, length;  // tokens read
  int64_t judged;         // the last `judged` of them predict a token that is counted
};

std::vector<Window> windows_of(int64_t tokens, const PerplexityOptions& o) {
  std::vector<Window> windows;
  for (int64_t next = 1; next < tokens;) {
    const auto judged = std::min(windows.empty() ? o.window : o.stride, tokens - next);
    const auto end = next + judged - 1;  // behind the last token read
    const auto begin = std::max<int64_t>(0, end - o.window);
    windows.push_back({.begin = begin, .length = end - begin, .judged = judged});
    next += judged;
  }
  return windows;
}

}  // namespace

TextLoss strided_loss(LanguageModel& model, const at::Tensor& ids, const PerplexityOptions& options,
                      const std::function<void(int64_t)>& progress) {
  check(options);
  check_dtype("strided_loss: ids", ids, at::kLong);
  check_dim("strided_loss: ids", ids, 1);
  WINNOW_CHECK(options.stride <= options.window, "strided_loss: stride must be at most window = {}, got {}",
               options.window, options.stride);
  const auto context = model.context_length();
  WINNOW_CHECK(context == 0 || options.window <= context,
               "strided_loss: window must be at most the model's context of {} tokens, got {}", context,
               options.window);
  const at::NoGradGuard no_grad;
  const auto windows = windows_of(ids.size(0), options);
  TextLoss result;
  for (size_t i = 0; i < windows.size();) {
    const auto& first = windows[i];
    std::vector<at::Tensor> inputs, targets;
    while (i < windows.size() && static_cast<int64_t>(inputs.size()) < options.batch &&
           windows[i].length == first.length && windows[i].judged == first.judged) {
      const auto& w = windows[i++];
      inputs.push_back(ids.narrow(0, w.begin, w.length));
      targets.push_back(ids.narrow(0, w.begin + w.length - w.judged + 1, w.judged));
    }
    const auto logits = model.run({.ids = at::stack(inputs)}).logits;  // [R, length, V]
    const auto nll = token_nll(logits.narrow(1, first.length - first.judged, first.judged), at::stack(targets));
    result.nll += nll.sum(at::kDouble).item<double>();
    result.tokens += nll.numel();
    if (progress) progress(result.tokens);
  }
  return result;
}

}  // namespace winnow::train

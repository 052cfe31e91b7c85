// Any bytes as a config.json: a configuration, or one winnow::Error of one line. A configuration of a decoder-only
// language model keeps its promises: what it would save reads the same, and a small one can be built and run.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/models/bert.h"
#include "winnow/models/causal_lm.h"
#include "winnow/models/clip.h"
#include "winnow/models/mamba.h"
#include "winnow/models/t5.h"
#include "winnow/models/videomae.h"
#include "winnow/models/vit_config.h"
#include "winnow/models/whisper.h"

namespace {

using winnow::io::JsonObject;
namespace models = winnow::models;

// About how many numbers the weights hold; large where it is not worth counting.
double weights_of(const models::CausalLMConfig& config) {
  const auto number = [](int64_t x) { return static_cast<double>(x); };
  const double width = number(config.hidden_size);
  double sum = number(config.vocab_size + config.learned_positions) * width * 2.0;
  for (const auto& layer : config.layers) {
    const auto& attention = layer.block.attention;
    const double experts = layer.moe ? number(layer.moe->experts) : 1.0;
    const double inner = number(layer.moe ? layer.moe->hidden : layer.block.mlp.hidden);
    const double heads =
        number(attention.heads) * number(std::max(attention.head_dim, config.hidden_size / attention.heads));
    sum += width * (4.0 * heads + 3.0 * experts * (inner + 1.0));
  }
  return sum;
}

void check_causal_lm(const JsonObject& json) {
  const auto config = models::read_causal_lm_config(json);
  const auto again = models::read_causal_lm_config(JsonObject(config.json, "again"));
  if (again.json != config.json || again.layers.size() != config.layers.size()) std::abort();
  if (weights_of(config) > 2e5) return;
  const at::NoGradGuard no_grad;
  models::CausalLM model(config);
  model->eval();
  const auto length = std::min<int64_t>(config.context_length, 5);
  const auto logits = model->forward(at::zeros({1, length}, at::kLong));
  if (logits.size(1) != length || logits.size(2) != config.vocab_size) std::abort();
  if (model->weight_map().names().empty() || model->config_json().empty()) std::abort();
}

using Check = void (*)(const JsonObject&);

template <auto Read>
void only_read(const JsonObject& json) {
  Read(json);
}

const std::map<std::string_view, Check>& families() {
  static const std::map<std::string_view, Check> table = {
      {"Bert", only_read<models::read_bert_config>},         {"CLIP", only_read<models::read_clip_config>},
      {"DeiT", only_read<models::read_deit_config>},         {"Dinov2", only_read<models::read_dinov2_config>},
      {"Mamba", only_read<models::read_mamba_config>},       {"T5", only_read<models::read_t5_config>},
      {"VideoMAE", only_read<models::read_videomae_config>}, {"ViTFor", only_read<models::read_vit_config>},
      {"ViTMAE", only_read<models::read_vit_mae_config>},    {"ViTModel", only_read<models::read_vit_config>},
      {"Whisper", only_read<models::read_whisper_config>}};
  return table;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const JsonObject json(winnow::io::parse_json({reinterpret_cast<const char*>(data), size}, "config.json"),
                          "config.json");
    const auto names = json.get_or<std::vector<std::string>>("architectures", {});
    const std::string name = names.empty() ? "" : names.front();
    for (const auto& [prefix, check] : families()) {
      if (name.starts_with(prefix)) {
        check(json);
        return 0;
      }
    }
    check_causal_lm(json);
  } catch (const winnow::Error& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}

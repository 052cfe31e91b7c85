// GPT-2: learned positions, LayerNorm, tanh GELU, linear layers kept as [in, out]. Source: Radford et al. 2019.
#include <fmt/format.h>

#include <cmath>

#include "causal_lm_family.h"
#include "winnow/core/error.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

void describe(const JsonObject& json, CausalLMConfig& c) {
  c.vocab_size = size_of(json, "vocab_size");
  c.hidden_size = size_of(json, "n_embd");
  c.context_length = c.learned_positions = size_of(json, "n_positions");
  c.norm = NormKind::layer;
  c.eps = json.get<double>("layer_norm_epsilon");
  c.tied = json.get<bool>("tie_word_embeddings");
  c.embed_dropout = rate_of(json, "embd_pdrop");
  c.initializer_range = json.get<double>("initializer_range");
  const auto heads = size_of(json, "n_head");
  WINNOW_CHECK_KIND(c.hidden_size % heads == 0, ErrorKind::file, "{}: n_head must divide n_embd = {}, got {}",
                    json.file(), c.hidden_size, heads);
  const auto inner = json.has("n_inner") ? size_of(json, "n_inner") : 4 * c.hidden_size;
  const auto activation =
      activation_of(json.get<std::string>("activation_function"), json.file() + ": activation_function");
  const auto layers = size_of(json, "n_layer", 4096);
  const bool by_root = json.get<bool>("scale_attn_weights"),
             by_layer = json.get<bool>("scale_attn_by_inverse_layer_idx");
  const double root = by_root ? 1.0 / std::sqrt(static_cast<double>(c.hidden_size / heads)) : 1.0;
  for (int64_t i = 0; i < layers; ++i) {
    CausalLMLayer layer;
    layer.block = {
        .dim = c.hidden_size, .norm = NormKind::layer, .eps = c.eps, .dropout = rate_of(json, "resid_pdrop")};
    layer.block.attention = {.heads = heads,
                             .scale = by_layer ? root / static_cast<double>(i + 1) : root,
                             .dropout = rate_of(json, "attn_pdrop")};
    layer.block.mlp = {.hidden = inner, .activation = activation};
    c.layers.push_back(std::move(layer));
  }
}

// Conv1D keeps y = x W + b with W [in, out]; the columns of c_attn are q, then k, then v.
void add_conv1d(WeightMap& map, const Linear& linear, const std::string& name) {
  map.add_forms({{{.name = name + ".weight", .parts = {transposed(whole(linear->weight))}}}});
  map.add(linear->bias, {name + ".bias"});
}

WeightMap weights(const CausalLMImpl& model) {
  WeightMap map({"published"});
  const std::string base = "transformer.";
  map.accept_prefix(base);
  map.add(model.embed->weight, {base + "wte.weight"});
  map.add(model.pos_embed->weight, {base + "wpe.weight"});
  int64_t index = 0;
  for (auto& block : *model.blocks.ptr()) {
    const auto layer = fmt::format("{}h.{}.", base, index++);
    add_norm(map, block->norm1, layer + "ln_1");
    add_conv1d(map, block->attn->qkv, layer + "attn.c_attn");
    add_conv1d(map, block->attn->proj, layer + "attn.c_proj");
    add_norm(map, block->norm2, layer + "ln_2");
    add_conv1d(map, block->mlp->fc1, layer + "mlp.c_fc");
    add_conv1d(map, block->mlp->fc2, layer + "mlp.c_proj");
    map.ignore({layer + "attn.bias", layer + "attn.masked_bias"});  // mask buffers
  }
  add_norm(map, model.norm, base + "ln_f");
  add_head(map, model, "lm_head.weight", base + "wte.weight");
  return map;
}

}  // namespace

CausalLMFamily gpt2_family() {
  return {.architecture = "GPT2LMHeadModel",
          .model_type = "gpt2",
          .defaults = {{"activation_function", "gelu_new"},
                       {"attn_pdrop", 0.1},
                       {"embd_pdrop", 0.1},
                       {"initializer_range", 0.02},
                       {"layer_norm_epsilon", 1e-5},
                       {"n_embd", 768},
                       {"n_head", 12},
                       {"n_inner", Json()},
                       {"n_layer", 12},
                       {"n_positions", 1024},
                       {"resid_pdrop", 0.1},
                       {"scale_attn_by_inverse_layer_idx", false},
                       {"scale_attn_weights", true},
                       {"tie_word_embeddings", true},
                       {"vocab_size", 50257}},
          // n_ctx repeats n_positions; the upcast concerns half precision only; the rest belongs to other heads.
          .passed_over = {"_num_labels", "n_ctx", "n_special", "predict_special_tokens", "reorder_and_upcast_attn",
                          "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
                          "summary_use_proj"},
          .describe = describe,
          .weights = weights};
}

CausalLMConfig gpt2_config(const CausalLMSizes& s) {
  const Json json = {{"architectures", {"GPT2LMHeadModel"}},
                     {"vocab_size", s.vocab_size},
                     {"n_positions", s.context_length},
                     {"n_embd", s.dim},
                     {"n_layer", s.depth},
                     {"n_head", s.heads},
                     {"n_inner", s.hidden > 0 ? Json(s.hidden) : Json()},
                     {"attn_pdrop", s.dropout},
                     {"embd_pdrop", s.dropout},
                     {"resid_pdrop", s.dropout},
                     {"tie_word_embeddings", s.tied},
                     {"bos_token_id", Json()},
                     {"eos_token_id", Json()}};
  return read_causal_lm_config(JsonObject(json, "gpt2_config"));
}

}  // namespace winnow::models

// GPT-NeoX and Pythia: parallel residual branches, rotary positions on a part of each head, q, k and v fused head by
// head. Source: Black et al. 2022, arXiv 2204.06745.
#include <fmt/format.h>

#include "causal_lm_family.h"
#include "winnow/core/error.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

void describe(const JsonObject& json, CausalLMConfig& c) {
  c.vocab_size = size_of(json, "vocab_size");
  c.hidden_size = size_of(json, "hidden_size");
  c.context_length = size_of(json, "max_position_embeddings");
  c.norm = NormKind::layer;
  c.eps = json.get<double>("layer_norm_eps");
  c.tied = json.get<bool>("tie_word_embeddings");
  c.embed_dropout = rate_of(json, "hidden_dropout");
  c.initializer_range = json.get<double>("initializer_range");
  const auto heads = size_of(json, "num_attention_heads");
  WINNOW_CHECK_KIND(c.hidden_size % heads == 0, ErrorKind::file,
                    "{}: num_attention_heads must divide hidden_size = {}, got {}", json.file(), c.hidden_size, heads);
  c.rotary = rotary_of(json, c.hidden_size / heads, /*partial=*/0.25);
  const bool parallel = json.get<bool>("use_parallel_residual"), biased = json.get<bool>("attention_bias");
  TransformerBlockOptions block{.dim = c.hidden_size,
                                .order = parallel ? ResidualOrder::parallel : ResidualOrder::pre_norm,
                                .norm = NormKind::layer,
                                .eps = c.eps,
                                .dropout = c.embed_dropout};
  block.attention = {.heads = heads,
                     .qkv_bias = biased ? QkvBias::all : QkvBias::none,
                     .out_bias = biased,
                     .dropout = rate_of(json, "attention_dropout")};
  block.mlp = {.hidden = size_of(json, "intermediate_size"),
               .activation = activation_of(json.get<std::string>("hidden_act"), json.file() + ": hidden_act")};
  c.layers.assign(static_cast<size_t>(size_of(json, "num_hidden_layers", 4096)), {.block = block});
}

// The rows go head by head, inside a head q, k, v; here all of q comes first.
void add_fused_qkv(WeightMap& map, const at::Tensor& fused, const AttentionOptions& o, const std::string& name) {
  auto shape = fused.sizes().vec();
  const WeightPart part{.parameter = fused, .view = [heads = o.heads, d = o.head_dim](const at::Tensor& x) {
                          return x.unflatten(0, {3, heads, d}).transpose(0, 1);
                        }};
  map.add_forms({{{.name = name, .parts = {part}, .shape = std::move(shape)}}});
}

WeightMap weights(const CausalLMImpl& model) {
  WeightMap map({"published"});
  const std::string base = "gpt_neox.", embedding = base + "embed_in.weight";
  map.accept_prefix(base);
  map.add(model.embed->weight, {embedding});
  int64_t index = 0;
  for (auto& block : *model.blocks.ptr()) {
    const auto layer = fmt::format("{}layers.{}.", base, index++);
    const auto attention = layer + "attention.";
    const auto& qkv = block->attn->qkv;
    add_norm(map, block->norm1, layer + "input_layernorm");
    add_fused_qkv(map, qkv->weight, block->attn->options, attention + "query_key_value.weight");
    if (qkv->bias.defined()) {
      add_fused_qkv(map, qkv->bias, block->attn->options, attention + "query_key_value.bias");
    }
    add_linear(map, block->attn->proj, attention + "dense");
    add_norm(map, block->norm2, layer + "post_attention_layernorm");
    add_linear(map, block->mlp->fc1, layer + "mlp.dense_h_to_4h");
    add_linear(map, block->mlp->fc2, layer + "mlp.dense_4h_to_h");
    map.ignore({attention + "bias", attention + "masked_bias", attention + "rotary_emb.inv_freq"});  // buffers
  }
  add_norm(map, model.norm, base + "final_layer_norm");
  add_head(map, model, "embed_out.weight", embedding);
  return map;
}

}  // namespace

CausalLMFamily gpt_neox_family() {
  return {
      .architecture = "GPTNeoXForCausalLM",
      .model_type = "gpt_neox",
      .defaults = {{"attention_bias", true},
                   {"attention_dropout", 0.0},
                   {"hidden_act", "gelu"},
                   {"hidden_dropout", 0.0},
                   {"hidden_size", 6144},
                   {"initializer_range", 0.02},
                   {"intermediate_size", 24576},
                   {"layer_norm_eps", 1e-5},
                   {"max_position_embeddings", 2048},
                   {"num_attention_heads", 64},
                   {"num_hidden_layers", 44},
                   {"rope_parameters", Json()},
                   {"rope_scaling", Json()},
                   {"rotary_emb_base", 10000.0},
                   {"rotary_pct", 0.25},
                   {"tie_word_embeddings", false},
                   {"use_parallel_residual", true},
                   {"vocab_size", 50432}},
      // transformers reads neither of the first two; some files repeat rotary_emb_base and rotary_pct as the last two.
      .passed_over = {"attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout",
                      "partial_rotary_factor", "rope_theta"},
      .describe = describe,
      .weights = weights};
}

}  // namespace winnow::models

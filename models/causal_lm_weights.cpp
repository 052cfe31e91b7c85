// Names of tensors that decoder-only families share.
#include <fmt/format.h>

#include "causal_lm_family.h"
#include "winnow/core/error.h"

namespace winnow::models {

void add_norm(WeightMap& map, const Norm& norm, const std::string& name) {
  map.add(norm->weight, {name + ".weight"});
  if (norm->bias.defined()) map.add(norm->bias, {name + ".bias"});
}

void add_linear(WeightMap& map, const Linear& linear, const std::string& name) {
  map.add(linear->weight, {name + ".weight"});
  if (linear->bias.defined()) map.add(linear->bias, {name + ".bias"});
}

void add_qkv(WeightMap& map, const MultiHeadAttention& attention, const std::string& q, const std::string& k,
             const std::string& v) {
  const auto& o = attention->options;
  const auto width = o.heads * o.head_dim, kv_width = o.kv_heads * o.head_dim;
  const auto add = [&](const at::Tensor& fused, const std::string& suffix) {
    map.add_forms({{{.name = q + suffix, .parts = {rows(fused, 0, width)}},
                    {.name = k + suffix, .parts = {rows(fused, width, kv_width)}},
                    {.name = v + suffix, .parts = {rows(fused, width + kv_width, kv_width)}}}});
  };
  add(attention->qkv->weight, ".weight");
  if (attention->qkv->bias.defined()) add(attention->qkv->bias, ".bias");
}

void add_head(WeightMap& map, const CausalLMImpl& model, const std::string& name, const std::string& embedding) {
  if (model.config.tied) {
    map.tie(name, embedding);
  } else {
    map.add(model.head->weight, {name});
  }
}

namespace {

void add_experts(WeightMap& map, const moe::ExpertMlp& mlp, const std::string& layer, const ExpertNames& names) {
  const auto router = std::dynamic_pointer_cast<moe::TopKRouter>(mlp.router);
  WINNOW_CHECK(router != nullptr, "CausalLM: only a TopKRouter has a name in checkpoints");
  const auto block = layer + names.block + ".", fused = layer + "mlp.experts.";
  map.add(router->gate->weight, {block + "gate.weight", layer + "mlp.gate.weight"});
  FileTensor gate_up{.name = fused + "gate_up_proj", .parts = {}}, downs{.name = fused + "down_proj", .parts = {}};
  WeightForm ups, separate_downs;
  for (size_t e = 0; e < mlp.experts.size(); ++e) {
    const auto& expert = mlp.experts[e];
    const auto one = fmt::format("{}experts.{}.", block, e);
    const auto gate = whole(expert->gate->weight), up = whole(expert->fc1->weight), down = whole(expert->fc2->weight);
    ups.push_back({.name = one + names.gate + ".weight", .parts = {gate}});
    ups.push_back({.name = one + names.up + ".weight", .parts = {up}});
    separate_downs.push_back({.name = one + names.down + ".weight", .parts = {down}});
    gate_up.parts.push_back(gate);
    gate_up.parts.push_back(up);
    downs.parts.push_back(down);
  }
  const auto& o = mlp.options;
  gate_up.shape = {o.experts, 2 * o.hidden, o.dim};
  downs.shape = {o.experts, o.dim, o.hidden};
  map.add_forms({std::move(ups), {std::move(gate_up)}});
  map.add_forms({std::move(separate_downs), {std::move(downs)}});
}

}  // namespace

WeightMap llama_like_weights(const CausalLMImpl& model, const ExpertNames& names) {
  WeightMap map({"published", "fused experts"});
  const std::string base = "model.", embedding = base + "embed_tokens.weight";
  map.accept_prefix(base);
  map.add(model.embed->weight, {embedding});
  int64_t index = 0;
  for (auto& block : *model.blocks.ptr()) {
    const auto layer = fmt::format("{}layers.{}.", base, index++);
    const auto attention = layer + "self_attn.";
    add_norm(map, block->norm1, layer + "input_layernorm");
    add_qkv(map, block->attn, attention + "q_proj", attention + "k_proj", attention + "v_proj");
    if (block->attn->q_norm) {
      add_norm(map, block->attn->q_norm, attention + "q_norm");
      add_norm(map, block->attn->k_norm, attention + "k_norm");
    }
    add_linear(map, block->attn->proj, attention + "o_proj");
    add_norm(map, block->norm2, layer + "post_attention_layernorm");
    if (const auto experts = std::dynamic_pointer_cast<moe::ExpertMlp>(block->feed_forward)) {
      add_experts(map, *experts, layer, names);
    } else {
      add_linear(map, block->mlp->gate, layer + "mlp.gate_proj");
      add_linear(map, block->mlp->fc1, layer + "mlp.up_proj");
      add_linear(map, block->mlp->fc2, layer + "mlp.down_proj");
    }
    map.ignore({attention + "rotary_emb.inv_freq"});  // a buffer of early files
  }
  add_norm(map, model.norm, base + "norm");
  add_head(map, model, "lm_head.weight", embedding);
  return map;
}

WeightMap llama_like_weights(const CausalLMImpl& model) {
  return llama_like_weights(model, {});
}

}  // namespace winnow::models

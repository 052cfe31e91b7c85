#include "winnow/models/causal_lm.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "causal_lm_family.h"
#include "registry.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/nn/init.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

TransformerBlock make_block(const CausalLMLayer& layer, uint64_t seed) {
  auto options = layer.block;
  options.seed = derive_seed(seed, 0);
  options.attention.seed = derive_seed(seed, 1);
  options.custom_mlp = layer.moe.has_value();
  TransformerBlock block(options);
  if (layer.moe) block->set_feed_forward(std::make_shared<moe::ExpertMlp>(*layer.moe));
  return block;
}

// Weights N(0, range), those that end a residual branch divided by sqrt(2 depth); biases 0. Source: Radford et al.
// 2019, section 2.3.
void init_gpt2_weights(CausalLMImpl& model, uint64_t seed) {
  const at::NoGradGuard no_grad;
  const auto generator = make_generator(seed);
  const double range = model.config.initializer_range;
  const double ending = range / std::sqrt(2.0 * static_cast<double>(model.config.layers.size()));
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    const auto& name = item.key();
    if (auto* linear = item.value()->as<LinearImpl>()) {
      const bool ends = name.ends_with("attn.proj") || name.ends_with(".fc2");
      normal_(linear->weight, generator, ends ? ending : range);
      if (linear->bias.defined()) linear->bias.zero_();
    } else if (auto* table = item.value()->as<LearnedPositionsImpl>()) {
      normal_(table->weight, generator, range);
    }
  }
}

at::Tensor causal_loss(const at::Tensor& logits, const at::Tensor& labels) {
  const auto wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::cross_entropy_loss(wide.slice(1, 0, -1).flatten(0, 1), labels.slice(1, 1).flatten(), {},
                                at::Reduction::Mean, /*ignore_index=*/-100);
}

}  // namespace

CausalLMImpl::CausalLMImpl(CausalLMConfig c, uint64_t seed) : config(std::move(c)) {
  const auto V = config.vocab_size, D = config.hidden_size;
  WINNOW_CHECK(V >= 1 && D >= 1, "CausalLM: vocab_size and hidden_size must be >= 1, got {} and {}", V, D);
  WINNOW_CHECK(!config.layers.empty(), "CausalLM: layers must not be empty");
  WINNOW_CHECK(config.rotary.has_value() != (config.learned_positions > 0),
               "CausalLM: positions must be either rotary or learned");
  const bool skip = SkipRandomInit::active();
  {
    const SkipRandomInit by_init_gpt2_weights;
    embed = register_module("embed", LearnedPositions(LearnedPositionsOptions{.length = V, .dim = D}));
    if (config.learned_positions > 0) {
      pos_embed = register_module(
          "pos_embed", LearnedPositions(LearnedPositionsOptions{.length = config.learned_positions, .dim = D}));
    }
    if (config.embed_dropout > 0) {
      embed_drop =
          register_module("embed_drop", Dropout(DropOptions{.p = config.embed_dropout, .seed = derive_seed(seed, 0)}));
    }
    blocks = register_module(
        "blocks", Stack<TransformerBlock>(static_cast<int64_t>(config.layers.size()), [&](int64_t i) {
          return make_block(config.layers[static_cast<size_t>(i)], derive_seed(seed, static_cast<uint64_t>(i) + 1));
        }));
    norm = register_module("norm", Norm(NormOptions{.dim = D, .kind = config.norm, .eps = config.eps}));
    head = config.tied ? Linear(0, 0, /*with_bias=*/false) : Linear(D, V, /*with_bias=*/false);
  }
  if (config.tied) {
    head->weight = embed->weight;  // the same tensor: what changes its data or dtype changes both
    head->in_features = D;
    head->out_features = V;
  } else {
    register_module("head", head);
  }
  if (!skip) init_gpt2_weights(*this, seed);
}

void CausalLMImpl::check_input(const LmInput& in) const {
  check_dtype("CausalLM: ids", in.ids, at::kLong);
  check_dim("CausalLM: ids", in.ids, 2);
  const auto B = in.ids.size(0), L = in.ids.size(1);
  WINNOW_CHECK(B >= 1 && L >= 1, "CausalLM: ids must hold at least one token of one row, got shape {}", in.ids.sizes());
  check_indices("CausalLM: ids (the vocabulary)", in.ids, config.vocab_size);
  if (in.state != nullptr) {
    const auto* state = dynamic_cast<const KvState*>(in.state);
    WINNOW_CHECK(state != nullptr && state->cache.layers() == static_cast<int64_t>(config.layers.size()),
                 "CausalLM: state must be one that make_state of this model made");
  }
  const auto past = in.state != nullptr ? in.state->length() : 0;
  if (in.keep.defined()) check_shape("CausalLM: keep", in.keep, {B, past + L});
  if (in.labels.defined()) {
    check_dtype("CausalLM: labels", in.labels, at::kLong);
    check_shape("CausalLM: labels", in.labels, {B, L});
    check_indices("CausalLM: labels (other than -100)", in.labels.masked_fill(in.labels == -100, 0), config.vocab_size);
    WINNOW_CHECK(!in.last_only, "CausalLM: last_only must be false with labels");
  }
  WINNOW_CHECK(!in.encoder_states.defined() && !in.encoder_keep.defined(),
               "CausalLM: encoder_states and encoder_keep must be undefined: this model has no encoder");
}

void CausalLMImpl::check_length(int64_t past, int64_t added) const {
  WINNOW_CHECK(past + added <= config.context_length,
               "CausalLM: the context length must be at most {} tokens, got {} ({} in the state and {} new)",
               config.context_length, past + added, past, added);
}

// [L] or [B, L], checked.
at::Tensor CausalLMImpl::positions_of(const LmInput& in) const {
  const auto L = in.ids.size(1), past = in.state != nullptr ? in.state->length() : 0;
  if (!in.positions.defined()) {
    check_length(past, L);
    return at::arange(past, past + L, in.ids.options());
  }
  check_dtype("CausalLM: positions", in.positions, at::kLong);
  if (in.positions.dim() == 1) {
    check_shape("CausalLM: positions", in.positions, {L});
  } else {
    check_shape("CausalLM: positions", in.positions, {in.ids.size(0), L});
  }
  check_indices("CausalLM: positions (the context length)", in.positions, config.context_length);
  return in.positions;
}

// Who sees whom in each layer. Layers with one window share one mask.
std::vector<AttentionMask> CausalLMImpl::layer_masks(const LmInput& in) const {
  const auto L = in.ids.size(1), T = L + (in.state != nullptr ? in.state->length() : 0);
  auto base = in.mask & causal_mask();
  if (in.keep.defined()) base = base & padding_mask(in.keep);
  std::map<int64_t, AttentionMask> by_window;
  std::vector<AttentionMask> masks;
  for (const auto& layer : config.layers) {
    auto [found, fresh] = by_window.try_emplace(layer.window);
    if (fresh) {
      const auto mask = layer.window > 0 ? base & window_mask(layer.window) : base;
      const auto resolved = resolve_mask(mask, L, T, in.ids.device());
      if (resolved.is_causal) found->second.causal = true;
      found->second.allowed = resolved.allowed;
    }
    masks.push_back(found->second);
  }
  return masks;
}

at::Tensor CausalLMImpl::run_blocks(at::Tensor x, const LmInput& in, const at::Tensor& positions, LmOutput& out) {
  const auto masks = layer_masks(in);
  BlockArgs args;
  if (config.rotary) {
    const auto angles = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    args.self.rotary = rotary_table(*config.rotary, positions, angles);
  }
  if (in.state != nullptr) args.self.cache = &dynamic_cast<KvState&>(*in.state).cache;
  for (size_t i = 0; i < masks.size(); ++i) {
    if (in.hidden_states) out.hidden_states.push_back(x);
    args.self.mask = masks[i];
    args.self.layer = static_cast<int64_t>(i);
    x = blocks[static_cast<int64_t>(i)]->forward(x, args);
  }
  return x;
}

namespace {

// The state of one sequence or a batch, and, where one sequence is decoded on the CPU, the plan that does it.
struct PlannedState : KvState {
  using KvState::KvState;
  std::unique_ptr<DecodePlan> plan;
  bool planned = false;  // whether a plan was tried
};

bool is_ids(const at::Tensor& x) {
  return x.scalar_type() == at::kLong && x.is_cpu() && x.is_contiguous();
}

// A few tokens of one sequence behind a state, and nothing asked for but logits.
bool asks_for_decoding(const LmInput& in) {
  const bool few = in.ids.defined() && in.ids.dim() == 2 && in.ids.size(0) == 1 && in.ids.size(1) >= 1 &&
                   in.ids.size(1) <= DecodePlan::kMaxTokens && is_ids(in.ids);
  return few && in.state != nullptr && in.logits && !in.keep.defined() && !in.mask.defined() && !in.labels.defined() &&
         !in.hidden_states && !in.router_logits && !in.encoder_states.defined() && !in.encoder_keep.defined() &&
         (!in.positions.defined() || (is_ids(in.positions) && in.positions.numel() == in.ids.size(1)));
}

}  // namespace

DecodeStack CausalLMImpl::decode_stack() const {
  DecodeStack stack{.embedding = embed->weight, .rotary = config.rotary, .norm = norm, .head = head};
  if (pos_embed) stack.positions = pos_embed->weight;
  for (auto& block : *blocks.ptr()) stack.blocks.push_back(block);
  for (const auto& layer : config.layers) stack.windows.push_back(layer.window);
  return stack;
}

// The logits by the state's plan; undefined where the modules have to do it.
at::Tensor CausalLMImpl::decode(const LmInput& in) const {
  if (!asks_for_decoding(in) || is_training() || hooks_active()) return {};
  auto* state = dynamic_cast<PlannedState*>(in.state);
  if (state == nullptr || state->cache.layers() != static_cast<int64_t>(config.layers.size())) return {};
  const bool outdated =
      state->plan && (!state->plan->current() || state->plan->stack().head.ptr() != head.ptr());  // or another model's
  if (!state->planned || outdated) {
    auto stack = decode_stack();
    const bool possible = norm->weight.is_cpu() && DecodePlan::obstacle(stack).empty();
    state->plan = possible ? std::make_unique<DecodePlan>(std::move(stack)) : nullptr;
    state->planned = true;
  }
  if (!state->plan) return {};
  const auto n = in.ids.size(1);
  const int64_t* positions = nullptr;
  if (in.positions.defined()) {
    positions = in.positions.const_data_ptr<int64_t>();
    const auto last = *std::max_element(positions, positions + n), first = *std::min_element(positions, positions + n);
    WINNOW_CHECK(first >= 0 && last < config.context_length,
                 "CausalLM: positions (the context length) must be in [0, {}), got {}", config.context_length,
                 first < 0 ? first : last);
  } else {
    check_length(state->length(), n);
  }
  auto logits = at::empty({1, in.last_only ? 1 : n, config.vocab_size}, at::kFloat);
  state->plan->run(in.ids.const_data_ptr<int64_t>(), positions, n, state->cache, in.last_only,
                   logits.mutable_data_ptr<float>());
  return logits;
}

LmOutput CausalLMImpl::run(const LmInput& in) {
  if (auto logits = decode(in); logits.defined()) return {.logits = std::move(logits)};
  check_input(in);
  std::optional<at::NoGradGuard> no_grad;
  if (in.state != nullptr) no_grad.emplace();
  const bool routes = in.router_logits || (config.router_logits && in.labels.defined());
  std::optional<moe::RoutingRecord> record;
  if (routes) record.emplace();

  LmOutput out;
  const auto positions = positions_of(in);
  // A half-precision table is widened to the dtype in which the network computes, that of its norms.
  auto x = embed->forward(in.ids).to(norm->weight.scalar_type());  // [B, L, D]
  if (pos_embed) x = x + pos_embed->forward(positions);
  if (embed_drop) x = embed_drop->forward(x);
  x = norm->forward(run_blocks(x, in, positions, out));
  if (in.hidden_states) out.hidden_states.push_back(x);
  if (in.logits || in.labels.defined()) out.logits = head->forward(in.last_only ? x.slice(1, -1) : x);
  if (in.labels.defined()) out.loss = causal_loss(out.logits, in.labels);
  if (!routes || record->layers.empty()) return out;

  for (const auto& layer : record->layers) out.router_logits.push_back(layer.logits);
  const auto counted = in.keep.defined() ? in.keep.slice(1, -in.ids.size(1)).flatten() : at::Tensor();
  out.aux_loss = moe::load_balancing_loss(record->layers, counted);
  if (out.loss.defined()) out.loss = out.loss + config.router_aux_coefficient * out.aux_loss;
  return out;
}

at::Tensor CausalLMImpl::forward(const at::Tensor& ids) {
  return run({.ids = ids}).logits;
}

std::unique_ptr<DecoderState> CausalLMImpl::make_state(int64_t batch, int64_t capacity) {
  WINNOW_CHECK(batch >= 1, "CausalLM: batch must be >= 1, got {}", batch);
  return std::make_unique<PlannedState>(static_cast<int64_t>(config.layers.size()), capacity);
}

io::Json CausalLMImpl::config_json() const {
  auto json = config.json;
  json.erase("dtype");
  const auto dtype = embed->weight.scalar_type();
  json["torch_dtype"] = dtype == at::kHalf       ? "float16"
                        : dtype == at::kBFloat16 ? "bfloat16"
                        : dtype == at::kDouble   ? "float64"
                                                 : "float32";
  return json;
}

WeightMap CausalLMImpl::weight_map() const {
  return causal_lm_family(config.architecture).weights(*this);
}

namespace {

std::shared_ptr<Pretrained> make(const io::JsonObject& json, const io::Checkpoint&) {
  return std::make_shared<CausalLMImpl>(read_causal_lm_config(json));
}

}  // namespace

Makers causal_lm_makers() {
  Makers makers;
  for (const auto& name : causal_lm_architectures()) makers.emplace(name, make);
  return makers;
}

}  // namespace winnow::models

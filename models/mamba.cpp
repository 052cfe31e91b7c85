#include "winnow/models/mamba.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <utility>

#include "causal_lm_family.h"
#include "config_reader.h"
#include "encoder_decoder.h"
#include "registry.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/models/vit_config.h"
#include "winnow/nn/init.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {

void MambaState::truncate(int64_t length) {
  if (length >= read) return;
  WINNOW_CHECK_KIND(length == 0, ErrorKind::unsupported,
                    "MambaState: truncate to {} of {} tokens is not possible: a recurrent state has no earlier ones",
                    length, read);
  for (auto& mixer : mixers) mixer = {};
  read = 0;
}

void MambaState::select(const at::Tensor& rows) {
  check_dtype("MambaState::select: rows", rows, at::kLong);
  check_dim("MambaState::select: rows", rows, 1);
  for (auto& mixer : mixers) {
    if (!mixer.scan.defined()) continue;
    check_indices("MambaState::select: rows", rows, mixer.scan.size(0));
    const auto ids = rows.to(mixer.scan.device());
    mixer.conv = mixer.conv.index_select(0, ids);
    mixer.scan = mixer.scan.index_select(0, ids);
  }
}

void MambaState::compact(int64_t prefix, const std::vector<int64_t>& keep) {
  const auto kept = prefix + static_cast<int64_t>(keep.size());
  WINNOW_CHECK_KIND(kept == read, ErrorKind::unsupported,
                    "MambaState: compact to {} of {} tokens is not possible: a recurrent state has no earlier ones",
                    kept, read);
}

MambaBlockImpl::MambaBlockImpl(const MambaConfig& c) : residual_in_fp32(c.residual_in_fp32) {
  norm = register_module("norm",
                         Norm(NormOptions{.dim = c.hidden_size, .kind = NormKind::rms, .eps = c.layer_norm_epsilon}));
  mixer = register_module(
      "mixer", MambaMixer(MambaMixerOptions{.dim = c.hidden_size,
                                            .inner = c.intermediate_size,
                                            .states = c.state_size,
                                            .kernel = c.conv_kernel,
                                            .rank = c.time_step_rank,
                                            .bias = c.use_bias,
                                            .conv_bias = c.use_conv_bias,
                                            .activation = activation_of(c.hidden_act, "MambaConfig: hidden_act")}));
}

at::Tensor MambaBlockImpl::forward(const at::Tensor& x, const at::Tensor& keep, MambaMixerState* state) {
  const auto dtype = norm->weight.scalar_type();
  const bool widens = residual_in_fp32 && (dtype == at::kHalf || dtype == at::kBFloat16);
  const auto mixed = mixer->forward(norm->forward(x.to(dtype)), keep, state);
  return hooked((widens ? x.to(at::kFloat) : x) + mixed);
}

MambaImpl::MambaImpl(MambaConfig c, uint64_t seed) : config(std::move(c)) {
  auto& o = config;
  WINNOW_CHECK(o.vocab_size >= 1 && o.hidden_size >= 1 && o.num_hidden_layers >= 1,
               "Mamba: vocab_size, hidden_size and num_hidden_layers must be >= 1, got {}, {} and {}", o.vocab_size,
               o.hidden_size, o.num_hidden_layers);
  if (o.intermediate_size == 0) o.intermediate_size = o.expand * o.hidden_size;
  if (o.time_step_rank == 0) o.time_step_rank = (o.hidden_size + 15) / 16;
  const bool skip = SkipRandomInit::active();
  {
    const SkipRandomInit by_init_weights;
    embed = register_module("embed",
                            LearnedPositions(LearnedPositionsOptions{.length = o.vocab_size, .dim = o.hidden_size}));
    blocks = register_module("blocks", Stack<MambaBlock>(o.num_hidden_layers, [&](int64_t) { return MambaBlock(o); }));
    norm = register_module("norm",
                           Norm(NormOptions{.dim = o.hidden_size, .kind = NormKind::rms, .eps = o.layer_norm_epsilon}));
    head = o.tie_word_embeddings ? Linear(0, 0, false) : Linear(o.hidden_size, o.vocab_size, false);
  }
  if (o.tie_word_embeddings) {
    head->weight = embed->weight;  // the same tensor: what changes its data or dtype changes both
    head->in_features = o.hidden_size;
    head->out_features = o.vocab_size;
  } else {
    register_module("head", head);
  }
  if (!skip) init_weights(seed);
}

void MambaImpl::init_weights(uint64_t seed) {
  const at::NoGradGuard no_grad;
  normal_(embed->weight, make_generator(derive_seed(seed, 0)), config.initializer_range);
  if (!config.tie_word_embeddings) {
    normal_(head->weight, make_generator(derive_seed(seed, 1)), config.initializer_range);
  }
  for (int64_t i = 0; i < blocks->size(); ++i) {
    blocks[i]->mixer->init_weights(make_generator(derive_seed(seed, static_cast<uint64_t>(i) + 2)));
  }
}

void MambaImpl::check_input(const LmInput& in) const {
  check_dtype("Mamba: ids", in.ids, at::kLong);
  check_dim("Mamba: ids", in.ids, 2);
  const auto B = in.ids.size(0), L = in.ids.size(1);
  WINNOW_CHECK(B >= 1 && L >= 1, "Mamba: ids must hold at least one token of one row, got shape {}", in.ids.sizes());
  check_indices("Mamba: ids (the vocabulary)", in.ids, config.vocab_size);
  WINNOW_CHECK(!in.mask.defined(), "Mamba: mask must be undefined: there is no attention");
  WINNOW_CHECK(!in.encoder_states.defined(), "Mamba: encoder_states must be undefined: this model has no encoder");
  const auto* state = dynamic_cast<const MambaState*>(in.state);
  WINNOW_CHECK(in.state == nullptr ||
                   (state != nullptr && static_cast<int64_t>(state->mixers.size()) == config.num_hidden_layers),
               "Mamba: state must be one that make_state of this model made");
  const auto past = state != nullptr ? state->read : 0;
  if (in.keep.defined()) check_shape("Mamba: keep", in.keep, {B, past + L});
  if (!in.labels.defined()) return;
  check_dtype("Mamba: labels", in.labels, at::kLong);
  check_shape("Mamba: labels", in.labels, {B, L});
  check_indices("Mamba: labels (other than -100)", in.labels.masked_fill(in.labels == -100, 0), config.vocab_size);
  WINNOW_CHECK(!in.last_only, "Mamba: last_only must be false with labels");
}

LmOutput MambaImpl::run(const LmInput& in) {
  check_input(in);
  auto* state = dynamic_cast<MambaState*>(in.state);
  std::optional<at::NoGradGuard> no_grad;
  if (state != nullptr) no_grad.emplace();
  auto keep = in.keep.defined() ? in.keep.slice(1, -in.ids.size(1)) : at::Tensor();
  if (keep.defined() && keep.is_cpu() && (keep != 0).all().item<bool>()) keep = at::Tensor();
  LmOutput out;
  auto x = embed->forward(in.ids).to(norm->weight.scalar_type());  // [B, L, D]
  for (int64_t i = 0; i < blocks->size(); ++i) {
    x = blocks[i]->forward(x, keep, state != nullptr ? &state->mixers[static_cast<size_t>(i)] : nullptr);
    if (in.hidden_states) out.hidden_states.push_back(x);
  }
  if (state != nullptr) state->read += in.ids.size(1);
  x = norm->forward(x).to(norm->weight.scalar_type());
  if (in.hidden_states) out.hidden_states.push_back(x);
  out.logits = head->forward(in.last_only ? x.slice(1, -1) : x);
  if (in.labels.defined()) {
    out.loss = unshifted_loss(out.logits.slice(1, 0, -1), in.labels.slice(1, 1));
  }
  return out;
}

std::unique_ptr<DecoderState> MambaImpl::make_state(int64_t batch, int64_t) {
  WINNOW_CHECK(batch >= 1, "Mamba: batch must be >= 1, got {}", batch);
  return std::make_unique<MambaState>(config.num_hidden_layers);
}

MambaConfig read_mamba_config(const io::JsonObject& json) {
  check_keys(json, {"conv_kernel",
                    "d_inner",
                    "d_model",
                    "expand",
                    "fused_add_norm",
                    "hidden_act",
                    "hidden_size",
                    "initializer_range",
                    "intermediate_size",
                    "layer_norm_epsilon",
                    "n_layer",
                    "num_hidden_layers",
                    "pad_vocab_size_multiple",
                    "rescale_prenorm_residual",
                    "residual_in_fp32",
                    "rms_norm",
                    "ssm_cfg",
                    "state_size",
                    "time_step_floor",
                    "time_step_init_scheme",
                    "time_step_max",
                    "time_step_min",
                    "time_step_rank",
                    "time_step_scale",
                    "use_associative_scan",
                    "use_bias",
                    "use_conv_bias",
                    "use_mambapy",
                    "vocab_size"});
  check_model_type(json, "mamba");
  MambaConfig c;
  c.vocab_size = size_or(json, "vocab_size", c.vocab_size);
  c.hidden_size = size_or(json, "hidden_size", c.hidden_size);
  c.num_hidden_layers = size_or(json, "num_hidden_layers", c.num_hidden_layers);
  c.state_size = size_or(json, "state_size", c.state_size);
  c.expand = size_or(json, "expand", c.expand);
  c.conv_kernel = size_or(json, "conv_kernel", c.conv_kernel);
  c.intermediate_size = size_or(json, "intermediate_size", c.expand * c.hidden_size, int64_t{1} << 40);
  // transformers works intermediate_size out of the other two, whatever the file says.
  WINNOW_CHECK_KIND(c.intermediate_size == c.expand * c.hidden_size, ErrorKind::file,
                    "{}: intermediate_size must be expand * hidden_size = {}, got {}", json.file(),
                    c.expand * c.hidden_size, c.intermediate_size);
  const bool automatic = json.has("time_step_rank") && json.raw("time_step_rank").is_string();
  WINNOW_CHECK_KIND(!automatic || json.get<std::string>("time_step_rank") == "auto", ErrorKind::file,
                    "{}: time_step_rank must be a number or \"auto\", got {}", json.file(),
                    json.get<std::string>("time_step_rank"));
  c.time_step_rank = automatic ? (c.hidden_size + 15) / 16 : size_or(json, "time_step_rank", (c.hidden_size + 15) / 16);
  c.use_bias = json.get_or<bool>("use_bias", c.use_bias);
  c.use_conv_bias = json.get_or<bool>("use_conv_bias", c.use_conv_bias);
  c.hidden_act = json.get_or<std::string>("hidden_act", c.hidden_act);
  activation_of(c.hidden_act, json.file() + ": hidden_act");
  WINNOW_CHECK_KIND(json.get_or<bool>("rms_norm", true), ErrorKind::unsupported, "{}: rms_norm must be true",
                    json.file());
  c.layer_norm_epsilon = json.get_or<double>("layer_norm_epsilon", c.layer_norm_epsilon);
  WINNOW_CHECK_KIND(c.layer_norm_epsilon >= 0, ErrorKind::file, "{}: layer_norm_epsilon must be >= 0, got {}",
                    json.file(), c.layer_norm_epsilon);
  c.residual_in_fp32 = json.get_or<bool>("residual_in_fp32", c.residual_in_fp32);
  c.tie_word_embeddings = json.get_or<bool>("tie_word_embeddings", c.tie_word_embeddings);
  c.initializer_range = json.get_or<double>("initializer_range", c.initializer_range);
  const auto id = [&](const char* key, int64_t& member) {
    if (json.has(key) && json.raw(key).is_number_integer()) member = json.get<int64_t>(key);
  };
  id("pad_token_id", c.pad_token_id);
  id("bos_token_id", c.bos_token_id);
  id("eos_token_id", c.eos_token_id);
  return c;
}

io::Json to_json(const MambaConfig& c) {
  return {{"architectures", io::Json::array({"MambaForCausalLM"})},
          {"model_type", "mamba"},
          {"vocab_size", c.vocab_size},
          {"hidden_size", c.hidden_size},
          {"num_hidden_layers", c.num_hidden_layers},
          {"state_size", c.state_size},
          {"expand", c.expand},
          {"intermediate_size", c.intermediate_size},
          {"conv_kernel", c.conv_kernel},
          {"time_step_rank", c.time_step_rank},
          {"use_bias", c.use_bias},
          {"use_conv_bias", c.use_conv_bias},
          {"hidden_act", c.hidden_act},
          {"layer_norm_epsilon", c.layer_norm_epsilon},
          {"residual_in_fp32", c.residual_in_fp32},
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"initializer_range", c.initializer_range},
          {"pad_token_id", c.pad_token_id},
          {"bos_token_id", c.bos_token_id},
          {"eos_token_id", c.eos_token_id},
          {"torch_dtype", "float32"}};
}

WeightMap MambaImpl::weight_map() const {
  WeightMap map({"published", "state-spaces"});
  const std::string base = "backbone.";
  // The first files say "embedding".
  map.add(embed->weight, {base + "embeddings.weight", base + "embedding.weight"});
  for (int64_t i = 0; i < blocks->size(); ++i) {
    const auto& block = (*blocks.ptr())[i];
    const auto layer = fmt::format("{}layers.{}.", base, i), mixer = layer + "mixer.";
    const auto& m = block->mixer;
    const auto E = m->options.inner;
    add_norm(map, block->norm, layer + "norm");
    add_linear(map, m->in_proj, mixer + "in_proj");
    add_linear(map, m->x_proj, mixer + "x_proj");
    add_linear(map, m->dt_proj, mixer + "dt_proj");
    add_linear(map, m->out_proj, mixer + "out_proj");
    map.add_forms(
        {{{.name = mixer + "conv1d.weight", .parts = {whole(m->conv_weight)}, .shape = {E, 1, m->options.kernel}}}});
    if (m->conv_bias.defined()) map.add(m->conv_bias, {mixer + "conv1d.bias"});
    map.add(m->a_log, {mixer + "A_log"});
    map.add(m->d, {mixer + "D"});
  }
  add_norm(map, norm, base + "norm_f");
  if (config.tie_word_embeddings) {
    map.tie("lm_head.weight", base + "embeddings.weight");
  } else {
    map.add(head->weight, {"lm_head.weight"});
  }
  map.accept_prefix(base);
  return map;
}

namespace {

std::shared_ptr<Pretrained> make_mamba(const io::JsonObject& json, const io::Checkpoint&) {
  return std::make_shared<MambaImpl>(read_mamba_config(json));
}

}  // namespace

Makers mamba_makers() {
  return {{"MambaForCausalLM", make_mamba}};
}

}  // namespace winnow::models

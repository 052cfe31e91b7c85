#include "winnow/models/t5.h"

#include <torch/types.h>

#include <cmath>
#include <limits>
#include <utility>

#include "encoder_decoder.h"
#include "text_parts.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/models/vit_config.h"
#include "winnow/nn/init.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

TransformerBlockOptions block_options(const T5Config& c, bool decoder, uint64_t seed) {
  const std::string gated = "gated-", form = c.feed_forward_proj;
  const bool is_gated = form.starts_with(gated);
  auto activation = is_gated ? form.substr(gated.size()) : form;
  if (form == "gated-gelu") activation = "gelu_new";
  TransformerBlockOptions o;
  o.dim = c.d_model;
  o.norm = NormKind::rms;
  o.eps = c.layer_norm_epsilon;
  o.attention = {.heads = c.num_heads,
                 .head_dim = c.d_kv,
                 .qkv_bias = QkvBias::none,
                 .out_bias = false,
                 .scale = 1.0,  // the start of the weights makes up for it
                 .dropout = c.dropout_rate,
                 .seed = derive_seed(seed, 0)};
  o.mlp = {.hidden = c.d_ff,
           .kind = is_gated ? MlpKind::gated : MlpKind::plain,
           .activation = activation_of(activation, "T5Config: feed_forward_proj"),
           .bias = false,
           .dropout = c.dropout_rate,
           .seed = derive_seed(seed, 1)};
  o.cross_attention = decoder;
  if (decoder) {
    o.cross = o.attention;
    o.cross.seed = derive_seed(seed, 2);
  }
  o.dropout = c.dropout_rate;
  o.seed = derive_seed(seed, 3);
  return o;
}

// The relative bias with -inf where the mask hides: one tensor for all blocks.
at::Tensor masked_bias(T5Stack& stack, const AttentionMask& mask, int64_t queries, int64_t past, at::ScalarType dtype) {
  const auto keys = past + queries;
  auto bias = stack->bias->forward(queries, keys, past).to(dtype);
  const auto allowed = materialize_mask(mask, queries, keys, bias.device());
  if (allowed.defined()) bias = bias.masked_fill(allowed.logical_not(), -std::numeric_limits<double>::infinity());
  return bias;
}

at::Tensor run_stack(T5Stack& stack, at::Tensor x, BlockArgs args, const AttentionMask& mask, int64_t past,
                     std::vector<at::Tensor>* hidden) {
  args.self.bias = masked_bias(stack, mask, x.size(1), past, x.scalar_type());
  if (stack->drop) x = stack->drop->forward(x);
  x = stack->norm->forward(run_blocks(stack->blocks, x, args, hidden));
  if (stack->drop) x = stack->drop->forward(x);
  if (hidden != nullptr) hidden->push_back(x);
  return x;
}

}  // namespace

T5StackImpl::T5StackImpl(const T5Config& c, bool decoder) {
  const uint64_t family = decoder ? 1 : 2;
  blocks = register_module(
      "blocks", Stack<TransformerBlock>(decoder ? c.num_decoder_layers : c.num_layers, [&](int64_t i) {
        return TransformerBlock(block_options(c, decoder, derive_seed(family, static_cast<uint64_t>(i))));
      }));
  norm =
      register_module("norm", Norm(NormOptions{.dim = c.d_model, .kind = NormKind::rms, .eps = c.layer_norm_epsilon}));
  bias = register_module("bias", RelativeBias(RelativeBiasOptions{.heads = c.num_heads,
                                                                  .buckets = c.relative_attention_num_buckets,
                                                                  .max_distance = c.relative_attention_max_distance,
                                                                  .two_sided = !decoder}));
  if (c.dropout_rate > 0) drop = register_module("drop", Dropout(DropOptions{.p = c.dropout_rate, .seed = family}));
}

T5Impl::T5Impl(T5Config c, uint64_t seed) : config(std::move(c)) {
  auto& o = config;
  if (o.num_decoder_layers == 0) o.num_decoder_layers = o.num_layers;
  WINNOW_CHECK(o.vocab_size >= 1 && o.d_model >= 1 && o.num_layers >= 1 && o.num_decoder_layers >= 1,
               "T5: vocab_size, d_model and layers must be >= 1, got {}, {}, {} and {}", o.vocab_size, o.d_model,
               o.num_layers, o.num_decoder_layers);
  const bool skip = SkipRandomInit::active();
  {
    const SkipRandomInit by_init_weights;
    embed =
        register_module("embed", LearnedPositions(LearnedPositionsOptions{.length = o.vocab_size, .dim = o.d_model}));
    encoder = register_module("encoder", T5Stack(o, false));
    if (!o.encoder_only) {
      decoder = register_module("decoder", T5Stack(o, true));
      head = o.own_head ? Linear(o.d_model, o.vocab_size, false) : Linear(0, 0, false);
    }
  }
  if (head && o.own_head) {
    register_module("head", head);
  } else if (head) {
    head->weight = embed->weight;  // the same tensor: what changes its data or dtype changes both
    head->in_features = o.d_model;
    head->out_features = o.vocab_size;
  }
  if (!skip) init_weights(seed);
}

// As transformers draws T5: the deviations make up for the missing scale of the scores.
void T5Impl::init_weights(uint64_t seed) {
  const at::NoGradGuard no_grad;
  const auto generator = make_generator(seed);
  const auto& c = config;
  const auto root = [](int64_t n) { return 1.0 / std::sqrt(static_cast<double>(n)); };
  const auto draw = [&](const at::Tensor& weight, double deviation) {
    normal_(weight, generator, c.initializer_factor * deviation);
  };
  const auto width = c.num_heads * c.d_kv;
  draw(embed->weight, 1.0);
  if (head && c.own_head) draw(head->weight, 1.0);
  for (const auto& stack : {encoder, decoder}) {
    if (stack.is_empty()) continue;
    draw(stack->bias->weight, root(c.d_model));
    for (auto& block : *stack->blocks.ptr()) {
      draw(block->attn->qkv->weight.narrow(0, 0, width), root(c.d_model) * root(c.d_kv));
      draw(block->attn->qkv->weight.narrow(0, width, 2 * width), root(c.d_model));
      draw(block->attn->proj->weight, root(width));
      if (block->cross_attn) {
        draw(block->cross_attn->q->weight, root(c.d_model) * root(c.d_kv));
        draw(block->cross_attn->kv->weight, root(c.d_model));
        draw(block->cross_attn->proj->weight, root(width));
      }
      draw(block->mlp->fc1->weight, root(c.d_model));
      if (block->mlp->gate) draw(block->mlp->gate->weight, root(c.d_model));
      draw(block->mlp->fc2->weight, root(c.d_ff));
    }
  }
}

Encoded T5Impl::encode(const at::Tensor& ids, const at::Tensor& keep, bool hidden_states) {
  check_token_ids("T5", ids, config.vocab_size, std::numeric_limits<int64_t>::max());
  Encoded out{.keep = keep};
  const auto x = embed->forward(ids).to(encoder->norm->weight.scalar_type());  // [B, S, D]
  out.states = run_stack(encoder, x, {}, keep_mask("T5", keep, ids), 0, hidden_states ? &out.hidden_states : nullptr);
  return out;
}

LmOutput T5Impl::run(const LmInput& input) {
  WINNOW_CHECK_KIND(!config.encoder_only, ErrorKind::unsupported, "T5: this is an encoder alone; use encode()");
  WINNOW_CHECK(!input.positions.defined(), "T5: positions must be undefined: they are relative");
  std::optional<at::NoGradGuard> no_grad;
  if (input.state != nullptr) no_grad.emplace();
  const auto call = prepare_decoder(input, {.what = "T5",
                                            .layers = config.num_decoder_layers,
                                            .dim = config.d_model,
                                            .vocab_size = config.vocab_size,
                                            .decoder_start = config.decoder_start_token_id,
                                            .pad = config.pad_token_id,
                                            .longest = 0});
  LmOutput out;
  auto x = embed->forward(call.ids).to(decoder->norm->weight.scalar_type());  // [B, L, D]
  x = run_stack(decoder, x, call.args, call.mask, call.past, input.hidden_states ? &out.hidden_states : nullptr);
  if (input.last_only) x = x.slice(1, -1);
  if (config.scale_decoder_outputs) x = x * (1.0 / std::sqrt(static_cast<double>(config.d_model)));
  out.logits = head->forward(x);
  if (input.labels.defined()) out.loss = unshifted_loss(out.logits, input.labels);
  return out;
}

std::unique_ptr<DecoderState> T5Impl::make_state(int64_t batch, int64_t capacity) {
  WINNOW_CHECK_KIND(!config.encoder_only, ErrorKind::unsupported, "T5: this is an encoder alone; it has no state");
  WINNOW_CHECK(batch >= 1, "T5: batch must be >= 1, got {}", batch);
  return std::make_unique<EncoderDecoderState>(config.num_decoder_layers, capacity);
}

std::string T5Impl::architecture() const {
  return config.encoder_only ? "T5EncoderModel" : "T5ForConditionalGeneration";
}

}  // namespace winnow::models

#include "winnow/models/whisper.h"

#include <torch/types.h>

#include <cmath>
#include <utility>

#include "encoder_decoder.h"
#include "text_parts.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/models/vit_config.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow::models {
namespace {

constexpr double kEps = 1e-5;

Stack<TransformerBlock> make_blocks(const WhisperConfig& c, bool decoder) {
  TransformerBlockOptions o;
  o.dim = c.d_model;
  o.eps = kEps;
  o.attention = {.heads = decoder ? c.decoder_attention_heads : c.encoder_attention_heads,
                 .qkv_bias = QkvBias::query_value,
                 .dropout = c.attention_dropout};
  o.mlp = {.hidden = decoder ? c.decoder_ffn_dim : c.encoder_ffn_dim,
           .activation = activation_of(c.activation_function, "WhisperConfig: activation_function"),
           .dropout = c.activation_dropout};
  o.cross_attention = decoder;
  if (decoder) o.cross = o.attention;
  o.dropout = c.dropout;
  return Stack<TransformerBlock>(decoder ? c.decoder_layers : c.encoder_layers, [&](int64_t i) {
    o.seed = derive_seed(decoder ? 1 : 2, static_cast<uint64_t>(i));
    o.attention.seed = derive_seed(o.seed, 0);
    o.cross.seed = derive_seed(o.seed, 1);
    o.mlp.seed = derive_seed(o.seed, 2);
    return TransformerBlock(o);
  });
}

// All sines, then all cosines; wavelengths from 2 pi to 10,000 times that, both ends included.
at::Tensor sinusoids(int64_t length, int64_t dim) {
  const auto half = dim / 2;
  const double step = half > 1 ? std::log(10000.0) / static_cast<double>(half - 1) : 0.0;
  const auto frequencies = (at::arange(half, at::kDouble) * -step).exp();
  const auto angles = at::arange(length, at::kDouble).unsqueeze(1) * frequencies;
  return at::cat({angles.sin(), angles.cos()}, 1).to(at::kFloat);
}

torch::nn::Conv1d make_conv(int64_t in, int64_t out, int64_t stride) {
  return torch::nn::Conv1d(torch::nn::Conv1dOptions(in, out, 3).stride(stride).padding(1));
}

}  // namespace

WhisperEncoderImpl::WhisperEncoderImpl(const WhisperConfig& c) {
  conv1 = register_module("conv1", make_conv(c.num_mel_bins, c.d_model, 1));
  conv2 = register_module("conv2", make_conv(c.d_model, c.d_model, 2));
  positions = register_module(
      "positions", LearnedPositions(LearnedPositionsOptions{.length = c.max_source_positions, .dim = c.d_model}));
  positions->weight.requires_grad_(false);
  blocks = register_module("blocks", make_blocks(c, false));
  norm = register_module("norm", Norm(NormOptions{.dim = c.d_model, .eps = kEps}));
  if (c.dropout > 0) drop = register_module("drop", Dropout(DropOptions{.p = c.dropout, .seed = 3}));
}

WhisperDecoderImpl::WhisperDecoderImpl(const WhisperConfig& c) {
  embed = register_module("embed", LearnedPositions(LearnedPositionsOptions{.length = c.vocab_size, .dim = c.d_model}));
  positions = register_module(
      "positions", LearnedPositions(LearnedPositionsOptions{.length = c.max_target_positions, .dim = c.d_model}));
  blocks = register_module("blocks", make_blocks(c, true));
  norm = register_module("norm", Norm(NormOptions{.dim = c.d_model, .eps = kEps}));
  if (c.dropout > 0) drop = register_module("drop", Dropout(DropOptions{.p = c.dropout, .seed = 4}));
}

WhisperImpl::WhisperImpl(WhisperConfig c, uint64_t seed) : config(std::move(c)) {
  WINNOW_CHECK(config.d_model >= 2 && config.d_model % 2 == 0, "Whisper: d_model must be even and >= 2, got {}",
               config.d_model);
  WINNOW_CHECK(config.vocab_size >= 1 && config.num_mel_bins >= 1,
               "Whisper: vocab_size and num_mel_bins must be >= 1, got {} and {}", config.vocab_size,
               config.num_mel_bins);
  const bool skip = SkipRandomInit::active();
  {
    const SkipRandomInit by_init_weights;
    encoder = register_module("encoder", WhisperEncoder(config));
    decoder = register_module("decoder", WhisperDecoder(config));
    head = Linear(0, 0, /*with_bias=*/false);
  }
  head->weight = decoder->embed->weight;  // the same tensor: what changes its data or dtype changes both
  head->in_features = config.d_model;
  head->out_features = config.vocab_size;
  if (!skip) init_weights(seed);
}

void WhisperImpl::init_weights(uint64_t seed) {
  init_normal_weights(*this, seed, config.init_std);
  const at::NoGradGuard no_grad;
  encoder->positions->weight.copy_(sinusoids(config.max_source_positions, config.d_model));
}

Encoded WhisperImpl::encode(const at::Tensor& features, const at::Tensor& keep, bool hidden_states) {
  WINNOW_CHECK(!keep.defined(), "Whisper: keep must be undefined: the encoder hears the whole chunk");
  check_like("Whisper: features", features, encoder->norm->weight);
  check_shape("Whisper: features", features, {-1, config.num_mel_bins, 2 * config.max_source_positions});
  Encoded out;
  auto* hidden = hidden_states ? &out.hidden_states : nullptr;
  auto x = at::gelu(encoder->conv1->forward(features));
  x = at::gelu(encoder->conv2->forward(x)).transpose(1, 2);  // [B, S, D]
  x = x + encoder->positions->weight;
  if (encoder->drop) x = encoder->drop->forward(x);
  out.states = encoder->norm->forward(run_blocks(encoder->blocks, x, {}, hidden));
  if (hidden_states) out.hidden_states.push_back(out.states);
  return out;
}

LmOutput WhisperImpl::run(const LmInput& input) {
  std::optional<at::NoGradGuard> no_grad;
  if (input.state != nullptr) no_grad.emplace();
  auto call = prepare_decoder(input, {.what = "Whisper",
                                      .layers = config.decoder_layers,
                                      .dim = config.d_model,
                                      .vocab_size = config.vocab_size,
                                      .decoder_start = config.decoder_start_token_id,
                                      .pad = config.pad_token_id,
                                      .longest = config.max_target_positions});
  LmOutput out;
  const auto L = call.ids.size(1);
  auto x = decoder->embed->forward(call.ids).to(decoder->norm->weight.scalar_type());  // [B, L, D]
  x = x + (input.positions.defined() ? position_rows("Whisper", decoder->positions, input.positions, L)
                                     : decoder->positions->forward(L, call.past));
  if (decoder->drop) x = decoder->drop->forward(x);
  call.args.self.mask = call.mask;
  x = run_blocks(decoder->blocks, x, call.args, input.hidden_states ? &out.hidden_states : nullptr);
  x = decoder->norm->forward(x);
  if (input.hidden_states) out.hidden_states.push_back(x);
  out.logits = head->forward(input.last_only ? x.slice(1, -1) : x);
  if (input.labels.defined()) out.loss = unshifted_loss(out.logits, input.labels);
  return out;
}

std::unique_ptr<DecoderState> WhisperImpl::make_state(int64_t batch, int64_t capacity) {
  WINNOW_CHECK(batch >= 1, "Whisper: batch must be >= 1, got {}", batch);
  return std::make_unique<EncoderDecoderState>(config.decoder_layers, capacity);
}

}  // namespace winnow::models

// T5: encoder and decoder with relative positions, or the encoder alone (T5ForConditionalGeneration, T5EncoderModel).
// Source: Raffel et al. 2019, arXiv 1910.10683; version 1.1 (gated MLP, own head, no scaling) as published with it.
#pragma once

#include <torch/nn/pimpl.h>

#include <memory>
#include <string>
#include <vector>

#include "winnow/attention/language_model.h"
#include "winnow/attention/transformer_block.h"
#include "winnow/models/pretrained.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/position.h"
#include "winnow/nn/relative_position.h"
#include "winnow/nn/stack.h"

namespace winnow::models {

// Members are named as in config.json; the defaults are transformers'.
struct T5Config {
  int64_t vocab_size = 32128;
  int64_t d_model = 512;
  int64_t d_kv = 64;  // width of a head; heads * d_kv need not be d_model
  int64_t d_ff = 2048;
  int64_t num_layers = 6;          // of the encoder
  int64_t num_decoder_layers = 0;  // 0: num_layers
  int64_t num_heads = 8;
  int64_t relative_attention_num_buckets = 32;
  int64_t relative_attention_max_distance = 128;
  std::string feed_forward_proj = "relu";  // an activation, or "gated-" and one; "gated-gelu" means gelu_new
  double layer_norm_epsilon = 1e-6;
  double dropout_rate = 0.1;  // in training: of embeddings, probabilities, residual branches, inside the MLP
  double initializer_factor = 1.0;
  // transformers 5 writes it; published files of version 1.1 say tie_word_embeddings: false instead.
  bool scale_decoder_outputs = true;  // states before the head times d_model^-0.5
  bool own_head = false;              // lm_head is not the token embedding
  bool encoder_only = false;          // T5EncoderModel
  int64_t pad_token_id = 0;
  int64_t eos_token_id = 1;
  int64_t decoder_start_token_id = 0;
};

// Keys that cannot change what is computed are passed over; any other unknown key is Error(unsupported) by name.
T5Config read_t5_config(const io::JsonObject& json);
io::Json to_json(const T5Config& config);

// Encoder or decoder. Children: blocks, norm, bias (RelativeBias, added to the scores of every block), drop.
struct T5StackImpl : torch::nn::Module {
  T5StackImpl(const T5Config& config, bool decoder);
  Stack<TransformerBlock> blocks{nullptr};
  Norm norm{nullptr};
  RelativeBias bias{nullptr};
  Dropout drop{nullptr};
};
TORCH_MODULE(T5Stack);

// Children: embed (weight [V, D]), encoder, decoder, and head unless it is tied to the embedding. Weights are drawn as
// Hugging Face's T5 draws them.
struct T5Impl : Pretrained, EncoderDecoder {
  explicit T5Impl(T5Config c, uint64_t seed = 0);  // throws winnow::Error on sizes out of range

  // ids [B, S] int64 -> states [B, S, D].
  Encoded encode(const at::Tensor& ids, const at::Tensor& keep = {}, bool hidden_states = false) override;
  // Throws Error(unsupported) for an encoder alone.
  LmOutput run(const LmInput& input) override;
  [[nodiscard]] std::unique_ptr<DecoderState> make_state(int64_t batch, int64_t capacity) override;
  [[nodiscard]] int64_t vocab_size() const override { return config.vocab_size; }
  [[nodiscard]] int64_t context_length() const override { return 0; }
  [[nodiscard]] int64_t decoder_start() const override { return config.decoder_start_token_id; }

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override { return to_json(config); }
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] std::vector<at::Tensor> half_tables() const override { return {embed->weight}; }

  T5Config config;
  LearnedPositions embed{nullptr};
  T5Stack encoder{nullptr}, decoder{nullptr};
  Linear head{nullptr};  // without bias; its weight is that of `embed` where tied (it is no child then)

 private:
  void init_weights(uint64_t seed);
};
TORCH_MODULE(T5);

}  // namespace winnow::models

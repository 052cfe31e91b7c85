// Whisper: an encoder of log-mel columns and a decoder of text (WhisperForConditionalGeneration). The features are made
// by data::LogMel. Source: Radford et al. 2022, arXiv 2212.04356, section 2.2.
#pragma once

#include <torch/nn/modules/conv.h>
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
#include "winnow/nn/stack.h"

namespace winnow::models {

// Members are named as in config.json; the defaults are transformers'.
struct WhisperConfig {
  int64_t vocab_size = 51865;
  int64_t num_mel_bins = 80;
  int64_t d_model = 384;
  int64_t encoder_layers = 4;
  int64_t encoder_attention_heads = 6;
  int64_t encoder_ffn_dim = 1536;
  int64_t decoder_layers = 4;
  int64_t decoder_attention_heads = 6;
  int64_t decoder_ffn_dim = 1536;
  int64_t max_source_positions = 1500;  // of the encoder's output; its input has twice as many columns
  int64_t max_target_positions = 448;
  std::string activation_function = "gelu";
  bool scale_embedding = false;  // kept for saving: transformers reads it and scales nothing, so nothing is scaled here
  double dropout = 0.0;          // in training: of embeddings and residual branches
  double attention_dropout = 0.0;
  double activation_dropout = 0.0;
  double init_std = 0.02;
  int64_t pad_token_id = 50256;
  int64_t bos_token_id = 50256;
  int64_t eos_token_id = 50256;
  int64_t decoder_start_token_id = 50257;
  std::vector<int64_t> suppress_tokens = {};        // of generation; kept for saving
  std::vector<int64_t> begin_suppress_tokens = {};  // likewise
};

// Keys that cannot change what is computed are passed over; any other unknown key, and LayerDrop or SpecAugment in
// training, are Error(unsupported) by name.
WhisperConfig read_whisper_config(const io::JsonObject& json);
io::Json to_json(const WhisperConfig& config);

// Two convolutions of width 3 with GELU, the second of stride 2, fixed positions, blocks, norm. Children: conv1, conv2,
// positions, blocks, norm, drop.
struct WhisperEncoderImpl : torch::nn::Module {
  explicit WhisperEncoderImpl(const WhisperConfig& config);
  torch::nn::Conv1d conv1{nullptr}, conv2{nullptr};
  LearnedPositions positions{nullptr};  // no gradient
  Stack<TransformerBlock> blocks{nullptr};
  Norm norm{nullptr};
  Dropout drop{nullptr};
};
TORCH_MODULE(WhisperEncoder);

struct WhisperDecoderImpl : torch::nn::Module {
  explicit WhisperDecoderImpl(const WhisperConfig& config);
  LearnedPositions embed{nullptr}, positions{nullptr};
  Stack<TransformerBlock> blocks{nullptr};
  Norm norm{nullptr};
  Dropout drop{nullptr};
};
TORCH_MODULE(WhisperDecoder);

// Children: encoder, decoder. The head is the decoder's token embedding.
struct WhisperImpl : Pretrained, EncoderDecoder {
  explicit WhisperImpl(WhisperConfig c, uint64_t seed = 0);  // throws winnow::Error on sizes that do not divide

  // features [B, num_mel_bins, 2 * max_source_positions] -> states [B, max_source_positions, D]. keep must be
  // undefined: Whisper hears silence, it has no padding.
  Encoded encode(const at::Tensor& features, const at::Tensor& keep = {}, bool hidden_states = false) override;
  LmOutput run(const LmInput& input) override;
  [[nodiscard]] std::unique_ptr<DecoderState> make_state(int64_t batch, int64_t capacity) override;
  [[nodiscard]] int64_t vocab_size() const override { return config.vocab_size; }
  [[nodiscard]] int64_t context_length() const override { return config.max_target_positions; }
  [[nodiscard]] int64_t decoder_start() const override { return config.decoder_start_token_id; }

  [[nodiscard]] std::string architecture() const override { return "WhisperForConditionalGeneration"; }
  [[nodiscard]] io::Json config_json() const override { return to_json(config); }
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] std::vector<at::Tensor> half_tables() const override { return {decoder->embed->weight}; }

  WhisperConfig config;
  WhisperEncoder encoder{nullptr};
  WhisperDecoder decoder{nullptr};
  Linear head{nullptr};  // no child: its weight is the embedding's

 private:
  void init_weights(uint64_t seed);
};
TORCH_MODULE(Whisper);

}  // namespace winnow::models

// BERT: a bidirectional text encoder, alone, with a pooler, with the masked-language head, or with a classifier of
// sequences (Hugging Face's BertModel, BertForMaskedLM, BertForSequenceClassification).
// Source: Devlin et al. 2018, arXiv 1810.04805.
#pragma once

#include <torch/nn/modules/embedding.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/attention/transformer_block.h"
#include "winnow/models/pretrained.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/position.h"
#include "winnow/nn/stack.h"

namespace winnow::models {

enum class BertHead {
  none,        // BertModel without its pooler
  pooler,      // BertModel: dense and tanh on the first token
  masked_lm,   // BertForMaskedLM: dense, activation, norm, then the word embeddings transposed, plus a bias
  classifier,  // BertForSequenceClassification: dropout and linear on the pooler's output
};

// Members are named as in config.json, with BERT's defaults.
struct BertConfig {
  BertHead head = BertHead::pooler;
  int64_t vocab_size = 30522;
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;
  std::string hidden_act = "gelu";
  double hidden_dropout_prob = 0.1;           // in training: of the embeddings and of every residual branch
  double attention_probs_dropout_prob = 0.1;  // in training
  int64_t max_position_embeddings = 512;      // the longest sequence
  int64_t type_vocab_size = 2;
  double initializer_range = 0.02;  // standard deviation of the start weights
  double layer_norm_eps = 1e-12;
  int64_t pad_token_id = 0;                                  // kept for saving
  bool tie_word_embeddings = true;                           // false: the masked-language head has a matrix of its own
  double classifier_dropout = -1.0;                          // negative: hidden_dropout_prob
  std::vector<std::string> labels = {"LABEL_0", "LABEL_1"};  // id2label
  std::string problem_type = {};                             // of the classifier's loss; empty: by the labels' dtype
  uint64_t seed = 0;                                         // of the start weights and the dropout
};

// Reads a config.json of the architectures above. Unknown options and those that are not done here (decoder,
// cross-attention, relative positions) are Error(unsupported) by name.
BertConfig read_bert_config(const io::JsonObject& json);
io::Json to_json(const BertConfig& config);

// What one call takes. Only ids are needed.
struct BertInput {
  at::Tensor ids = {};        // [B, L] int64, 0 <= id < vocab_size
  at::Tensor keep = {};       // [B, L], nonzero = a real token; undefined: all
  at::Tensor type_ids = {};   // [B, L] int64, the segment; undefined: all 0
  at::Tensor positions = {};  // [B, L] or [L] int64; undefined: 0 .. L-1, whatever keep says
  at::Tensor labels = {};  // fill loss: masked LM [B, L] int64, -100 = not counted; classifier as classification_loss
  bool hidden_states = false;
  bool head = true;  // false: last_hidden_state and hidden_states alone, no pooler and no logits
};

// A member that the head does not make is undefined.
struct BertOutput {
  at::Tensor last_hidden_state;           // [B, L, D]
  at::Tensor pooler_output;               // [B, D]
  at::Tensor logits;                      // [B, L, vocab_size] or [B, classes]
  at::Tensor loss;                        // scalar
  std::vector<at::Tensor> hidden_states;  // depth + 1 of [B, L, D], 0 the embeddings
};

// Children: word_embeddings, position_embeddings, token_type_embeddings, embeddings_norm, blocks.N (post-norm); by the
// head pooler; transform, transform_norm and the parameter decoder_bias (and decoder_weight if untied); classifier.
struct BertImpl : Pretrained {
  explicit BertImpl(BertConfig config);  // throws winnow::Error on sizes that do not divide

  // Throws winnow::Error for an empty sequence, one that is longer than max_position_embeddings, and on the CPU for an
  // id outside the vocabulary.
  BertOutput forward(const BertInput& input);

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] std::vector<std::string> labels() const override;

  BertConfig config;
  torch::nn::Embedding word_embeddings{nullptr}, token_type_embeddings{nullptr};
  LearnedPositions position_embeddings{nullptr};
  Norm embeddings_norm{nullptr};
  Dropout embeddings_drop{nullptr}, classifier_drop{nullptr};  // only if their rates are > 0
  Stack<TransformerBlock> blocks{nullptr};
  Linear pooler{nullptr}, transform{nullptr}, classifier{nullptr};
  Norm transform_norm{nullptr};
  at::Tensor decoder_weight, decoder_bias;  // [vocab_size, D] if untied, [vocab_size]
  at::Tensor spare_bias;  // [vocab_size] if untied: cls.predictions.bias, which transformers 5 keeps and does not use

 private:
  void check_input(const BertInput& input) const;
  at::Tensor embed(const BertInput& input);
  void run_head(const BertInput& input, BertOutput& out);
};
TORCH_MODULE(Bert);

struct BertFineTuneOptions {
  std::vector<std::string> labels = {};  // names of the classes
  std::string problem_type = {};
  uint64_t seed = 0;  // of the new head (and of the pooler, where the pretrained network has none)
};

// A classifier of sequences on a copy of a pretrained network's weights; its masked-language head is left behind.
Bert fine_tune(const Bert& pretrained, const BertFineTuneOptions& options);

}  // namespace winnow::models

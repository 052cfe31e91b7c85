// Decoder-only language models: token embedding, transformer blocks, final norm, head. GPT-2, Llama, Qwen2, Qwen3,
// Mistral, Mixtral, Qwen3-MoE, OLMoE and GPT-NeoX are descriptions of this one network.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "winnow/attention/decode_plan.h"
#include "winnow/attention/language_model.h"
#include "winnow/attention/transformer_block.h"
#include "winnow/io/json.h"
#include "winnow/models/pretrained.h"
#include "winnow/moe/expert_mlp.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/position.h"
#include "winnow/nn/rotary.h"
#include "winnow/nn/stack.h"

namespace winnow::models {

struct CausalLMLayer {
  TransformerBlockOptions block = {};
  int64_t window = 0;                             // > 0: a token sees itself and the window - 1 tokens before it
  std::optional<moe::ExpertMlpOptions> moe = {};  // stands in the place of block.mlp
};

// The description of a network, made by read_causal_lm_config() or one of the functions below it. `json` is the
// config.json that was read and that save() writes: an option is changed there, and the description read again.
struct CausalLMConfig {
  std::string architecture = {};  // architectures[0]: selects the names of the tensors
  io::Json json = {};
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t context_length = 0;     // max_position_embeddings, n_positions
  int64_t learned_positions = 0;  // rows of a trained position table that is added to the embeddings; 0: none
  std::optional<RotaryOptions> rotary = {};
  std::vector<CausalLMLayer> layers = {};
  NormKind norm = NormKind::rms;  // the final one
  double eps = 1e-6;
  bool tied = false;           // the head is the embedding
  double embed_dropout = 0.0;  // in training
  double router_aux_coefficient = 0.0;
  bool router_logits = false;  // output_router_logits: the auxiliary loss joins every loss
  double initializer_range = 0.02;
};

// Reads a config.json of any of the architectures above, with published keys or those of transformers 5 and each
// architecture's own defaults. A key that cannot change what is computed is passed over; any other unknown key, and an
// option of a known key that is not supported, is Error(unsupported) by name; a wrong value is Error(file).
CausalLMConfig read_causal_lm_config(const io::JsonObject& json);

// The architectures that it reads, sorted.
std::vector<std::string> causal_lm_architectures();

// Sizes of a small network to be trained from the start.
struct CausalLMSizes {
  int64_t vocab_size = 256;
  int64_t context_length = 256;
  int64_t dim = 256;
  int64_t depth = 6;
  int64_t heads = 8;
  int64_t kv_heads = 0;  // llama only; 0: heads
  int64_t hidden = 0;    // inside the MLP; 0: 4 dim (GPT-2), 8/3 dim rounded up to a multiple of 8 (Llama)
  double dropout = 0.0;  // GPT-2 only: of embeddings, attention and residual branches
  bool tied = true;
  double rope_theta = 10000.0;  // llama
};
// GPT-2: LayerNorm, learned positions, tanh GELU, biases everywhere.
CausalLMConfig gpt2_config(const CausalLMSizes& sizes);
// Llama: RMSNorm, rotary positions, SwiGLU, no biases.
CausalLMConfig llama_config(const CausalLMSizes& sizes);

// Children: embed (weight [V, D]), pos_embed where positions are learned, embed_drop, blocks.N (TransformerBlock; its
// "mlp" is a moe::ExpertMlp in layers with experts), norm, and head unless it is tied to the embedding.
// Weights are drawn from the seed as GPT-2's are: N(0, initializer_range), of the projections that end a residual
// branch divided by sqrt(2 depth); biases 0, norms 1.
struct CausalLMImpl : Pretrained, LanguageModel {
  explicit CausalLMImpl(CausalLMConfig c, uint64_t seed = 0);  // throws winnow::Error on sizes that do not fit

  LmOutput run(const LmInput& input) override;
  [[nodiscard]] std::unique_ptr<DecoderState> make_state(int64_t batch, int64_t capacity) override;
  [[nodiscard]] int64_t vocab_size() const override { return config.vocab_size; }
  [[nodiscard]] int64_t context_length() const override { return config.context_length; }

  // logits [B, L, V] of ids [B, L]: run() with nothing else.
  at::Tensor forward(const at::Tensor& ids);

  [[nodiscard]] std::string architecture() const override { return config.architecture; }
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] std::vector<at::Tensor> half_tables() const override { return {embed->weight}; }

  CausalLMConfig config;
  LearnedPositions embed{nullptr}, pos_embed{nullptr};
  Dropout embed_drop{nullptr};
  Stack<TransformerBlock> blocks{nullptr};
  Norm norm{nullptr};
  Linear head{nullptr};  // without bias; its weight is that of `embed` where tied (it is no child then)

  // What DecodePlan takes; run() decodes by one of its own where it can.
  [[nodiscard]] DecodeStack decode_stack() const;

 private:
  void check_input(const LmInput& input) const;
  void check_length(int64_t past, int64_t added) const;
  at::Tensor decode(const LmInput& input) const;
  at::Tensor positions_of(const LmInput& input) const;
  std::vector<AttentionMask> layer_masks(const LmInput& input) const;
  at::Tensor run_blocks(at::Tensor x, const LmInput& input, const at::Tensor& positions, LmOutput& out);
};
TORCH_MODULE(CausalLM);

}  // namespace winnow::models

// Mamba, a language model without attention (MambaForCausalLM). Source: Gu and Dao 2023, arXiv 2312.00752.
#pragma once

#include <torch/nn/pimpl.h>

#include <memory>
#include <string>
#include <vector>

#include "winnow/attention/language_model.h"
#include "winnow/models/pretrained.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/mamba_mixer.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/position.h"
#include "winnow/nn/stack.h"

namespace winnow::models {

// Members are named as in config.json; the defaults are transformers'.
struct MambaConfig {
  int64_t vocab_size = 50280;
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 32;
  int64_t state_size = 16;
  int64_t expand = 2;
  int64_t intermediate_size = 0;  // 0: expand * hidden_size
  int64_t conv_kernel = 4;
  int64_t time_step_rank = 0;  // 0 ("auto"): hidden_size / 16, rounded up
  bool use_bias = false;
  bool use_conv_bias = true;
  std::string hidden_act = "silu";
  double layer_norm_epsilon = 1e-5;
  bool residual_in_fp32 = true;  // where the weights are of a half type
  bool tie_word_embeddings = true;
  double initializer_range = 0.1;
  int64_t pad_token_id = 0;
  int64_t bos_token_id = 0;
  int64_t eos_token_id = 0;
};

// Keys that cannot change what is computed are passed over; any other unknown key is Error(unsupported) by name.
MambaConfig read_mamba_config(const io::JsonObject& json);
io::Json to_json(const MambaConfig& config);

// The recurrent state of every layer: its size does not grow with the tokens. truncate() to 0 and select() are done;
// what would need earlier states throws Error(unsupported).
struct MambaState : DecoderState {
  explicit MambaState(int64_t layers) : mixers(static_cast<size_t>(layers)) {}
  [[nodiscard]] int64_t length() const override { return read; }
  void truncate(int64_t length) override;
  void select(const at::Tensor& rows) override;
  void compact(int64_t prefix, const std::vector<int64_t>& keep) override;

  std::vector<MambaMixerState> mixers;
  int64_t read = 0;
};

// x + mixer(norm(x)).
struct MambaBlockImpl : torch::nn::Module, Hookable {
  explicit MambaBlockImpl(const MambaConfig& config);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& keep, MambaMixerState* state);

  bool residual_in_fp32;
  Norm norm{nullptr};
  MambaMixer mixer{nullptr};
};
TORCH_MODULE(MambaBlock);

// Children: embed (weight [V, D]), blocks.N, norm, and head unless it is tied. In LmInput, mask must be undefined; of
// `keep` only padding on the left has a meaning; positions are not looked at. hidden_states are those after each
// block, the last again after the final norm, as transformers gives them (the embeddings are not among them).
struct MambaImpl : Pretrained, LanguageModel {
  explicit MambaImpl(MambaConfig c, uint64_t seed = 0);  // throws winnow::Error on sizes out of range

  LmOutput run(const LmInput& input) override;
  [[nodiscard]] std::unique_ptr<DecoderState> make_state(int64_t batch, int64_t capacity) override;
  [[nodiscard]] int64_t vocab_size() const override { return config.vocab_size; }
  [[nodiscard]] int64_t context_length() const override { return 0; }

  [[nodiscard]] std::string architecture() const override { return "MambaForCausalLM"; }
  [[nodiscard]] io::Json config_json() const override { return to_json(config); }
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] std::vector<at::Tensor> half_tables() const override { return {embed->weight}; }

  MambaConfig config;
  LearnedPositions embed{nullptr};
  Stack<MambaBlock> blocks{nullptr};
  Norm norm{nullptr};
  Linear head{nullptr};  // without bias; its weight is that of `embed` where tied (it is no child then)

 private:
  void init_weights(uint64_t seed);
  void check_input(const LmInput& input) const;
};
TORCH_MODULE(Mamba);

}  // namespace winnow::models

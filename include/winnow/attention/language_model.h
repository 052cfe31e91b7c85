// What generation, evaluation and speculative decoding need of a language model, whatever is inside it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "winnow/attention/kv_cache.h"
#include "winnow/attention/mask.h"

namespace winnow {

// What a model remembers of the tokens it has read: keys and values, a recurrent state, or both. Made by
// LanguageModel::make_state, given to run(), which appends to it. Not thread safe. What a kind of state cannot do
// throws winnow::Error(unsupported).
struct DecoderState {
  virtual ~DecoderState() = default;
  // Tokens read so far, padding included.
  [[nodiscard]] virtual int64_t length() const = 0;
  // Forgets all tokens from `length` on.
  virtual void truncate(int64_t length) = 0;
  // Keeps the given rows of the batch, int64 [B'], in that order; a row may be given twice.
  virtual void select(const at::Tensor& rows) = 0;
  // Keeps the first `prefix` tokens and, behind them, those whose numbers `keep` gives (ascending, >= prefix).
  virtual void compact(int64_t prefix, const std::vector<int64_t>& keep) = 0;
};

// The state of a transformer decoder: one KvCache.
struct KvState : DecoderState {
  explicit KvState(int64_t layers, int64_t capacity = 0) : cache(layers, capacity) {}
  [[nodiscard]] int64_t length() const override { return cache.length(); }
  void truncate(int64_t length) override { cache.truncate(length); }
  void select(const at::Tensor& rows) override { cache.select(rows); }
  void compact(int64_t prefix, const std::vector<int64_t>& keep) override { cache.compact(prefix, keep); }

  KvCache cache;
};

// One call of a language model. T = tokens in the state before the call + L.
struct LmInput {
  at::Tensor ids = {};             // [B, L] int64, L >= 1, each in [0, vocab_size)
  at::Tensor keep = {};            // [B, T], bool or any number: nonzero = a real token; undefined: all are
  at::Tensor positions = {};       // [B, L] or [L] int64; undefined: T - L, ..., T - 1, whatever `keep` says
  AttentionMask mask = {};         // in addition to the causal one and `keep`: documents, trees of drafts
  DecoderState* state = nullptr;   // of make_state(B, ..): read and appended to; no gradients are recorded then
  at::Tensor labels = {};          // [B, L] int64, -100 = ignored: fills loss. Logits at t are compared with t + 1
  bool last_only = false;          // logits of the last position only (not with labels)
  bool hidden_states = false;      // fill hidden_states
  bool logits = true;              // false: logits stay undefined, for a loss on the hidden states (not with labels)
  bool router_logits = false;      // mixtures of experts: fill router_logits and aux_loss, which joins the loss
  at::Tensor encoder_states = {};  // [B, S, D] for models with an encoder; undefined: those in the state
  at::Tensor encoder_keep = {};    // [B, S] as `keep`
};

struct LmOutput {
  at::Tensor logits = {};                      // [B, L, V], or [B, 1, V] with last_only
  at::Tensor loss = {};                        // scalar: mean cross-entropy over the labels that count
  at::Tensor aux_loss = {};                    // scalar: load balance of the experts, before its coefficient
  std::vector<at::Tensor> hidden_states = {};  // [B, L, D]: the embeddings, then after each block; the last one after
                                               // the final norm
  std::vector<at::Tensor> router_logits = {};  // [B L, experts] of each layer with experts
};

// An interface beside torch::nn::Module, which it does not inherit: networks of `models` are both. Where nothing is
// defined (positions that `keep` hides) logits are some finite numbers.
struct LanguageModel {
  virtual ~LanguageModel() = default;
  // Throws winnow::Error(argument) on wrong shapes or dtypes, an id outside the vocabulary, or more tokens than
  // context_length().
  virtual LmOutput run(const LmInput& input) = 0;
  // An empty state for `batch` rows with room for `capacity` tokens; it grows when more come.
  [[nodiscard]] virtual std::unique_ptr<DecoderState> make_state(int64_t batch, int64_t capacity) = 0;
  [[nodiscard]] virtual int64_t vocab_size() const = 0;
  [[nodiscard]] virtual int64_t context_length() const = 0;  // tokens; 0: unlimited
};

// What an encoder made of its input: LmInput::encoder_states and encoder_keep.
struct Encoded {
  at::Tensor states = {};                      // [B, S, D], after the final norm
  at::Tensor keep = {};                        // [B, S]; undefined: all are real
  std::vector<at::Tensor> hidden_states = {};  // [B, S, D], if asked for: the embeddings, then after each block; the
                                               // last one after the final norm
};

// A decoder that attends to what an encoder read (T5, Whisper). run() takes encoder_states in the first call of a
// state, which keeps their keys and values (and encoder_keep); in later calls they are not looked at. Labels belong to
// the logits of the same position: nothing is shifted. Where ids are undefined and labels given, ids are the labels
// moved one place to the right behind decoder_start().
struct EncoderDecoder : LanguageModel {
  // input: what the encoder takes, token ids [B, S] or features [B, bands, columns].
  virtual Encoded encode(const at::Tensor& input, const at::Tensor& keep = {}, bool hidden_states = false) = 0;
  [[nodiscard]] virtual int64_t decoder_start() const = 0;  // the token that stands before the first one
};

}  // namespace winnow

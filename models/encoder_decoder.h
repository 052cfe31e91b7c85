// What encoder-decoder models share: the state of the decoder, the checks of a call, masks, loss, readers and names.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/attention/language_model.h"
#include "winnow/attention/transformer_block.h"
#include "winnow/io/json.h"
#include "winnow/models/weight_map.h"
#include "winnow/nn/stack.h"

namespace winnow::models {

// Keys and values of the decoder's own tokens, which grow, and of the encoder's, which stay.
struct EncoderDecoderState : DecoderState {
  EncoderDecoderState(int64_t layers, int64_t capacity) : self(layers, capacity), cross(layers) {}
  [[nodiscard]] int64_t length() const override { return self.length(); }
  void truncate(int64_t length) override { self.truncate(length); }
  void select(const at::Tensor& rows) override;
  void compact(int64_t prefix, const std::vector<int64_t>& keep) override { self.compact(prefix, keep); }

  KvCache self, cross;
  at::Tensor encoder_keep;  // [B, S], or undefined
};

struct DecoderShape {
  const char* what;  // "T5": begins messages
  int64_t layers, dim, vocab_size, decoder_start, pad;
  int64_t longest;  // tokens; 0: unlimited
};

// One checked call. The masks are described once for all layers.
struct DecoderCall {
  at::Tensor ids;      // [B, L]
  int64_t past = 0;    // tokens in the state
  AttentionMask mask;  // of the decoder's own tokens
  BlockArgs args;      // cross complete, self with its cache only
};
DecoderCall prepare_decoder(const LmInput& input, const DecoderShape& shape);

// Through all blocks; the input of each is added to `hidden` if that is given.
at::Tensor run_blocks(Stack<TransformerBlock>& blocks, at::Tensor x, const BlockArgs& args,
                      std::vector<at::Tensor>* hidden);

// Mean cross-entropy of logits [B, L, V] and labels [B, L] at the same place; -100 is ignored.
at::Tensor unshifted_loss(const at::Tensor& logits, const at::Tensor& labels);

// An integer of config.json in [1, most], and a number in [0, 1); Error(file) names the key.
int64_t size_or(const io::JsonObject& json, const std::string& key, int64_t fallback, int64_t most = int64_t{1} << 24);
double rate_or(const io::JsonObject& json, const std::string& key, double fallback);

// The projections of a cross-attention as three tensors (".weight", and ".bias" where they have one).
void add_cross(WeightMap& map, const MultiHeadAttention& attention, const std::string& q, const std::string& k,
               const std::string& v);

}  // namespace winnow::models

#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "winnow/attention/kv_cache.h"
#include "winnow/attention/transformer_block.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/rotary.h"

namespace winnow {

// A decoder-only network as DecodePlan takes it.
struct DecodeStack {
  at::Tensor embedding = {};                 // [V, D], float32, float16 or bfloat16
  at::Tensor positions = {};                 // learned [N, D], of the same dtypes, added to the embedding; or undefined
  std::optional<RotaryOptions> rotary = {};  // turns queries and keys of every block
  std::vector<TransformerBlock> blocks = {};
  std::vector<int64_t> windows = {};  // of each block, 0: none; empty: none at all
  Norm norm{nullptr};                 // after the last block
  Linear head{nullptr};               // D -> V
};

// A stack compiled for decoding on the CPU: 1 to 16 new tokens of one sequence at a time, in float32, through raw
// pointers and buffers made once. No operator of LibTorch is called and nothing is allocated (but by a cache that
// grows, a FeedForward of one's own, or a LinearStorage without a kernel of its own). The result is that of the modules
// up to rounding, and the result of a token is the same to the bit whether it comes alone or in a run of several (of
// those parts of one's own too, if they keep to that). Causal; no gradients, no hooks, no dropout: whoever wants them
// runs the modules. The plan holds the modules and reads their weights in place: an optimizer's step is seen, and
// whether a tensor was replaced is told by current(). Not thread safe; several plans of one stack may run at once.
class DecodePlan {
 public:
  static constexpr int64_t kMaxTokens = 16;

  // Why a stack cannot be planned ("blocks.3: order post_norm"); empty if it can.
  static std::string obstacle(const DecodeStack& stack);
  // Throws winnow::Error (kind unsupported) with the obstacle.
  explicit DecodePlan(DecodeStack stack);
  ~DecodePlan();
  DecodePlan(const DecodePlan&) = delete;
  DecodePlan& operator=(const DecodePlan&) = delete;

  // Appends n tokens, 1 <= n <= kMaxTokens, to a cache of as many layers as the stack has blocks and of one sequence,
  // and writes the logits of all of them [n, V], or with last_only those of the last one [V]. positions[n], or null:
  // those that follow the cache's tokens. Throws winnow::Error if n, an id, a (learned) position or the cache does not
  // fit; the cache is then as it was.
  void run(const int64_t* ids, const int64_t* positions, int64_t n, KvCache& cache, bool last_only, float* logits);

  // Whether the modules still hold the tensors (and the storages) that were planned.
  [[nodiscard]] bool current() const;
  [[nodiscard]] const DecodeStack& stack() const;
  // Bytes of weights that a token reads, of one row of the embedding.
  [[nodiscard]] int64_t weight_bytes() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace winnow

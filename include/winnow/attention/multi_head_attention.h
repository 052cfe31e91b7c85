#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <optional>

#include "winnow/attention/capture.h"
#include "winnow/attention/kv_cache.h"
#include "winnow/attention/mask.h"
#include "winnow/core/options.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/rotary.h"

namespace winnow {

enum class QkvBias {
  all,          // on queries, keys and values
  query_value,  // BEiT, CAE, VideoMAE, Whisper: parameters q_bias and v_bias, none on the keys
  none,
};
EnumNames<QkvBias> enum_names(QkvBias);

enum class QkNorm {
  none,
  per_head,          // over head_dim, one weight for all heads (Qwen3)
  whole_projection,  // over heads * head_dim before it is cut into heads (OLMoE)
};
EnumNames<QkNorm> enum_names(QkNorm);

struct AttentionOptions {
  int64_t dim = 0;          // D >= 1: width of queries' input and of the output
  int64_t heads = 1;        // H >= 1
  int64_t kv_heads = 0;     // key and value heads, a divisor of heads; 0 means heads. Query head h uses h / (H / Hkv)
  int64_t head_dim = 0;     // d; 0 means dim / heads, which must divide
  bool cross = false;       // keys and values come from AttentionArgs::context: parameters q and kv instead of qkv
  int64_t context_dim = 0;  // width of the context of a cross-attention; 0 means dim
  QkvBias qkv_bias = QkvBias::all;
  bool out_bias = true;
  QkNorm qk_norm = QkNorm::none;
  NormKind qk_norm_kind = NormKind::rms;
  double qk_norm_eps = 1e-6;
  std::optional<double> clip_qkv = {};  // clamp of q, k and v to [-clip, clip], after the norms
  std::optional<double> scale = {};     // of the scores; absent: head_dim^-0.5. T5: 1
  double dropout = 0.0;                 // of the probabilities, in training
  uint64_t seed = 0;                    // of the dropout's generator
  static Fields<AttentionOptions> fields();
};

// What one call may bring beside its input.
struct AttentionArgs {
  AttentionMask mask = {};   // who sees whom; default: everybody
  at::Tensor bias = {};      // added to the scaled scores, broadcastable to [B, H, Lq, Lk]; undefined: none
  RotaryTable rotary = {};   // turns q and k; for cached decoding the table of the NEW positions
  KvCache* cache = nullptr;  // self-attention: new keys and values are appended and all are attended to.
                             // Cross-attention: keys of `context` are stored at the first call (context given) and
                             // reused when context is undefined
  int64_t layer = 0;         // number of this layer in the cache
  at::Tensor context = {};   // [B, Lk, context_dim], cross-attention only
  AttentionCapture* capture = nullptr;
  at::Tensor outputs = {};  // int64 [B, R]: the tokens of x whose output is wanted; the others are only attended to.
                            // Undefined: all
  AttentionArgs for_layer(int64_t index) const;  // a copy with another layer number (used by Stack)
};

// Scaled dot-product attention with several heads over at::scaled_dot_product_attention (Vaswani et al. 2017, arXiv
// 1706.03762, section 3.2). Children: qkv (rows: all of q, then k, then v) or q and kv (rows: k, then v), proj; q_norm
// and k_norm if asked for; parameters q_bias and v_bias for QkvBias::query_value. A query that may see no key gives
// zeros before the projection. With dropout, in training, the probabilities are formed explicitly.
struct MultiHeadAttentionImpl : torch::nn::Cloneable<MultiHeadAttentionImpl>, Hookable {
  explicit MultiHeadAttentionImpl(AttentionOptions opts);  // throws winnow::Error on sizes that do not divide
  void reset() override;

  // x [B, L, D] -> [B, L, D], or [B, R, D] with args.outputs. B or L may be 0.
  at::Tensor forward(const at::Tensor& x);
  at::Tensor forward(const at::Tensor& x, const AttentionArgs& args);

  AttentionOptions options;  // with every 0 replaced by its meaning
  Linear qkv{nullptr}, q{nullptr}, kv{nullptr}, proj{nullptr};
  at::Tensor q_bias, v_bias;  // [H d] and [Hkv d]
  Norm q_norm{nullptr}, k_norm{nullptr};
  Dropout drop{nullptr};

 private:
  struct Heads {
    at::Tensor q, k, v;  // [B, H, Lq, d], [B, Hkv, Lk, d] twice
  };
  at::Tensor project_qkv(const at::Tensor& x);
  at::Tensor cut_heads(const at::Tensor& flat, int64_t heads, Norm& norm) const;
  Heads self_heads(const at::Tensor& x);
  Heads cross_heads(const at::Tensor& x, const AttentionArgs& args);
  at::Tensor attend(const Heads& heads, const AttentionArgs& args);
  void capture(const Heads& heads, const at::Tensor& allowed, const AttentionArgs& args) const;
};
TORCH_MODULE(MultiHeadAttention);

}  // namespace winnow

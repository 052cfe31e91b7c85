#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace winnow {

// Which keys a query may attend to. Causal and window masks are described, not stored; `a & b` allows what both allow.
// The queries of a call are the LAST ones of the sequence: with Lq queries and Lk keys, query i stands at position
// Lk - Lq + i. So one mask serves a whole sequence and a decoding step on a cache alike.
struct AttentionMask {
  bool causal = false;      // keys after the query's position are hidden
  int64_t window = 0;       // > 0: key j is seen from position i only if |i - j| < window; 0: no window
  at::Tensor allowed = {};  // bool, true = may attend, broadcastable to [B, H, Lq, Lk]; undefined: everything
  bool defined() const { return causal || window > 0 || allowed.defined(); }
};

AttentionMask operator&(const AttentionMask& a, const AttentionMask& b);

AttentionMask causal_mask();
// Alone: a band on both sides. With causal_mask(): the sliding window of Mistral, itself included. window >= 1.
AttentionMask window_mask(int64_t window);
// keep [B, Lk], bool or any number (nonzero = a real token): keys of padding are hidden.
AttentionMask padding_mask(const at::Tensor& keep);
// allowed, bool: [Lq, Lk], [B, Lq, Lk] or [B, H, Lq, Lk].
AttentionMask dense_mask(const at::Tensor& allowed);

enum class BlockRelation {
  same,       // query and key are of the same block: packed documents, windows
  not_later,  // the key's block number is at most the query's: block-causal, a frame sees itself and earlier frames
};
// Block numbers, integers: queries [Lq] or [B, Lq], keys [Lk] or [B, Lk].
AttentionMask block_mask(const at::Tensor& query_blocks, const at::Tensor& key_blocks, BlockRelation relation);

// A tree of draft tokens behind a context: node i sees all `context` keys, itself and its ancestors. parents[i] < i is
// the parent's number, -1 for a child of the context. -> allowed [N, context + N]. Source: Miao et al. 2023
// (SpecInfer), arXiv 2305.09781, section 4.
AttentionMask tree_mask(const std::vector<int64_t>& parents, int64_t context);
// The same relation in bits: row i holds ceil(N / 64) words, bit j % 64 of word j / 64 is set if node i sees node j.
std::vector<uint64_t> ancestor_bits(const std::vector<int64_t>& parents);

// What at::scaled_dot_product_attention needs for a mask.
struct ResolvedMask {
  at::Tensor allowed = {};  // bool, broadcastable to [B, H, Lq, Lk], or undefined
  bool is_causal = false;   // the fast path: no tensor at all; only where Lq == Lk
};
// Makes the tensor for given lengths, on `device`, or none where none is needed: no mask, a causal mask of equal
// lengths, a causal mask of one query. Throws winnow::Error if `allowed` does not fit [.., Lq, Lk].
ResolvedMask resolve_mask(const AttentionMask& mask, int64_t queries, int64_t keys, at::Device device);
// The whole mask as one bool tensor broadcastable to [B, H, Lq, Lk]; undefined if there is no mask. Errors as above.
at::Tensor materialize_mask(const AttentionMask& mask, int64_t queries, int64_t keys, at::Device device);

}  // namespace winnow

#include "winnow/attention/mask.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"

namespace winnow {

namespace {

// Broadcastable to [B, H, Lq, Lk]: a mask of three dimensions is [B, Lq, Lk].
at::Tensor with_heads(const at::Tensor& allowed) {
  return allowed.dim() == 3 ? allowed.unsqueeze(1) : allowed;
}

}  // namespace

AttentionMask operator&(const AttentionMask& a, const AttentionMask& b) {
  AttentionMask both;
  both.causal = a.causal || b.causal;
  both.window = a.window == 0 ? b.window : b.window == 0 ? a.window : std::min(a.window, b.window);
  if (a.allowed.defined() && b.allowed.defined()) {
    WINNOW_CHECK(a.allowed.device() == b.allowed.device(), "AttentionMask: masks must be on one device, got {} and {}",
                 a.allowed.device().str(), b.allowed.device().str());
    both.allowed = a.allowed.logical_and(b.allowed);
  } else {
    both.allowed = a.allowed.defined() ? a.allowed : b.allowed;
  }
  return both;
}

AttentionMask causal_mask() {
  return {.causal = true, .window = 0, .allowed = {}};
}

AttentionMask window_mask(int64_t window) {
  WINNOW_CHECK(window >= 1, "window_mask: window must be >= 1, got {}", window);
  return {.causal = false, .window = window, .allowed = {}};
}

AttentionMask padding_mask(const at::Tensor& keep) {
  check_dim("padding_mask: keep", keep, 2);
  return {.causal = false, .window = 0, .allowed = (keep != 0).unsqueeze(1).unsqueeze(1)};  // [B, 1, 1, Lk]
}

AttentionMask dense_mask(const at::Tensor& allowed) {
  check_dtype("dense_mask: allowed", allowed, at::kBool);
  WINNOW_CHECK(allowed.dim() >= 2 && allowed.dim() <= 4, "dense_mask: allowed must have 2 to 4 dimensions, got {}",
               allowed.dim());
  return {.causal = false, .window = 0, .allowed = with_heads(allowed)};
}

AttentionMask block_mask(const at::Tensor& query_blocks, const at::Tensor& key_blocks, BlockRelation relation) {
  const auto check_blocks = [](const char* name, const at::Tensor& blocks) {
    WINNOW_CHECK(blocks.defined() && (blocks.dim() == 1 || blocks.dim() == 2), "block_mask: {} must be [L] or [B, L]",
                 name);
    WINNOW_CHECK(at::isIntegralType(blocks.scalar_type(), /*includeBool=*/false),
                 "block_mask: {} must be integers, got {}", name, c10::toString(blocks.scalar_type()));
  };
  check_blocks("query_blocks", query_blocks);
  check_blocks("key_blocks", key_blocks);
  const auto query = query_blocks.unsqueeze(-1), key = key_blocks.unsqueeze(-2);
  return dense_mask(relation == BlockRelation::same ? query == key : key <= query);
}

std::vector<uint64_t> ancestor_bits(const std::vector<int64_t>& parents) {
  const size_t nodes = parents.size(), words = (nodes + 63) / 64;
  std::vector<uint64_t> bits(nodes * words, 0);
  for (size_t i = 0; i < nodes; ++i) {
    WINNOW_CHECK(parents[i] >= -1 && parents[i] < static_cast<int64_t>(i),
                 "ancestor_bits: parent of node {} must be in [-1, {}), got {}", i, i, parents[i]);
    if (parents[i] >= 0) {
      const auto* above = bits.data() + static_cast<size_t>(parents[i]) * words;
      std::copy(above, above + words, bits.data() + i * words);
    }
    bits[i * words + i / 64] |= uint64_t{1} << (i % 64);
  }
  return bits;
}

AttentionMask tree_mask(const std::vector<int64_t>& parents, int64_t context) {
  WINNOW_CHECK(context >= 0, "tree_mask: context must be >= 0, got {}", context);
  const auto bits = ancestor_bits(parents);
  const size_t nodes = parents.size(), words = (nodes + 63) / 64;
  const auto count = static_cast<int64_t>(nodes);
  const auto allowed = at::ones({count, context + count}, at::kBool);
  auto* cells = allowed.mutable_data_ptr<bool>();
  for (size_t i = 0; i < nodes; ++i) {
    auto* row = cells + i * (static_cast<size_t>(context) + nodes) + context;
    for (size_t j = 0; j < nodes; ++j) row[j] = (bits[i * words + j / 64] >> (j % 64)) & 1;
  }
  return dense_mask(allowed);
}

at::Tensor materialize_mask(const AttentionMask& mask, int64_t queries, int64_t keys, at::Device device) {
  at::Tensor allowed;
  if (mask.allowed.defined()) {
    allowed = with_heads(mask.allowed).to(device);
    const auto rows = allowed.size(-2), columns = allowed.size(-1);
    WINNOW_CHECK((rows == queries || rows == 1) && (columns == keys || columns == 1),
                 "AttentionMask: allowed must fit {} queries and {} keys, got shape [{}]", queries, keys,
                 fmt::join(mask.allowed.sizes(), ", "));
  }
  if (!mask.causal && mask.window == 0) return allowed;
  const auto ints = at::TensorOptions(at::kLong).device(device);
  // Position of the key minus position of the query: [Lq, Lk].
  const auto ahead = at::arange(keys, ints).unsqueeze(0) - at::arange(keys - queries, keys, ints).unsqueeze(1);
  const auto also = [&](const at::Tensor& rule) { allowed = allowed.defined() ? allowed.logical_and(rule) : rule; };
  if (mask.causal) also(ahead <= 0);
  if (mask.window > 0) also(mask.causal ? ahead > -mask.window : ahead.abs() < mask.window);
  return allowed;
}

ResolvedMask resolve_mask(const AttentionMask& mask, int64_t queries, int64_t keys, at::Device device) {
  auto needed = mask;
  if (needed.window >= keys && needed.window >= queries) needed.window = 0;  // reaches everything
  if (queries == 1) needed.causal = needed.causal && needed.window > 0;      // the last position sees all keys
  if (needed.causal && needed.window == 0 && !needed.allowed.defined() && queries == keys) {
    return {.allowed = {}, .is_causal = true};
  }
  return {.allowed = materialize_mask(needed, queries, keys, device), .is_causal = false};
}

}  // namespace winnow

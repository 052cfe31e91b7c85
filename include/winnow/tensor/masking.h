#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// Moving tokens in and out of a masked sequence (He et al. 2021, arXiv 2111.06377, section 3; steps 3 and 5 of its
// code). CPU, CUDA and meta tensors; another device is a winnow::Error. Each is registered as torch.ops.winnow.<name>.
namespace winnow {

// x [B, L, D], ids [B, K] int64 -> [B, K, D] with row k of sample b = x[b, ids[b, k]]. Any dtype; ids may repeat.
// The gradient of x adds up over repeated ids, without atomics: the same bits in every run. No double backward (an
// error). K = 0, B = 0 and D = 0 give an empty result. Throws winnow::Error if a shape differs or an id is outside [0,
// L).
at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& ids);

// kept [B, prefix + K, D], ids_restore [B, L] int64, mask_token [D] (or any shape of D elements), positions
// [prefix + L, D] (or with a leading 1) or undefined -> [B, prefix + L, D]:
//   row j < prefix:   kept[b, j] + positions[j]                    (class token and registers stay in front)
//   row prefix + l:   kept[b, prefix + r] + positions[prefix + l]  where r = ids_restore[b, l] < K,
//                     mask_token + positions[prefix + l]           elsewhere.
// Gradients for kept, mask_token (the same bits for any number of threads) and positions; no double backward (an
// error). All floating arguments of one dtype; float16 and bfloat16 are added in float32. Throws winnow::Error unless
// each row of ids_restore is a permutation of 0..L-1 and K <= L.
at::Tensor restore_tokens(const at::Tensor& kept, const at::Tensor& ids_restore, const at::Tensor& mask_token,
                          const at::Tensor& positions = {}, int64_t prefix = 0);

struct MaskingPermutation {
  at::Tensor ids_keep;     // [B, keep] int64: the tokens of the smallest noise, in that order
  at::Tensor ids_restore;  // [B, L] int64: the inverse of ids_shuffle
  at::Tensor mask;         // [B, L] float32: 0 = kept, 1 = removed
  at::Tensor ids_shuffle;  // [B, L] int64: the stable argsort of the noise
};

// The permutation of random masking: ascending noise [B, L], equal noise in order of index. 0 <= keep <= L. Floating
// noise; no gradient. Throws winnow::Error on NaN in the noise and on keep out of range.
MaskingPermutation masking_permutation(const at::Tensor& noise, int64_t keep);

}  // namespace winnow

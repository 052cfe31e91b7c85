// What the text encoders share: checks of their inputs and the start of their weights.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>

#include "winnow/attention/mask.h"
#include "winnow/nn/position.h"

namespace winnow::models {

// ids must be int64 [B, L] with 1 <= L <= longest and, on the CPU, entries in [0, vocabulary). `what` names the model.
void check_token_ids(const char* what, const at::Tensor& ids, int64_t vocabulary, int64_t longest);

// Rows of a table for positions [L] or [B, L], or for 0 .. length-1 where they are undefined.
at::Tensor position_rows(const char* what, LearnedPositions table, const at::Tensor& positions, int64_t length);

// The padding mask of keep [B, L]; no mask where it is undefined or keeps everything (looked at on the CPU only).
AttentionMask keep_mask(const char* what, const at::Tensor& keep, const at::Tensor& ids);

// All matrices N(0, deviation), all biases 0, all norms 1.
void init_normal_weights(torch::nn::Module& root, uint64_t seed, double deviation);

}  // namespace winnow::models

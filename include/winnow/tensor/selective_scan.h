#pragma once

#include <ATen/core/Tensor.h>

namespace winnow {

// The input-dependent parts of a selective state space and its parameters. B samples, L steps, E channels, N states.
// All of one dtype (float32 or float64; the half types are computed in float32) and device.
struct SelectiveScanInput {
  at::Tensor u;             // [B, L, E]
  at::Tensor dt;            // [B, L, E]: before softplus
  at::Tensor a;             // [E, N]: negative for a state that fades
  at::Tensor b;             // [B, L, N]
  at::Tensor c;             // [B, L, N]
  at::Tensor d = {};        // [E]: the skip from u to y; undefined: none
  at::Tensor z = {};        // [B, L, E]: gate; undefined: none
  at::Tensor dt_bias = {};  // [E]; undefined: none
  at::Tensor state = {};    // [B, N, E]: the state before the first step; undefined: zeros
};

struct SelectiveScanOutput {
  at::Tensor y;      // [B, L, E], the dtype of u
  at::Tensor state;  // [B, N, E] after the last step, float32 or float64
};

// h_t = exp(delta_t A) h_(t-1) + delta_t u_t B_t,  y_t = (C_t . h_t + D u_t) silu(z_t),  delta = softplus(dt +
// dt_bias), step by step without storing the states of all steps. Differentiable in every input and through both
// results; no double backward (an error). L = 0 gives the state back. One step at a time from the returned state gives
// the same numbers as one call over all steps. Throws winnow::Error if a shape, dtype or device does not fit. Source:
// Gu and Dao 2023, arXiv 2312.00752, section 3.
SelectiveScanOutput selective_scan(const SelectiveScanInput& input);

}  // namespace winnow

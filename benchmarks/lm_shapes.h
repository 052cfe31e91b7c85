// The networks that decoding and prefill are measured on, with weights drawn from a seed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bench.h"
#include "peer.h"
#include "winnow/models/causal_lm.h"

namespace winnow::bench {

struct LmShape {
  std::string name;
  models::CausalLMConfig config;
  int64_t new_tokens;      // of one generation that is timed
  double decode_target;    // tokens/s of ours / the peer's
  double bandwidth_share;  // wanted of read bandwidth / weight bytes; 0: the weights fit a cache
  bool large;              // over 4 GB: left out of smoke runs
};

std::vector<LmShape> lm_shapes();

// A model of the shape, written into a temporary folder that lives as long as this object, and transformers on the same
// folder (benchmarks/peers/lm_decode.py). Throws winnow::Error unless both give the same logits to 1e-4.
struct LmPair {
  explicit LmPair(const LmShape& shape);
  ~LmPair();
  LmPair(const LmPair&) = delete;
  LmPair& operator=(const LmPair&) = delete;
  // The peer's work from now on: "eager" or "sdpa", "generate" or "prefill".
  Side peer_side(const std::string& attention, const std::string& work);

  LmShape shape;
  std::filesystem::path folder;
  models::CausalLM model;
  std::unique_ptr<Peer> peer;
  at::Tensor prompt;  // [1, 8]
};

}  // namespace winnow::bench

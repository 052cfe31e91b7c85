// Routers of mixtures of experts: which experts a token goes to and how much each counts.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/nn/linear.h"

namespace winnow::moe {

// Where N tokens go.
struct Routing {
  at::Tensor logits;   // [N, E]: the router's scores
  at::Tensor experts;  // [N, k] int64: chosen experts, the most probable first
  at::Tensor weights;  // [N, k]: their shares in the output, of the dtype of the tokens
};

// The interface of a router. A subclass overrides torch::nn::Module::clone, so that models that hold it can be cloned.
struct Router : torch::nn::Module {
  // tokens [N, D]; N may be 0.
  virtual Routing route(const at::Tensor& tokens) = 0;
  [[nodiscard]] virtual int64_t experts() const = 0;
};

struct TopKRouterOptions {
  int64_t dim = 0;           // D >= 1
  int64_t experts = 0;       // E >= 1
  int64_t top_k = 2;         // k in [1, E]
  bool renormalize = false;  // the k weights are divided by their sum (Mixtral); else they are the probabilities
  static Fields<TopKRouterOptions> fields();
};

// Softmax over all experts in float32 (float64 for float64 tokens), then the k largest; equal ones: lower index first.
// Gradients go through the chosen weights. Source: Jiang et al. 2024, arXiv 2401.04088, section 2.1. Child: gate, a
// Linear [E, D] without bias.
struct TopKRouter : Router {
  explicit TopKRouter(TopKRouterOptions opts);  // throws winnow::Error on a size out of range
  Routing route(const at::Tensor& tokens) override;
  [[nodiscard]] int64_t experts() const override { return options.experts; }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  TopKRouterOptions options;
  Linear gate{nullptr};
};

// E * sum_e f_e P_e over the rows of all layers taken together: f_e the number of choices of expert e per row (f sums
// to k, so perfect balance gives k), P_e its mean probability, which gets the gradient. Rows of a layer that `keep` [N]
// (bool or numbers, undefined: all count) marks 0 are left out. Throws winnow::Error if there is no layer or their
// numbers of experts differ. Source: Fedus et al. 2021, arXiv 2101.03961, eq. 4 to 6, as transformers computes it.
at::Tensor load_balancing_loss(const std::vector<Routing>& layers, const at::Tensor& keep = {});

// While one is alive, every mixture of experts that runs on this thread appends its routing, in the order of the calls;
// the one made last gets them.
class RoutingRecord {
 public:
  RoutingRecord();
  ~RoutingRecord();
  RoutingRecord(const RoutingRecord&) = delete;
  RoutingRecord& operator=(const RoutingRecord&) = delete;

  std::vector<Routing> layers;

  // For mixtures: keeps the routing if a record is alive on this thread.
  static void note(const Routing& routing);

 private:
  RoutingRecord* outer_;
};

}  // namespace winnow::moe

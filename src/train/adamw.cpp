#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>

#include <map>
#include <tuple>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/train/optimizer.h"

namespace winnow::train {
namespace {

struct Batch {
  std::vector<at::Tensor> params, grads, exp_avgs, exp_avg_sqs;
};

}  // namespace

FusedAdamW::FusedAdamW(std::vector<ParamGroup> groups, AdamWOptions options)
    : Optimizer("adamw", std::move(groups)), options_(options) {
  WINNOW_CHECK(options_.beta1 >= 0 && options_.beta1 < 1, "FusedAdamW: beta1 must be in [0, 1), got {}",
               options_.beta1);
  WINNOW_CHECK(options_.beta2 >= 0 && options_.beta2 < 1, "FusedAdamW: beta2 must be in [0, 1), got {}",
               options_.beta2);
  WINNOW_CHECK(options_.eps > 0, "FusedAdamW: eps must be > 0, got {}", options_.eps);
}

std::vector<std::string> FusedAdamW::slot_names() const {
  return {"exp_avg", "exp_avg_sq"};
}

void FusedAdamW::update(const std::vector<Entry*>& entries, double lr, double weight_decay) {
  using Key = std::tuple<at::ScalarType, c10::DeviceType, c10::DeviceIndex, int64_t>;
  std::map<Key, Batch> batches;
  for (const auto* entry : entries) {
    const auto device = entry->param.device();
    auto& batch = batches[{entry->param.scalar_type(), device.type(), device.index(), entry->steps}];
    batch.params.push_back(entry->param);
    batch.grads.push_back(entry->param.grad());
    batch.exp_avgs.push_back(entry->slots[0]);
    batch.exp_avg_sqs.push_back(entry->slots[1]);
  }
  for (const auto& [key, batch] : batches) {
    const at::Device device(std::get<1>(key), std::get<2>(key));
    const auto steps = at::full({}, std::get<3>(key), at::TensorOptions().dtype(at::kFloat).device(device));
    const std::vector<at::Tensor> all_steps(batch.params.size(), steps);  // read only: one tensor serves them all
    at::_fused_adamw_(batch.params, batch.grads, batch.exp_avgs, batch.exp_avg_sqs, /*max_exp_avg_sqs=*/{}, all_steps,
                      lr, options_.beta1, options_.beta2, weight_decay, options_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

}  // namespace winnow::train

#include "winnow/train/data_parallel.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "winnow/core/error.h"

namespace winnow::train {
namespace {

// Gradients that travel together: [gradients of all members one after the other | one use count for each member].
struct Bucket {
  std::vector<size_t> members;     // indices of parameters
  std::vector<at::Tensor> slices;  // views into buffer, in the shape of the parameter
  at::Tensor buffer;
  at::Tensor used;  // view of the tail of buffer, [members]
  size_t waiting = 0;
  std::vector<ProcessGroup::Pending> pending;  // one entry once launched
};

}  // namespace

struct DataParallel::Impl {
  std::shared_ptr<ProcessGroup> group;
  std::vector<at::Tensor> parameters;
  std::vector<std::string> names;
  std::vector<std::pair<size_t, size_t>> place;  // parameter -> (bucket, index in it)
  std::vector<Bucket> buckets;
  std::vector<bool> ready;
  size_t next_launch = 0;  // buckets start in this order in every process, whatever order they fill in
  bool sync = true;
  std::mutex mutex;  // hooks of a CUDA backward pass run in the device's thread

  void make_buckets(int64_t bucket_bytes) {
    using Kind = std::pair<at::ScalarType, std::string>;
    std::map<Kind, std::pair<size_t, int64_t>> open;  // bucket that takes more of this kind, its bytes
    place.resize(parameters.size());
    for (size_t i = parameters.size(); i-- > 0;) {
      const auto& parameter = parameters[i];
      const auto bytes = static_cast<int64_t>(parameter.nbytes());
      const Kind kind{parameter.scalar_type(), parameter.device().str()};
      const auto found = open.find(kind);
      if (found == open.end() || found->second.second + bytes > bucket_bytes) {
        open[kind] = {buckets.size(), 0};
        buckets.emplace_back();
      }
      auto& [bucket, filled] = open[kind];
      filled += bytes;
      place[i] = {bucket, buckets[bucket].members.size()};
      buckets[bucket].members.push_back(i);
    }
    for (auto& bucket : buckets) {
      int64_t total = 0;
      for (const auto member : bucket.members) total += parameters[member].numel();
      const auto count = static_cast<int64_t>(bucket.members.size());
      bucket.buffer = at::zeros({total + count}, parameters[bucket.members[0]].options().requires_grad(false));
      int64_t offset = 0;
      for (const auto member : bucket.members) {
        const auto& parameter = parameters[member];
        bucket.slices.push_back(bucket.buffer.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
        offset += parameter.numel();
      }
      bucket.used = bucket.buffer.narrow(0, total, count);
    }
    begin_step();
  }

  void begin_step() {
    ready.assign(parameters.size(), false);
    next_launch = 0;
    for (auto& bucket : buckets) {
      bucket.waiting = bucket.members.size();
      bucket.pending.clear();
    }
  }

  void gradient_ready(size_t parameter) {
    const std::lock_guard lock(mutex);
    if (!sync) return;
    WINNOW_CHECK(!ready[parameter], "DataParallel: a step must have one backward pass, '{}' got a second gradient",
                 names[parameter]);
    ready[parameter] = true;
    --buckets[place[parameter].first].waiting;
    while (next_launch < buckets.size() && buckets[next_launch].waiting == 0) launch(buckets[next_launch++]);
  }

  void launch(Bucket& bucket) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < bucket.members.size(); ++i) {
      const auto& grad = parameters[bucket.members[i]].grad();
      if (grad.defined()) {
        bucket.slices[i].copy_(grad);
      } else {
        bucket.slices[i].zero_();
      }
      bucket.used[static_cast<int64_t>(i)].fill_(grad.defined() ? 1 : 0);
    }
    bucket.pending.push_back(group->start_all_reduce_sum(bucket.buffer));
  }

  void take(Bucket& bucket) {
    bucket.pending.front().wait();
    const auto used = bucket.used.to(at::kCPU, at::kFloat);
    bucket.buffer.div_(group->size());
    for (size_t i = 0; i < bucket.members.size(); ++i) {
      auto& parameter = parameters[bucket.members[i]];
      auto& grad = parameter.mutable_grad();
      if (used.const_data_ptr<float>()[i] == 0) continue;  // no process used it
      if (!grad.defined()) grad = at::empty_like(parameter, parameter.options().requires_grad(false));
      grad.copy_(bucket.slices[i]);
    }
  }
};

namespace {

// Called by autograd when a parameter's gradient of this backward pass is complete.
struct ReadyHook : torch::autograd::PostAccumulateGradHook {
  explicit ReadyHook(std::function<void()> call) : on_ready(std::move(call)) {}
  void operator()(const torch::autograd::Variable&) override { on_ready(); }
  std::function<void()> on_ready;
};

}  // namespace

DataParallel::DataParallel(const torch::nn::Module& module, std::shared_ptr<ProcessGroup> group,
                           DataParallelOptions options)
    : impl_(std::make_shared<Impl>()) {
  WINNOW_CHECK(group != nullptr, "DataParallel: group must be set");
  WINNOW_CHECK(options.bucket_bytes >= 1, "DataParallel: bucket_bytes must be >= 1, got {}", options.bucket_bytes);
  impl_->group = std::move(group);
  const at::NoGradGuard no_grad;
  const auto share = [&](const at::Tensor& tensor) {
    const auto dense = tensor.detach().contiguous();
    impl_->group->broadcast(dense);
    if (!dense.is_same(tensor) && dense.data_ptr() != tensor.data_ptr()) tensor.detach().copy_(dense);
  };
  for (const auto& item : module.named_parameters()) share(item.value());
  for (const auto& item : module.named_buffers()) share(item.value());
  if (impl_->group->size() == 1) return;
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    impl_->names.push_back(item.key());
    impl_->parameters.push_back(item.value());
  }
  WINNOW_CHECK(!impl_->parameters.empty(), "DataParallel: module must have a parameter that requires a gradient");
  for (size_t i = 0; i < impl_->parameters.size(); ++i) {
    auto& parameter = impl_->parameters[i];
    WINNOW_CHECK(torch::autograd::impl::post_acc_grad_hooks(parameter) == nullptr,
                 "DataParallel: parameter '{}' has a gradient hook already", impl_->names[i]);
    torch::autograd::impl::set_post_acc_grad_hooks(parameter,
                                                   std::make_unique<ReadyHook>([weak = std::weak_ptr(impl_), i] {
                                                     if (const auto impl = weak.lock()) impl->gradient_ready(i);
                                                   }));
  }
  impl_->make_buckets(options.bucket_bytes);
}

DataParallel::~DataParallel() {
  for (auto& parameter : impl_->parameters) torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
}

void DataParallel::set_sync(bool sync) {
  impl_->sync = sync;
}

void DataParallel::finish() {
  if (impl_->buckets.empty()) return;
  const at::NoGradGuard no_grad;
  auto& impl = *impl_;
  while (impl.next_launch < impl.buckets.size()) impl.launch(impl.buckets[impl.next_launch++]);
  for (auto& bucket : impl.buckets) impl.take(bucket);
  impl.begin_step();
}

int64_t DataParallel::bucket_count() const {
  return static_cast<int64_t>(impl_->buckets.size());
}

}  // namespace winnow::train

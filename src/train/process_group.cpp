#include "winnow/train/process_group.h"

#include <ATen/ops/zeros.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include "nccl_backend.h"
#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow::train {
namespace {

// Runs a c10d call; its failures (a lost peer, a timeout, no connection) become one winnow::Error.
template <typename Call>
auto guarded(const char* what, Call&& call) {
  try {
    return call();
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    fail(ErrorKind::config, "ProcessGroup: {} failed: {}", what, error.what_without_backtrace());
  } catch (const std::exception& error) {
    fail(ErrorKind::config, "ProcessGroup: {} failed: {}", what, error.what());
  }
}

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

int64_t environment_number(const char* name, int64_t low, int64_t high) {
  const auto text = environment(name);
  WINNOW_CHECK_KIND(text.has_value(), ErrorKind::config,
                    "ProcessGroup: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT must be set together, {} is not",
                    name);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  WINNOW_CHECK_KIND(error == std::errc() && end == text->data() + text->size() && value >= low && value <= high,
                    ErrorKind::config, "ProcessGroup: {} must be an integer in [{}, {}], got '{}'", name, low, high,
                    *text);
  return value;
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// Where the processes meet. torchrun keeps a store of its own at MASTER_PORT, to which every process is a client.
c10::intrusive_ptr<c10d::Store> tcp_store(int64_t rank, int64_t size, double timeout_seconds) {
  const auto address = environment("MASTER_ADDR");
  WINNOW_CHECK_KIND(address.has_value(), ErrorKind::config,
                    "ProcessGroup: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT must be set together, {} is not",
                    "MASTER_ADDR");
  const bool agent_store = environment("TORCHELASTIC_USE_AGENT_STORE") == "True";
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(environment_number("MASTER_PORT", 1, 65535));
  options.isServer = rank == 0 && !agent_store;
  options.numWorkers = static_cast<size_t>(size);
  options.timeout = milliseconds(timeout_seconds);
  return guarded("meeting at MASTER_ADDR", [&]() -> c10::intrusive_ptr<c10d::Store> {
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(*address, options);
    if (!agent_store) return store;
    const auto attempt = environment("TORCHELASTIC_RESTART_COUNT").value_or("0");
    return c10::make_intrusive<c10d::PrefixStore>("/worker/attempt_" + attempt, store);
  });
}

}  // namespace

struct ProcessGroup::Impl {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> gloo;
  c10::intrusive_ptr<c10d::Backend> nccl;  // null without NCCL

  Impl(c10::intrusive_ptr<c10d::Store> meeting, int64_t rank, int64_t size, const Options& options)
      : store(std::move(meeting)) {
    WINNOW_CHECK(options.timeout_seconds > 0, "ProcessGroup: timeout_seconds must be > 0, got {}",
                 options.timeout_seconds);
    guarded("connecting", [&] {
      const auto timeout = milliseconds(options.timeout_seconds);
      auto gloo_options = c10d::ProcessGroupGloo::Options::create(timeout);
      gloo_options->devices.push_back(options.address.empty()
                                          ? c10d::ProcessGroupGloo::createDefaultDevice()
                                          : c10d::ProcessGroupGloo::createDeviceForHostname(options.address));
      gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>("gloo", store),
                                                         static_cast<int>(rank), static_cast<int>(size), gloo_options);
      if (options.backend == Backend::nccl) {
        nccl = make_nccl_backend(c10::make_intrusive<c10d::PrefixStore>("nccl", store), static_cast<int>(rank),
                                 static_cast<int>(size), timeout);
      }
    });
  }

  c10d::Backend& backend(const at::Tensor& tensor) const { return tensor.is_cuda() && nccl ? *nccl : *gloo; }

  c10::intrusive_ptr<c10d::Work> start_all_reduce(const at::Tensor& tensor, c10d::ReduceOp::RedOpType op) const {
    WINNOW_CHECK(tensor.is_contiguous(), "ProcessGroup: tensor must be contiguous, got strides {}", tensor.strides());
    std::vector<at::Tensor> tensors{tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = op;
    return backend(tensor).allreduce(tensors, options);
  }
};

ProcessGroup::ProcessGroup() = default;
ProcessGroup::~ProcessGroup() = default;

ProcessGroup::ProcessGroup(std::unique_ptr<Impl> impl, int64_t rank, int64_t size)
    : impl_(std::move(impl)), rank_(rank), size_(size) {}

std::shared_ptr<ProcessGroup> ProcessGroup::from_environment() {
  return from_environment(Options{});
}

std::shared_ptr<ProcessGroup> ProcessGroup::from_environment(const Options& options) {
  if (!environment("WORLD_SIZE") && !environment("RANK")) return std::make_shared<ProcessGroup>();
  const auto size = environment_number("WORLD_SIZE", 1, 1 << 20);
  const auto rank = environment_number("RANK", 0, size - 1);
  if (size == 1) return std::make_shared<ProcessGroup>();
  auto chosen = options;
  const auto master = environment("MASTER_ADDR").value_or("");
  // All processes of one machine: the host's name may not resolve to an address that can be reached.
  if (chosen.address.empty() && (master == "localhost" || master == "127.0.0.1")) chosen.address = "127.0.0.1";
  auto impl = std::make_unique<Impl>(tcp_store(rank, size, options.timeout_seconds), rank, size, chosen);
  return std::shared_ptr<ProcessGroup>(new ProcessGroup(std::move(impl), rank, size));
}

std::shared_ptr<ProcessGroup> ProcessGroup::from_file(const std::string& path, int64_t rank, int64_t size,
                                                      const Options& options) {
  WINNOW_CHECK(size >= 1, "ProcessGroup: size must be >= 1, got {}", size);
  WINNOW_CHECK(rank >= 0 && rank < size, "ProcessGroup: rank must be in [0, {}), got {}", size, rank);
  if (size == 1) return std::make_shared<ProcessGroup>();
  auto store = guarded("opening the meeting file", [&]() -> c10::intrusive_ptr<c10d::Store> {
    auto result = c10::make_intrusive<c10d::FileStore>(path, static_cast<int>(size));
    result->setTimeout(milliseconds(options.timeout_seconds));
    return result;
  });
  auto impl = std::make_unique<Impl>(std::move(store), rank, size, options);
  return std::shared_ptr<ProcessGroup>(new ProcessGroup(std::move(impl), rank, size));
}

void ProcessGroup::all_reduce_sum(const at::Tensor& tensor) {
  start_all_reduce_sum(tensor).wait();
}

void ProcessGroup::all_reduce_max(const at::Tensor& tensor) {
  if (!impl_) return;
  guarded("all_reduce", [&] { impl_->start_all_reduce(tensor, c10d::ReduceOp::MAX)->wait(); });
}

ProcessGroup::Pending ProcessGroup::start_all_reduce_sum(const at::Tensor& tensor) {
  if (!impl_) return Pending([] {});
  auto work = guarded("all_reduce", [&] { return impl_->start_all_reduce(tensor, c10d::ReduceOp::SUM); });
  return Pending([work] { guarded("all_reduce", [&] { work->wait(); }); });
}

void ProcessGroup::broadcast(const at::Tensor& tensor, int64_t from) {
  WINNOW_CHECK(from >= 0 && from < size_, "ProcessGroup: from must be in [0, {}), got {}", size_, from);
  if (!impl_) return;
  WINNOW_CHECK(tensor.is_contiguous(), "ProcessGroup: tensor must be contiguous, got strides {}", tensor.strides());
  guarded("broadcast", [&] {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    impl_->backend(tensor).broadcast(tensors, options)->wait();
  });
}

void ProcessGroup::barrier() {
  if (!impl_) return;
  all_reduce_sum(at::zeros({1}, at::kLong));
}

std::vector<std::string> ProcessGroup::all_gather(const std::string& bytes) {
  if (!impl_) return {bytes};
  const auto lengths = at::zeros({size_}, at::kLong);
  lengths[rank_] = static_cast<int64_t>(bytes.size());
  all_reduce_sum(lengths);
  std::vector<std::string> result;
  for (int64_t from = 0; from < size_; ++from) {
    const auto length = lengths[from].item<int64_t>();
    if (length == 0) {  // an empty tensor has no memory to point at
      result.emplace_back();
      continue;
    }
    const auto buffer = at::zeros({length}, at::kByte);
    if (from == rank_) std::memcpy(buffer.data_ptr(), bytes.data(), bytes.size());
    broadcast(buffer, from);
    result.emplace_back(static_cast<const char*>(buffer.const_data_ptr()), static_cast<size_t>(length));
  }
  return result;
}

}  // namespace winnow::train

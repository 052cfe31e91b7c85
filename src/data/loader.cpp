#include "winnow/data/loader.h"

#include <c10/util/Exception.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/tensor/format.h"
#include "workers.h"

namespace winnow::data {
namespace {

constexpr int64_t kStateVersion = 1;

// A batch on its way. Tickets number the batches of all epochs: epoch * batches_per_epoch + step.
struct Slot {
  Batch batch;
  std::vector<int64_t> examples;
  int64_t begun = 0;  // examples taken by a worker; all further fields: under the loader's mutex
  int64_t done = 0;
  std::exception_ptr error;  // of the first example that failed, in order of the batch
  int64_t error_at = 0;
  bool complete() const { return done == static_cast<int64_t>(examples.size()); }
};
using SlotPtr = std::shared_ptr<Slot>;

bool unshared(const at::Tensor& x) {
  return x.use_count() == 1 && x.storage().use_count() == 1;
}

}  // namespace

Fields<LoaderOptions> LoaderOptions::fields() {
  return Fields<LoaderOptions>("Loader")
      .add("batch_size", &LoaderOptions::batch_size, "examples of a batch of one process", at_least(1))
      .add("shuffle", &LoaderOptions::shuffle, "a new order each epoch")
      .add("drop_last", &LoaderOptions::drop_last, "leave out an incomplete last batch")
      .add("seed", &LoaderOptions::seed, "of order and augmentation")
      .add("rank", &LoaderOptions::rank, "number of this process", at_least(0))
      .add("world_size", &LoaderOptions::world_size, "number of processes", at_least(1))
      .add("workers", &LoaderOptions::workers, "threads that prepare batches; 0: the caller's", in_range(0, 1024))
      .add("prefetch", &LoaderOptions::prefetch, "batches prepared ahead", at_least(1))
      .add("pin_memory", &LoaderOptions::pin_memory, "page-locked batches, for a GPU")
      .rule([](const LoaderOptions& o) {
        WINNOW_CHECK(o.rank < o.world_size, "Loader: rank must be < world_size, got {} and {}", o.rank, o.world_size);
      });
}

struct Loader::Impl {
  DatasetPtr dataset;
  std::optional<ImageTransform> transform;
  LoaderOptions options;
  int64_t size = 0, global_batch = 0, steps = 0;
  std::vector<int64_t> sample_shape;  // of one example in a batch
  at::TensorOptions sample_options;

  // The consumer's side, one thread at a time.
  int64_t ticket = 0;   // of the batch that comes next
  bool at_end = false;  // the last batch of an epoch has just been handed out

  // Shared with the workers.
  std::mutex mutex;
  std::condition_variable work_changed, slot_completed;
  std::deque<SlotPtr> slots;  // in order of their tickets
  int64_t next_ticket = 0;    // of the slot to be opened next
  bool stopping = false;
  std::vector<Batch> memory;  // of batches that are in use
  std::vector<Batch> idle;    // of batches that nobody holds any more
  int64_t order_epoch = -1;
  std::vector<int64_t> order;  // of order_epoch

  std::vector<std::thread> threads;

  Impl(DatasetPtr data, std::optional<ImageTransform> transform_, LoaderOptions options_)
      : dataset(std::move(data)), transform(std::move(transform_)), options(options_) {
    check(options);
    WINNOW_CHECK(dataset != nullptr, "Loader: dataset must not be null");
    size = dataset->size();
    global_batch = options.batch_size * options.world_size;
    steps = options.drop_last ? size / global_batch : (size + global_batch - 1) / global_batch;
    WINNOW_CHECK(steps >= 1, "Loader: the data set must hold at least {} example(s) for one batch, got {}",
                 options.drop_last ? global_batch : 1, size);
    WINNOW_CHECK_KIND(!options.pin_memory || at::hasCUDA(), ErrorKind::unsupported,
                      "Loader: pin_memory needs CUDA, which this LibTorch lacks");
    learn_shape();
    if (options.workers > 0) threads = start_workers(options.workers, [this] { work(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work_changed.notify_all();
    for (auto& thread : threads) thread.join();
  }

  // Only a picture tells the number of channels; the first readable one is asked, so that one bad file does not end a
  // run before its batch comes.
  void learn_shape() {
    sample_options = at::TensorOptions(at::kFloat);
    if (transform) {
      const auto& how = transform->options();
      sample_shape = {static_cast<int64_t>(how.mean.size()), how.height, how.width};
      if (!how.mean.empty()) return;
    }
    for (int64_t i = 0;; ++i) {
      try {
        const auto image = dataset->get(i, 0).image;
        if (transform) {
          WINNOW_CHECK(image.dim() == 3, "Loader: a transform needs pictures uint8 [H, W, C], {} is {}",
                       dataset->origin(i), image);
          sample_shape[0] = image.size(2);
        } else {
          sample_shape = image.sizes().vec();
          sample_options = image.options();
        }
        return;
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::file || i + 1 == size) throw;
      }
    }
  }

  // The mutex is held (or there are no workers) in the functions from here to open_slot.
  const std::vector<int64_t>& order_of(int64_t epoch) {
    if (order_epoch != epoch) {
      if (options.shuffle) {
        order = Random(derive_seed(options.seed, epoch)).permutation(size);
      } else {
        order.resize(static_cast<size_t>(size));
        std::iota(order.begin(), order.end(), int64_t{0});
      }
      order_epoch = epoch;
    }
    return order;
  }

  // Called by the thread that takes the batches: it has let go of the earlier ones, and the mutex orders what it read
  // of them before what a worker writes there. The count of references alone is read without order.
  void collect_idle_memory() {
    for (auto used = memory.begin(); used != memory.end();) {
      if (unshared(used->images) && unshared(used->labels) && unshared(used->indices)) {
        std::atomic_thread_fence(std::memory_order_acquire);  // another thread may have let go
        idle.push_back(std::move(*used));
        used = memory.erase(used);
      } else {
        ++used;
      }
    }
  }

  Batch batch_memory(int64_t count) {
    auto shape = sample_shape;
    shape.insert(shape.begin(), count);
    // A copy to the GPU may still be reading page-locked memory that nobody holds any more; LibTorch's own allocator
    // knows, so that memory is given back to it.
    const auto fits = [&](const Batch& batch) { return batch.images.sizes() == shape; };
    if (const auto found = std::find_if(idle.begin(), idle.end(), fits); found != idle.end()) {
      memory.push_back(std::move(*found));
      idle.erase(found);
      return memory.back();
    }
    const at::TensorOptions integers(at::kLong);
    Batch fresh{.images = at::empty(shape, sample_options.pinned_memory(options.pin_memory)),
                .labels = at::empty({count}, integers.pinned_memory(options.pin_memory)),
                .indices = at::empty({count}, integers.pinned_memory(options.pin_memory))};
    const auto kept = static_cast<size_t>(options.prefetch) + 2;
    if (!options.pin_memory && memory.size() + idle.size() < kept) memory.push_back(fresh);
    return fresh;
  }

  SlotPtr open_slot(int64_t number) {
    auto slot = std::make_shared<Slot>();
    const int64_t epoch = number / steps, step = number % steps;
    const int64_t begin = step * global_batch, count = std::min(global_batch, size - begin);
    const int64_t first = begin + count * options.rank / options.world_size;
    const int64_t last = begin + count * (options.rank + 1) / options.world_size;
    const auto& all = order_of(epoch);
    slot->examples.assign(all.begin() + first, all.begin() + last);
    slot->batch = batch_memory(last - first);
    slot->batch.epoch = epoch;
    slot->batch.step = step;
    std::copy(slot->examples.begin(), slot->examples.end(), slot->batch.indices.mutable_data_ptr<int64_t>());
    return slot;
  }

  // One example into its place in the batch.
  void make_example(const Slot& slot, int64_t position) const {
    const auto index = slot.examples[static_cast<size_t>(position)];
    const auto seed = derive_seed(options.seed, slot.batch.epoch, index);
    const auto place = slot.batch.images.select(0, position);
    auto* label = slot.batch.labels.mutable_data_ptr<int64_t>() + position;
    if (transform) {
      *label = transform->apply(*dataset, index, seed, place);
      return;
    }
    const auto example = dataset->get(index, seed);
    WINNOW_CHECK(example.image.sizes() == place.sizes() && example.image.scalar_type() == place.scalar_type(),
                 "Loader: all examples must be like the first, {}, but {} is {}", place, dataset->origin(index),
                 example.image);
    place.copy_(example.image);
    *label = example.label;
  }

  // Null, or the failure as a winnow::Error whose text holds the example's origin.
  std::exception_ptr try_example(const Slot& slot, int64_t position) const {
    const auto named = [&](ErrorKind kind, const std::string& text) {
      const auto origin = dataset->origin(slot.examples[static_cast<size_t>(position)]);
      return std::make_exception_ptr(
          Error(kind, text.find(origin) != std::string::npos ? text : fmt::format("{}: {}", origin, text)));
    };
    try {
      make_example(slot, position);
      return nullptr;
    } catch (const Error& error) {
      return named(error.kind(), error.what());
    } catch (const c10::Error& error) {
      return named(ErrorKind::file, error.what_without_backtrace());
    } catch (const std::exception& error) {
      return named(ErrorKind::file, error.what());
    }
  }

  static void finish_example(Slot& slot, int64_t position, std::exception_ptr error) {
    ++slot.done;
    if (error && (!slot.error || position < slot.error_at)) {
      slot.error = std::move(error);
      slot.error_at = position;
    }
  }

  // The first slot with an example that nobody has begun; a new one if there is room; else null.
  SlotPtr find_work() {
    for (const auto& slot : slots) {
      if (slot->begun < static_cast<int64_t>(slot->examples.size())) return slot;
    }
    while (static_cast<int64_t>(slots.size()) < options.prefetch) {
      auto slot = open_slot(next_ticket++);
      slots.push_back(slot);
      if (!slot->examples.empty()) return slot;
      slot_completed.notify_one();  // this rank's part of a short last batch is empty
    }
    return nullptr;
  }

  void work() {
    std::unique_lock lock(mutex);
    while (!stopping) {
      const auto slot = find_work();
      if (slot == nullptr) {
        work_changed.wait(lock);
        continue;
      }
      const auto position = slot->begun++;
      lock.unlock();
      auto error = try_example(*slot, position);
      lock.lock();
      finish_example(*slot, position, std::move(error));
      if (slot->complete()) slot_completed.notify_one();
    }
  }

  // The slot of `ticket`, complete. It stays where it is if it failed, so that the failure comes again.
  SlotPtr wait_for_slot() {
    std::unique_lock lock(mutex);
    collect_idle_memory();
    if (threads.empty()) {
      if (slots.empty()) slots.push_back(open_slot(next_ticket++));
      auto& slot = *slots.front();
      while (slot.begun < static_cast<int64_t>(slot.examples.size())) {
        const auto position = slot.begun++;
        finish_example(slot, position, try_example(slot, position));
      }
    }
    slot_completed.wait(lock, [&] { return !slots.empty() && slots.front()->complete(); });
    auto slot = slots.front();
    if (slot->error) std::rethrow_exception(slot->error);
    slots.pop_front();
    lock.unlock();
    work_changed.notify_all();
    return slot;
  }

  Batch next() {
    at_end = false;
    auto slot = wait_for_slot();
    ++ticket;
    at_end = ticket % steps == 0;
    return std::move(slot->batch);
  }

  void go_to(int64_t number) {
    {
      const std::lock_guard lock(mutex);
      slots.clear();  // a worker may still hold one and finish it, unseen
      next_ticket = ticket = number;
    }
    at_end = false;
    work_changed.notify_all();
  }
};

Loader::Loader(DatasetPtr dataset, LoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(dataset), std::nullopt, options)) {}
Loader::Loader(DatasetPtr dataset, ImageTransform transform, LoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(dataset), std::move(transform), options)) {}
Loader::~Loader() = default;

Batch Loader::next() {
  return impl_->next();
}

std::optional<Batch> Loader::next_in_epoch() {
  if (std::exchange(impl_->at_end, false)) return std::nullopt;
  return impl_->next();
}

int64_t Loader::batches_per_epoch() const {
  return impl_->steps;
}
int64_t Loader::epoch() const {
  return impl_->ticket / impl_->steps;
}
const LoaderOptions& Loader::options() const {
  return impl_->options;
}
const Dataset& Loader::dataset() const {
  return *impl_->dataset;
}

nlohmann::json Loader::state() const {
  return {{"version", kStateVersion},
          {"epoch", impl_->ticket / impl_->steps},
          {"step", impl_->ticket % impl_->steps},
          {"seed", impl_->options.seed},
          {"shuffle", impl_->options.shuffle},
          {"dataset_size", impl_->size},
          {"global_batch", impl_->global_batch}};
}

void Loader::load_state(const nlohmann::json& state) {
  const auto wanted = this->state();
  for (const auto& [key, value] : wanted.items()) {
    WINNOW_CHECK(state.is_object() && state.contains(key), "Loader: the state must hold the key {}, got {}", key,
                 state.dump());
    if (key == "epoch" || key == "step") {
      WINNOW_CHECK(state[key].is_number_integer() && state[key].get<int64_t>() >= 0,
                   "Loader: {} of the state must be an integer >= 0, got {}", key, state[key].dump());
    } else {
      WINNOW_CHECK(state[key] == value, "Loader: the state is of another run: its {} is {}, here it is {}", key,
                   state[key].dump(), value.dump());
    }
  }
  const auto step = state["step"].get<int64_t>();
  WINNOW_CHECK(step < impl_->steps, "Loader: step of the state must be < {}, got {}", impl_->steps, step);
  impl_->go_to(state["epoch"].get<int64_t>() * impl_->steps + step);
}

void Loader::start_epoch(int64_t epoch) {
  WINNOW_CHECK(epoch >= 0, "Loader: epoch must be >= 0, got {}", epoch);
  impl_->go_to(epoch * impl_->steps);
}

}  // namespace winnow::data

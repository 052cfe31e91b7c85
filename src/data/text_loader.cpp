#include <ATen/ops/empty.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/data/text.h"

namespace winnow::data {

namespace {

constexpr int64_t kStateVersion = 1;

}  // namespace

Fields<TextLoaderOptions> TextLoaderOptions::fields() {
  return Fields<TextLoaderOptions>("TextLoader")
      .add("batch_size", &TextLoaderOptions::batch_size, "rows of this process in a batch", at_least(1))
      .add("context", &TextLoaderOptions::context, "tokens of a row", at_least(1))
      .add("shuffle", &TextLoaderOptions::shuffle, "a new order and new cuts each epoch")
      .add("separate", &TextLoaderOptions::separate, "whether documents are kept apart")
      .add("seed", &TextLoaderOptions::seed, "of order and cuts");
}

AttentionMask TextBatch::document_mask() const {
  return several_documents ? block_mask(documents, documents, BlockRelation::same) : AttentionMask{};
}

TextLoader::TextLoader(TokenDocuments text, TextLoaderOptions options)
    : text_(std::move(text)), options_(std::move(options)) {
  check(options_);
  const auto& o = options_;
  WINNOW_CHECK(o.world_size >= 1 && o.rank >= 0 && o.rank < o.world_size,
               "TextLoader: rank must be in [0, world_size = {}), got {}", o.world_size, o.rank);
  // Every epoch has as many rows, whatever its offset is.
  const auto T = text_.tokens();
  rows_ = T / o.context;
  if (o.shuffle && rows_ > 1) --rows_;  // the offset may cost one
  const auto global = o.batch_size * o.world_size;
  steps_ = rows_ / global;
  WINNOW_CHECK(steps_ >= 1, "TextLoader: the text must fill {} rows of {} tokens, it has {} tokens", global, o.context,
               T);
}

void TextLoader::begin_epoch(int64_t epoch) {
  if (epoch == epoch_) return;
  epoch_ = epoch;
  offset_ = 0;
  order_.resize(static_cast<size_t>(rows_));
  if (options_.shuffle) {
    Random random(derive_seed(options_.seed, static_cast<uint64_t>(epoch)));
    const auto spare = text_.tokens() - rows_ * options_.context;
    offset_ = random.integer(std::min(spare + 1, options_.context));
    order_ = random.permutation(rows_);
  } else {
    for (int64_t i = 0; i < rows_; ++i) order_[static_cast<size_t>(i)] = i;
  }
}

void TextLoader::fill_row(int64_t begin, int64_t row, TextBatch& batch) const {
  const auto L = options_.context, T = text_.tokens();
  const auto* tokens = text_.ids.const_data_ptr<int32_t>();
  auto* ids = batch.ids.data_ptr<int64_t>() + row * L;
  auto* targets = batch.targets.data_ptr<int64_t>() + row * L;
  auto* positions = batch.positions.data_ptr<int64_t>() + row * L;
  auto* documents = batch.documents.data_ptr<int64_t>() + row * L;
  const auto& starts = text_.starts;
  auto next = std::upper_bound(starts.begin(), starts.end(), begin);  // the first document that begins later
  int64_t document = 0, position = 0;
  for (int64_t i = 0; i < L; ++i) {
    const auto t = begin + i;
    if (options_.separate && next != starts.end() && *next == t) {
      ++next;
      ++document;
      position = 0;
    }
    ids[i] = tokens[t];
    const bool ends = t + 1 == T || (options_.separate && next != starts.end() && *next == t + 1);
    targets[i] = ends ? -100 : tokens[t + 1];
    positions[i] = position++;
    documents[i] = document;
  }
  batch.several_documents = batch.several_documents || document > 0;
}

TextBatch TextLoader::next() {
  const auto& o = options_;
  begin_epoch(ticket_ / steps_);
  TextBatch batch{.ids = at::empty({o.batch_size, o.context}, at::kLong),
                  .targets = at::empty({o.batch_size, o.context}, at::kLong),
                  .positions = at::empty({o.batch_size, o.context}, at::kLong),
                  .documents = at::empty({o.batch_size, o.context}, at::kLong),
                  .epoch = ticket_ / steps_,
                  .step = ticket_ % steps_};
  const auto first = (batch.step * o.world_size + o.rank) * o.batch_size;
  for (int64_t row = 0; row < o.batch_size; ++row) {
    fill_row(offset_ + order_[static_cast<size_t>(first + row)] * o.context, row, batch);
  }
  ++ticket_;
  return batch;
}

nlohmann::json TextLoader::state() const {
  return {{"version", kStateVersion},    {"epoch", ticket_ / steps_},
          {"step", ticket_ % steps_},    {"seed", options_.seed},
          {"shuffle", options_.shuffle}, {"context", options_.context},
          {"tokens", text_.tokens()},    {"global_batch", options_.batch_size * options_.world_size}};
}

void TextLoader::load_state(const nlohmann::json& state) {
  const auto wanted = this->state();
  for (const auto& [key, value] : wanted.items()) {
    WINNOW_CHECK(state.is_object() && state.contains(key), "TextLoader: the state must hold the key {}, got {}", key,
                 state.dump());
    if (key == "epoch" || key == "step") {
      WINNOW_CHECK(state[key].is_number_integer() && state[key].get<int64_t>() >= 0,
                   "TextLoader: {} of the state must be an integer >= 0, got {}", key, state[key].dump());
    } else {
      WINNOW_CHECK(state[key] == value, "TextLoader: the state is of another run: its {} is {}, here it is {}", key,
                   state[key].dump(), value.dump());
    }
  }
  const auto step = state["step"].get<int64_t>();
  WINNOW_CHECK(step < steps_, "TextLoader: step of the state must be < {}, got {}", steps_, step);
  ticket_ = state["epoch"].get<int64_t>() * steps_ + step;
}

}  // namespace winnow::data

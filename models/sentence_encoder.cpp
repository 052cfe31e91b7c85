#include "winnow/models/sentence_encoder.h"

#include <torch/types.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/tensor/check.h"

namespace winnow::models {

EnumNames<SentencePooling> enum_names(SentencePooling) {
  return {{"cls", SentencePooling::cls},
          {"mean", SentencePooling::mean},
          {"mean_sqrt_len", SentencePooling::mean_sqrt_len},
          {"max", SentencePooling::max},
          {"last", SentencePooling::last}};
}

at::Tensor pool_tokens(const at::Tensor& states, const at::Tensor& keep, SentencePooling pooling) {
  check_dim("pool_tokens: states", states, 3);
  check_shape("pool_tokens: keep", keep, {states.size(0), states.size(1)});
  if (pooling == SentencePooling::cls) return states.select(1, 0);
  const auto real = (keep != 0).unsqueeze(-1);  // [B, L, 1]
  if (pooling == SentencePooling::max) {
    return states.masked_fill(real.logical_not(), -std::numeric_limits<double>::infinity()).amax(1);
  }
  const auto count = real.sum(1);  // [B, 1]
  if (pooling == SentencePooling::last) {
    const auto places = at::arange(1, states.size(1) + 1, count.options()).view({1, -1, 1}) * real;
    const auto last = places.argmax(1, /*keepdim=*/true).expand({-1, -1, states.size(2)});  // [B, 1, D]
    return states.gather(1, last).squeeze(1);
  }
  const auto sum = (states * real.to(states.scalar_type())).sum(1);
  const auto n = count.to(states.scalar_type()).clamp_min(1e-9);
  return sum / (pooling == SentencePooling::mean ? n : n.sqrt());
}

SentenceEncoder::SentenceEncoder(Bert model, std::shared_ptr<const io::Tokenizer> tokenizer,
                                 SentenceEncoderOptions options)
    : model_(std::move(model)), tokenizer_(std::move(tokenizer)), options_(std::move(options)) {
  WINNOW_CHECK(!model_.is_empty() && tokenizer_ != nullptr, "SentenceEncoder: model and tokenizer must be given");
  const auto rows = model_->config.vocab_size, positions = model_->config.max_position_embeddings;
  WINNOW_CHECK_KIND(tokenizer_->vocab_size() <= rows, ErrorKind::file,
                    "SentenceEncoder: the tokenizer must have at most {} ids, the rows of the word embeddings, got {}",
                    rows, tokenizer_->vocab_size());
  WINNOW_CHECK(options_.max_tokens >= 0, "SentenceEncoder: max_tokens must be >= 0, got {}", options_.max_tokens);
  if (options_.max_tokens == 0 || options_.max_tokens > positions) options_.max_tokens = positions;
  WINNOW_CHECK(options_.default_prompt.empty() || options_.prompts.contains(options_.default_prompt),
               "SentenceEncoder: default_prompt must name a prompt, got {}", options_.default_prompt);
  model_->eval();
}

std::vector<std::vector<int64_t>> SentenceEncoder::tokenize(std::span<const std::string> texts,
                                                            const EmbedOptions& options) const {
  const auto& name = options.prompt.empty() ? options_.default_prompt : options.prompt;
  std::string prompt;
  if (!name.empty()) {
    const auto found = options_.prompts.find(name);
    WINNOW_CHECK(found != options_.prompts.end(), "SentenceEncoder: there is no prompt named {}", name);
    prompt = found->second;
  }
  std::vector<std::string> with_prompt;
  if (!prompt.empty()) {
    for (const auto& text : texts) with_prompt.push_back(prompt + text);
    texts = with_prompt;
  }
  io::EncodeOptions how;
  if (options.truncate) how.truncation = io::Truncation{.max_length = options_.max_tokens};
  auto encodings = tokenizer_->encode_batch(texts, how);
  std::vector<std::vector<int64_t>> result;
  result.reserve(encodings.size());
  for (size_t i = 0; i < encodings.size(); ++i) {
    auto& encoding = encodings[i];
    const auto length = static_cast<int64_t>(encoding.ids.size());
    WINNOW_CHECK(std::find(encoding.special.begin(), encoding.special.end(), false) != encoding.special.end(),
                 "SentenceEncoder: text {} must hold at least one token, got {}", i, json_quote(printable(texts[i])));
    WINNOW_CHECK(length <= options_.max_tokens, "SentenceEncoder: text {} must have at most {} tokens, got {}", i,
                 options_.max_tokens, length);
    result.push_back(std::move(encoding.ids));
  }
  return result;
}

// One padded batch -> [B, D].
at::Tensor SentenceEncoder::run(std::span<const std::vector<int64_t>* const> batch) const {
  size_t longest = 0;
  for (const auto* ids : batch) longest = std::max(longest, ids->size());
  const auto B = static_cast<int64_t>(batch.size()), L = static_cast<int64_t>(longest);
  auto ids = at::full({B, L}, std::max<int64_t>(model_->config.pad_token_id, 0), at::kLong),
       keep = at::zeros({B, L}, at::kLong);
  for (int64_t i = 0; i < B; ++i) {
    const auto& row = *batch[static_cast<size_t>(i)];
    std::copy(row.begin(), row.end(), ids.mutable_data_ptr<int64_t>() + i * L);
    std::fill_n(keep.mutable_data_ptr<int64_t>() + i * L, row.size(), 1);
  }
  const auto device = model_->word_embeddings->weight.device();
  auto model = model_;  // the same network; a holder's access is not const
  const auto states = model->forward({.ids = ids.to(device), .keep = keep.to(device), .head = false}).last_hidden_state;
  const auto pooled = pool_tokens(states, keep.to(device), options_.pooling);
  return options_.normalize ? pooled / pooled.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12) : pooled;
}

namespace {

// Where the batch that starts at `begin` ends: after `most` texts, or where the next one, shorter than the first, would
// make more than one token in sixteen a pad. `order` goes from long to short.
size_t batch_end(const std::vector<std::vector<int64_t>>& tokens, const std::vector<size_t>& order, size_t begin,
                 size_t most) {
  const auto longest = tokens[order[begin]].size();
  size_t end = begin + 1, real = longest;
  for (; end < order.size() && end - begin < most; ++end) {
    real += tokens[order[end]].size();
    const auto all = longest * (end - begin + 1);
    if (16 * (all - real) > all) break;
  }
  return end;
}

}  // namespace

at::Tensor SentenceEncoder::encode(std::span<const std::string> texts, const EmbedOptions& options) const {
  WINNOW_CHECK(options.batch_size >= 1, "SentenceEncoder: batch_size must be >= 1, got {}", options.batch_size);
  const at::NoGradGuard no_grad;
  const auto& like = model_->word_embeddings->weight;
  const auto result = at::empty({static_cast<int64_t>(texts.size()), dim()}, like.options().requires_grad(false));
  const auto tokens = tokenize(texts, options);
  // Texts of like length together: little padding, and no mask at all where they are equal.
  std::vector<size_t> order(tokens.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return tokens[a].size() > tokens[b].size(); });
  for (size_t begin = 0; begin < order.size();) {
    const auto end = batch_end(tokens, order, begin, static_cast<size_t>(options.batch_size));
    std::vector<const std::vector<int64_t>*> batch;
    std::vector<int64_t> places;
    for (; begin < end; ++begin) {
      batch.push_back(&tokens[order[begin]]);
      places.push_back(static_cast<int64_t>(order[begin]));
    }
    result.index_copy_(0, at::tensor(places, at::kLong).to(like.device()), run(batch));
  }
  return result;
}

at::Tensor SentenceEncoder::encode(const std::string& text, const EmbedOptions& options) const {
  return encode(std::span(&text, 1), options)[0];
}

}  // namespace winnow::models

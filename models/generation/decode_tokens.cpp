// Greedy decoding and sampling: every sequence chooses for itself.
#include <algorithm>
#include <numeric>

#include "generation_job.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"

namespace winnow::models {
namespace {

struct Sequence {
  size_t row = 0, number = 0;   // of the output
  std::vector<int64_t> tokens;  // prompt and new
  uint64_t stream = 0;          // of random numbers
  std::optional<TextStream> text;
  GeneratedSequence result;
  bool done = false;
};

class TokenLoop {
 public:
  explicit TokenLoop(const GenerationJob& job) : job_(job), chain_(job.options), run_(job) {}

  GenerationOutput generate();

 private:
  void make_sequences();
  void choose(const StepLogits& logits);
  int64_t choose_token(const Sequence& sequence, std::span<const float> row, std::span<const float> unconditional);
  void accept(Sequence& sequence, int64_t token, double log_prob);
  std::optional<Finish> finish_of(const Sequence& sequence, int64_t token) const;
  bool drop_finished();
  GenerationOutput collect();

  const GenerationJob& job_;
  LogitChain chain_;
  GuidedRun run_;
  std::vector<Sequence> sequences_;
  std::vector<size_t> slots_;  // the sequence in each row of the batch
  std::vector<float> row_;     // a changed copy of the logits
};

void TokenLoop::make_sequences() {
  const auto& o = job_.options;
  for (size_t row = 0; row < job_.prompts.size(); ++row) {
    for (size_t number = 0; number < static_cast<size_t>(o.sequences); ++number) {
      const auto index = sequences_.size();
      slots_.push_back(index);
      sequences_.push_back({.row = row,
                            .number = number,
                            .tokens = job_.prompts[row],
                            .stream = o.row_streams.empty() ? derive_seed(o.seed, index) : o.row_streams[index],
                            .text = job_.text_stream(row),
                            .result = {}});
    }
  }
}

int64_t TokenLoop::choose_token(const Sequence& s, std::span<const float> row, std::span<const float> unconditional) {
  const auto& o = job_.options;
  const auto& prompt = job_.prompts[s.row];
  if (chain_.active()) {
    row_.assign(row.begin(), row.end());
    chain_.change(row_,
                  {.tokens = s.tokens,
                   .prompt = static_cast<int64_t>(prompt.size()),
                   .max_new = job_.limits[s.row].max_new,
                   .encoder = job_.encoder_tokens(s.row)},
                  unconditional);
    row = row_;
  }
  if (!o.sample) return greedy_row(row);
  return sample_row(row, o.warp, stream_uniform(s.stream, s.tokens.size() - prompt.size())).token;
}

std::optional<Finish> TokenLoop::finish_of(const Sequence& s, int64_t token) const {
  const auto count = static_cast<int64_t>(s.tokens.size() - job_.prompts[s.row].size());
  if (job_.is_eos(token)) return Finish::eos;
  if (s.text && s.text->stopped()) return Finish::stop;
  if (count >= job_.limits[s.row].max_new) return Finish::length;
  if (job_.out_of_time()) return Finish::callback;
  return std::nullopt;
}

void TokenLoop::accept(Sequence& s, int64_t token, double log_prob) {
  s.tokens.push_back(token);
  s.result.log_probs.push_back(log_prob);
  TokenEvent event{.row = static_cast<int64_t>(s.row),
                   .sequence = static_cast<int64_t>(s.number),
                   .token = token,
                   .log_prob = log_prob};
  if (s.text) event.text = s.text->push(token);
  event.finish = finish_of(s, token);
  if (event.finish && s.text) {
    event.text += s.text->finish();
    if (s.text->stopped() && event.finish != Finish::eos) event.finish = Finish::stop;
  }
  const bool go_on = !job_.callback || job_.callback(event);
  s.done = event.finish || !go_on;
  if (!s.done) return;
  if (!event.finish && s.text) s.text->finish();
  s.result.finish = event.finish.value_or(Finish::callback);
}

void TokenLoop::choose(const StepLogits& logits) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    auto& sequence = sequences_[slots_[i]];
    if (sequence.done) continue;
    const auto row = logits.row(static_cast<int64_t>(i));
    const auto token = choose_token(sequence, row, logits.unconditional_row(static_cast<int64_t>(i)));
    accept(sequence, token, log_prob_row(job_.options.remove_invalid ? row_ : row, token));
  }
}

// Takes finished sequences out of the batch; one whose state cannot lose rows carries them on. False: all are done.
bool TokenLoop::drop_finished() {
  std::vector<int64_t> rows;
  std::vector<size_t> slots;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (sequences_[slots_[i]].done) continue;
    rows.push_back(static_cast<int64_t>(i));
    slots.push_back(slots_[i]);
  }
  if (!rows.empty() && rows.size() < slots_.size() && run_.select(rows)) slots_ = std::move(slots);
  return !rows.empty();
}

GenerationOutput TokenLoop::collect() {
  GenerationOutput output;
  output.rows.resize(job_.prompts.size());
  for (auto& s : sequences_) {
    const auto prompt = static_cast<ptrdiff_t>(job_.prompts[s.row].size());
    s.result.tokens.assign(s.tokens.begin() + prompt, s.tokens.end());
    s.result.score = std::accumulate(s.result.log_probs.begin(), s.result.log_probs.end(), 0.0);
    if (s.text) s.result.text = s.text->text();
    output.new_tokens += static_cast<int64_t>(s.result.tokens.size());
    output.rows[s.row].push_back(std::move(s.result));
  }
  return output;
}

GenerationOutput TokenLoop::generate() {
  make_sequences();
  auto logits = run_.prefill();
  const auto prefilled = job_.seconds();
  if (job_.options.sequences > 1) {  // one row for each sample of a prompt
    std::vector<int64_t> rows;
    for (const auto& s : sequences_) rows.push_back(static_cast<int64_t>(s.row));
    WINNOW_CHECK_KIND(run_.select(rows), ErrorKind::unsupported,
                      "generate: several sequences a prompt need a model whose state can repeat rows");
    const auto index = at::tensor(rows, at::kLong);
    logits.conditional = logits.conditional.index_select(0, index);
    if (logits.unconditional.defined()) logits.unconditional = logits.unconditional.index_select(0, index);
  }
  choose(logits);
  int64_t steps = 0;
  std::vector<int64_t> last;
  while (drop_finished()) {
    last.clear();
    for (const auto slot : slots_) last.push_back(sequences_[slot].tokens.back());
    logits = run_.step(last);
    ++steps;
    choose(logits);
  }
  auto output = collect();
  output.steps = steps;
  output.reused_tokens = run_.reused();
  output.prefill_seconds = prefilled;
  output.decode_seconds = job_.seconds() - prefilled;
  return output;
}

}  // namespace

GenerationOutput decode_tokens(const GenerationJob& job) {
  return TokenLoop(job).generate();
}

}  // namespace winnow::models

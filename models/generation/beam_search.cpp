// Beam search with the scores and the end conditions of transformers.
#include <algorithm>
#include <cmath>

#include "generation_job.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

struct Beam {
  std::vector<int64_t> tokens;      // prompt and new
  std::vector<double> log_probs{};  // of the new tokens under the model
  double score = 0;                 // sum of log-probabilities after the rules
};

struct Finished {
  Beam beam;
  double score = 0;  // beam.score / length^penalty
  Finish finish = Finish::length;
};

// A continuation: beam `parent` of the row with one more token.
struct Candidate {
  double score = 0;
  size_t parent = 0;
  int64_t token = 0;
  double log_prob = 0;
};

// One prompt with its running and finished beams, each best first.
struct Row {
  size_t index = 0;   // of the prompt
  int64_t first = 0;  // row of the batch that holds its first running beam
  std::vector<Beam> running;
  std::vector<Finished> finished{};
  std::vector<size_t> parents{};  // of the running beams among those before
  bool done = false;
};

class BeamLoop {
 public:
  explicit BeamLoop(const GenerationJob& job)
      : job_(job), chain_(job.options), run_(job), beams_(static_cast<size_t>(job.options.beams)) {}

  GenerationOutput generate();

 private:
  void advance(Row& row, const StepLogits& logits);
  std::vector<Candidate> best_continuations(const Row& row, const StepLogits& logits);
  std::optional<Finish> finish_of(const Row& row, const Beam& parent, int64_t token) const;
  bool is_over(const Row& row) const;
  void select_parents();
  GenerationOutput collect();
  void report(size_t row, const GeneratedSequence& sequence) const;
  GeneratedSequence result(size_t row, Finished finished) const;

  const GenerationJob& job_;
  LogitChain chain_;
  GuidedRun run_;
  size_t beams_;
  std::vector<Row> rows_, done_;
  std::vector<float> scores_;  // log-probabilities of a row after the rules
};

// The continuations to choose from: enough that `beams` of them can go on whatever else ends; best first, and of equal
// ones that of the earlier beam, then of the lower token.
std::vector<Candidate> BeamLoop::best_continuations(const Row& row, const StepLogits& logits) {
  const auto& o = job_.options;
  const size_t keep = std::max<size_t>(2, 1 + o.eos.size()) * beams_;
  const auto better = [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
  };
  std::vector<Candidate> heap;  // the worst on top
  for (size_t parent = 0; parent < row.running.size(); ++parent) {
    const auto& beam = row.running[parent];
    const auto raw = logits.row(row.first + static_cast<int64_t>(parent));
    const auto top = greedy_row(raw);
    const auto norm = static_cast<double>(raw[static_cast<size_t>(top)]) - log_prob_row(raw, top);
    scores_.resize(raw.size());
    for (size_t i = 0; i < raw.size(); ++i) scores_[i] = static_cast<float>(raw[i] - norm);
    if (chain_.active()) {
      chain_.change(scores_,
                    {.tokens = beam.tokens,
                     .prompt = static_cast<int64_t>(job_.prompts[row.index].size()),
                     .max_new = job_.limits[row.index].max_new,
                     .encoder = job_.encoder_tokens(row.index)},
                    logits.unconditional_row(row.first + static_cast<int64_t>(parent)));
    }
    const auto likeliest = greedy_row(scores_);
    const double shift = o.renormalize ? log_prob_row(scores_, likeliest) - scores_[static_cast<size_t>(likeliest)] : 0;
    for (size_t i = 0; i < scores_.size(); ++i) {
      const auto score = beam.score + scores_[i] + shift;
      if (heap.size() == keep && score < heap.front().score) continue;
      if (!(score > -std::numeric_limits<double>::infinity())) continue;
      heap.push_back({.score = score, .parent = parent, .token = static_cast<int64_t>(i), .log_prob = raw[i] - norm});
      std::push_heap(heap.begin(), heap.end(), better);
      if (heap.size() <= keep) continue;
      std::pop_heap(heap.begin(), heap.end(), better);
      heap.pop_back();
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  return heap;
}

std::optional<Finish> BeamLoop::finish_of(const Row& row, const Beam& parent, int64_t token) const {
  const auto prompt = job_.prompts[row.index].size();
  if (job_.is_eos(token)) return Finish::eos;
  if (!job_.options.stop_strings.empty()) {
    TextStream text(job_.options.tokenizer, job_.options.stop_strings, {}, job_.options.skip_special);
    for (size_t i = prompt; i < parent.tokens.size(); ++i) text.push(parent.tokens[i]);
    text.push(token);
    if (text.stopped()) return Finish::stop;
  }
  const auto count = static_cast<int64_t>(parent.tokens.size() + 1 - prompt);
  if (count >= job_.limits[row.index].max_new) return Finish::length;
  if (job_.out_of_time()) return Finish::callback;
  return std::nullopt;
}

Beam extended(const Beam& parent, const Candidate& candidate) {
  Beam beam = parent;
  beam.tokens.push_back(candidate.token);
  beam.log_probs.push_back(candidate.log_prob);
  beam.score = candidate.score;
  return beam;
}

// Whether no running beam can, or by the option need, enter the finished ones any more.
bool BeamLoop::is_over(const Row& row) const {
  const auto& o = job_.options;
  if (row.running.empty()) return true;
  if (row.finished.size() < beams_) return false;
  if (o.early_stopping == EarlyStopping::first) return true;
  const auto& best = row.running.front();
  auto length = static_cast<int64_t>(best.log_probs.size());
  if (o.early_stopping == EarlyStopping::never && o.length_penalty > 0) length = job_.limits[row.index].max_new;
  return best.score / std::pow(static_cast<double>(length), o.length_penalty) <= row.finished.back().score;
}

void BeamLoop::advance(Row& row, const StepLogits& logits) {
  const auto candidates = best_continuations(row, logits);
  WINNOW_CHECK(!candidates.empty(), "generate: the rules forbid every token of row {}", row.index);
  std::vector<Beam> running;
  row.parents.clear();
  for (size_t rank = 0; rank < candidates.size(); ++rank) {
    const auto& candidate = candidates[rank];
    const auto& parent = row.running[candidate.parent];
    const auto finish = finish_of(row, parent, candidate.token);
    if (!finish && running.size() < beams_) {
      running.push_back(extended(parent, candidate));
      row.parents.push_back(candidate.parent);
    }
    if (finish && rank < beams_) {  // only the best count as finished; the others are there to go on
      auto beam = extended(parent, candidate);
      const auto length = std::pow(static_cast<double>(beam.log_probs.size()), job_.options.length_penalty);
      row.finished.push_back({.beam = std::move(beam), .score = candidate.score / length, .finish = *finish});
    }
  }
  std::stable_sort(row.finished.begin(), row.finished.end(),
                   [](const Finished& a, const Finished& b) { return a.score > b.score; });
  if (row.finished.size() > beams_) row.finished.resize(beams_);
  row.running = std::move(running);
  row.done = is_over(row);
}

// Brings the batch to the running beams of the rows that go on.
void BeamLoop::select_parents() {
  std::vector<int64_t> selected;
  std::erase_if(rows_, [&](Row& row) {
    if (row.done) done_.push_back(std::move(row));
    return row.done;
  });
  for (auto& row : rows_) {
    const auto first = static_cast<int64_t>(selected.size());
    for (const auto parent : row.parents) selected.push_back(row.first + static_cast<int64_t>(parent));
    row.first = first;
  }
  if (selected.empty()) return;
  WINNOW_CHECK_KIND(run_.select(selected), ErrorKind::unsupported,
                    "generate: beam search needs a model whose state can repeat rows");
}

GeneratedSequence BeamLoop::result(size_t row, Finished finished) const {
  const auto prompt = static_cast<ptrdiff_t>(job_.prompts[row].size());
  auto& beam = finished.beam;
  GeneratedSequence sequence{.tokens = {beam.tokens.begin() + prompt, beam.tokens.end()},
                             .log_probs = std::move(beam.log_probs),
                             .finish = finished.finish,
                             .score = finished.score};
  if (auto text = job_.text_stream(row)) {
    for (const auto token : sequence.tokens) text->push(token);
    text->finish();
    sequence.text = text->text();
  }
  return sequence;
}

void BeamLoop::report(size_t row, const GeneratedSequence& sequence) const {
  auto text = job_.text_stream(row);
  for (size_t i = 0; i < sequence.tokens.size(); ++i) {
    TokenEvent event{.row = static_cast<int64_t>(row), .token = sequence.tokens[i], .log_prob = sequence.log_probs[i]};
    if (text) event.text = text->push(event.token);
    if (i + 1 == sequence.tokens.size()) {
      if (text) event.text += text->finish();
      event.finish = sequence.finish;
    }
    if (!job_.callback(event)) return;
  }
}

GenerationOutput BeamLoop::collect() {
  GenerationOutput output;
  output.rows.resize(job_.prompts.size());
  for (auto& row : done_) {
    auto& sequences = output.rows[row.index];
    for (auto& finished : row.finished) {
      if (sequences.size() == static_cast<size_t>(job_.options.sequences)) break;
      sequences.push_back(result(row.index, std::move(finished)));
      output.new_tokens += static_cast<int64_t>(sequences.back().tokens.size());
    }
  }
  for (size_t row = 0; job_.callback && row < output.rows.size(); ++row) report(row, output.rows[row].front());
  return output;
}

GenerationOutput BeamLoop::generate() {
  for (size_t i = 0; i < job_.prompts.size(); ++i) {
    rows_.push_back({.index = i, .first = static_cast<int64_t>(i), .running = {{.tokens = job_.prompts[i]}}});
  }
  auto logits = run_.prefill();
  const auto prefilled = job_.seconds();
  int64_t steps = 0;
  std::vector<int64_t> last;
  while (true) {
    for (auto& row : rows_) advance(row, logits);
    select_parents();
    if (rows_.empty()) break;
    last.clear();
    for (const auto& row : rows_) {
      for (const auto& beam : row.running) last.push_back(beam.tokens.back());
    }
    logits = run_.step(last);
    ++steps;
  }
  auto output = collect();
  output.steps = steps;
  output.prefill_seconds = prefilled;
  output.decode_seconds = job_.seconds() - prefilled;
  return output;
}

}  // namespace

GenerationOutput beam_search(const GenerationJob& job) {
  return BeamLoop(job).generate();
}

}  // namespace winnow::models

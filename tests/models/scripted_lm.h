// A language model for tests of generation whose logits are a fixed random function of all tokens so far, equal to the
// bit in any batch, and a tokenizer whose tokens are bytes and a few longer pieces.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "winnow/attention/language_model.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/io/tokenizer.h"

namespace winnow::testing {

class ScriptedLm : public LanguageModel {
 public:
  struct State : DecoderState {
    [[nodiscard]] int64_t length() const override { return columns; }
    void truncate(int64_t) override { fail(ErrorKind::unsupported, "ScriptedLm: no truncate"); }
    void compact(int64_t, const std::vector<int64_t>&) override { fail(ErrorKind::unsupported, "no compact"); }
    void select(const at::Tensor& rows) override {
      if (!selectable) fail(ErrorKind::unsupported, "ScriptedLm: no select");
      std::vector<std::vector<int64_t>> kept;
      for (int64_t i = 0; i < rows.size(0); ++i) kept.push_back(tokens[static_cast<size_t>(rows[i].item<int64_t>())]);
      tokens = kept;
    }
    std::vector<std::vector<int64_t>> tokens;  // real ones of each row
    int64_t columns = 0;
    bool selectable = true;
  };

  explicit ScriptedLm(int64_t vocabulary, uint64_t seed = 0, int64_t context = 1000, double scale = 2)
      : vocabulary_(vocabulary), context_(context), seed_(seed), scale_(scale) {}

  // Logits [V] behind these tokens.
  [[nodiscard]] at::Tensor logits_behind(const std::vector<int64_t>& tokens) const {
    if (script) return script(tokens);
    auto hash = derive_seed(seed_);
    for (const auto token : tokens) hash = derive_seed(hash, token);
    Random random(hash);
    const auto row = at::empty({vocabulary_}, at::kFloat);
    for (int64_t i = 0; i < vocabulary_; ++i) row.data_ptr<float>()[i] = static_cast<float>(scale_ * random.normal());
    return row;
  }

  LmOutput run(const LmInput& input) override {
    auto& state = dynamic_cast<State&>(*input.state);
    const auto B = input.ids.size(0), L = input.ids.size(1);
    state.tokens.resize(static_cast<size_t>(B));
    widths.push_back(B);
    lengths.push_back(L);
    std::vector<at::Tensor> rows;
    for (int64_t b = 0; b < B; ++b) {
      auto& tokens = state.tokens[static_cast<size_t>(b)];
      for (int64_t i = 0; i < L; ++i) {
        const bool real = !input.keep.defined() || input.keep[b][state.columns + i].item<bool>();
        if (!real) continue;
        const auto position = static_cast<int64_t>(tokens.size());
        if (input.positions.defined()) WINNOW_CHECK(input.positions[b][i].item<int64_t>() == position, "position");
        tokens.push_back(input.ids[b][i].item<int64_t>());
      }
      rows.push_back(logits_behind(tokens));
    }
    state.columns += L;
    return {.logits = at::stack(rows).unsqueeze(1)};
  }
  [[nodiscard]] std::unique_ptr<DecoderState> make_state(int64_t, int64_t) override {
    auto state = std::make_unique<State>();
    state->selectable = selectable;
    return state;
  }
  [[nodiscard]] int64_t vocab_size() const override { return vocabulary_; }
  [[nodiscard]] int64_t context_length() const override { return context_; }

  std::function<at::Tensor(const std::vector<int64_t>&)> script;  // in place of the random function
  std::vector<int64_t> widths, lengths;                           // of the batches that were run
  bool selectable = true;

 private:
  int64_t vocabulary_, context_;
  uint64_t seed_;
  double scale_;
};

// A model that says these tokens behind any prompt of `prompt` tokens.
inline ScriptedLm says(std::vector<int64_t> answer, size_t prompt, int64_t vocabulary) {
  ScriptedLm model(vocabulary);
  model.script = [=](const std::vector<int64_t>& tokens) {
    auto row = at::zeros({vocabulary});
    const auto at = tokens.size() - prompt;
    if (at < answer.size()) row[answer[at]] = 10;
    return row;
  };
  return model;
}

// Token i is the byte i for i < 256, then come the pieces.
class ByteTokenizer : public io::Tokenizer {
 public:
  explicit ByteTokenizer(std::vector<std::string> pieces = {}) : pieces_(std::move(pieces)) {}
  [[nodiscard]] int64_t vocab_size() const override { return 256 + static_cast<int64_t>(pieces_.size()); }
  [[nodiscard]] std::optional<int64_t> token_id(std::string_view) const override { return std::nullopt; }
  [[nodiscard]] std::string token(int64_t id) const override {
    if (id < 256) return {static_cast<char>(id)};
    return id < vocab_size() ? pieces_[static_cast<size_t>(id - 256)] : std::string();
  }
  [[nodiscard]] bool is_special(int64_t) const override { return false; }
  [[nodiscard]] std::unique_ptr<io::DecodeSteps> decode_steps(bool) const override {
    struct Steps : io::DecodeSteps {
      explicit Steps(const ByteTokenizer& t) : tokenizer(t) {}
      void push(int64_t id, std::string& bytes) override { bytes += tokenizer.token(id); }
      void finish(std::string&) override {}
      const ByteTokenizer& tokenizer;
    };
    return std::make_unique<Steps>(*this);
  }

 protected:
  void encode_text(std::string_view text, const io::EncodeOptions&, io::Encoding& out) const override {
    for (const auto c : text) out.ids.push_back(static_cast<unsigned char>(c));
  }

 private:
  std::vector<std::string> pieces_;
};

inline std::vector<int64_t> bytes_of(const std::string& text) {
  std::vector<int64_t> ids;
  for (const auto c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

}  // namespace winnow::testing

#include "winnow/io/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <set>

#include "byte_level.h"
#include "split_pattern.h"
#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

using Id = int32_t;
using Pair = std::pair<Id, Id>;

struct PairHash {
  std::size_t operator()(const Pair& pair) const {
    const auto bits =
        (static_cast<uint64_t>(static_cast<uint32_t>(pair.first)) << 32) | static_cast<uint32_t>(pair.second);
    return static_cast<std::size_t>((bits ^ (bits >> 29)) * 0x9e3779b97f4a7c15U);
  }
};

// The tokens of one pre-token as far as it is merged, and how often it was seen.
struct Word {
  std::vector<Id> tokens;
  int64_t count;
};

// A pair as it was counted when it was put into the queue, with the words in which it was new then.
struct Candidate {
  Pair pair;
  int64_t count;
  std::vector<int32_t> words;
  bool operator<(const Candidate& other) const {  // less urgent
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Training {
 public:
  Training(const BpeTrainerOptions& options, const std::vector<std::pair<std::string_view, int64_t>>& counts)
      : options_(options) {
    for (const auto& token : options.special_tokens) add_token(token, 0);
    // The byte alphabet in the order of its code points.
    std::vector<std::pair<uint32_t, int>> alphabet;
    for (int byte = 0; byte < 256; ++byte) alphabet.emplace_back(byte_level_code(static_cast<uint8_t>(byte)), byte);
    std::sort(alphabet.begin(), alphabet.end());
    std::array<Id, 256> ids{};
    for (const auto& [code, byte] : alphabet) {
      std::string text;
      unicode::append(text, code);
      ids[static_cast<std::size_t>(byte)] = add_token(text, 1);
    }
    for (const auto& [text, count] : counts) {
      Word word{.tokens = {}, .count = count};
      for (const char c : text) word.tokens.push_back(ids[static_cast<uint8_t>(c)]);
      words_.push_back(std::move(word));
    }
  }

  void run(const std::function<void(int64_t, int64_t)>& progress) {
    count_pairs();
    const auto wanted = options_.vocab_size - static_cast<int64_t>(tokens_.size());
    while (static_cast<int64_t>(tokens_.size()) < options_.vocab_size && !queue_.empty()) {
      auto top = queue_.top();
      queue_.pop();
      const auto now = counts_[top.pair];
      if (top.count != now) {  // other merges took some of it
        top.count = now;
        queue_.push(std::move(top));
        continue;
      }
      if (top.count < 1 || top.count < options_.min_frequency) break;
      merge(top);
      const auto done = static_cast<int64_t>(merges_.size());
      if (progress && (done % 256 == 0 || done == wanted)) progress(done, wanted);
    }
  }

  [[nodiscard]] Json vocab() const {
    auto result = Json::object();
    for (std::size_t id = 0; id < tokens_.size(); ++id) result[tokens_[id]] = id;
    return result;
  }
  [[nodiscard]] Json merges() const {
    auto result = Json::array();
    for (const auto& [left, right] : merges_) {
      result.push_back({tokens_[static_cast<std::size_t>(left)], tokens_[static_cast<std::size_t>(right)]});
    }
    return result;
  }

 private:
  // `length` is in characters of the alphabet.
  Id add_token(const std::string& text, std::size_t length) {
    const auto [place, is_new] = ids_.emplace(text, static_cast<Id>(tokens_.size()));
    if (is_new) {
      tokens_.push_back(text);
      lengths_.push_back(length);
    }
    return place->second;
  }

  void count_pairs() {
    std::unordered_map<Pair, std::vector<int32_t>, PairHash> places;
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const auto& [tokens, count] = words_[i];
      for (std::size_t k = 1; k < tokens.size(); ++k) {
        const Pair pair(tokens[k - 1], tokens[k]);
        counts_[pair] += count;
        auto& list = places[pair];
        if (list.empty() || list.back() != static_cast<int32_t>(i)) list.push_back(static_cast<int32_t>(i));
      }
    }
    for (auto& [pair, list] : places) queue_.push({pair, counts_[pair], std::move(list)});
  }

  void merge(const Candidate& top) {
    const auto [left, right] = top.pair;
    const auto length = lengths_[static_cast<std::size_t>(left)] + lengths_[static_cast<std::size_t>(right)];
    const auto joined =
        add_token(tokens_[static_cast<std::size_t>(left)] + tokens_[static_cast<std::size_t>(right)], length);
    merges_.push_back(top.pair);
    std::unordered_map<Pair, std::vector<int32_t>, PairHash> fresh;
    for (const auto place : top.words) merge_word(place, top.pair, joined, fresh);
    for (auto& [pair, list] : fresh) {
      if (const auto count = counts_[pair]; count > 0) queue_.push({pair, count, std::move(list)});
    }
  }

  // Replaces the pair in one word, left to right, and counts what that changes.
  void merge_word(int32_t place, const Pair& pair, Id joined,
                  std::unordered_map<Pair, std::vector<int32_t>, PairHash>& fresh) {
    auto& [tokens, count] = words_[static_cast<std::size_t>(place)];
    const auto length = lengths_[static_cast<std::size_t>(joined)];
    const auto change = [&, seen = count](const Pair& changed, Id neighbour, bool appears) {
      if (!appears) {
        counts_[changed] -= seen;
        return;
      }
      // As in the trainer of Hugging Face: a longer token is never counted, the longest must be shorter than the limit.
      const auto limit = options_.max_token_length;
      if (limit > 0 && lengths_[static_cast<std::size_t>(neighbour)] + length >= limit) return;
      counts_[changed] += seen;
      auto& list = fresh[changed];
      if (list.empty() || list.back() != place) list.push_back(place);
    };
    std::size_t out = 0;  // tokens[0, out) are done
    for (std::size_t i = 0; i < tokens.size(); ++out) {
      if (tokens[i] != pair.first || i + 1 == tokens.size() || tokens[i + 1] != pair.second) {
        tokens[out] = tokens[i++];
        continue;
      }
      if (out > 0) {
        change({tokens[out - 1], pair.first}, -1, /*appears=*/false);
        change({tokens[out - 1], joined}, tokens[out - 1], /*appears=*/true);
      }
      i += 2;
      tokens[out] = joined;
      if (i < tokens.size()) {
        change({pair.second, tokens[i]}, -1, /*appears=*/false);
        change({joined, tokens[i]}, tokens[i], /*appears=*/true);
      }
    }
    tokens.resize(out);
  }

  const BpeTrainerOptions& options_;
  std::vector<Word> words_;
  std::vector<std::string> tokens_;
  std::vector<std::size_t> lengths_;
  std::unordered_map<std::string, Id> ids_;
  std::unordered_map<Pair, int64_t, PairHash> counts_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> merges_;
};

Json added_tokens(const BpeTrainerOptions& options) {
  auto list = Json::array();
  for (std::size_t id = 0; id < options.special_tokens.size(); ++id) {
    list.push_back({{"id", id},
                    {"content", options.special_tokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  }
  return list;
}

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options) : options_(std::move(options)) {
  const auto least = static_cast<int64_t>(options_.special_tokens.size()) + 256;
  WINNOW_CHECK(options_.vocab_size >= least && options_.vocab_size <= (int64_t{1} << 24),
               "BpeTrainer: vocab_size must be in [{}, 2^24] (special tokens and 256 bytes), got {}", least,
               options_.vocab_size);
  std::set<std::string> seen;
  for (const auto& token : options_.special_tokens) {
    WINNOW_CHECK(!token.empty() && unicode::find_invalid(token) == std::string_view::npos,
                 "BpeTrainer: a special token must be UTF-8 and not empty, got {}", json_quote(token));
    WINNOW_CHECK(unicode::count(token) > 1, "BpeTrainer: a special token must have two characters or more, got {}",
                 json_quote(token));
    WINNOW_CHECK(seen.insert(token).second, "BpeTrainer: the special token {} stands twice", json_quote(token));
  }
}

void BpeTrainer::add_text(std::string_view text) {
  static const SplitPattern pattern(kGpt2Pattern);
  const auto invalid = unicode::find_invalid(text);
  WINNOW_CHECK(invalid == std::string_view::npos, "BpeTrainer: the text must be UTF-8, byte {} is not", invalid);
  std::string prefixed;
  if (options_.add_prefix_space && !text.empty() && !text.starts_with(' ')) {
    prefixed = " " + std::string(text);
    text = prefixed;
  }
  for (std::size_t at = 0; at < text.size();) {
    const auto match = pattern.find(text, at);
    // The pattern covers every character; what it would pass over is a pre-token of its own.
    const auto begin = match ? match->begin : text.size();
    if (begin > at) count(text.substr(at, begin - at));
    if (!match) return;
    count(text.substr(match->begin, match->end - match->begin));
    at = match->end;
  }
}

void BpeTrainer::count(std::string_view piece) {
  const auto found = counts_.find(piece);
  if (found != counts_.end()) {
    ++found->second;
  } else {
    counts_.emplace(piece, 1);
  }
}

void BpeTrainer::add_file(const std::filesystem::path& path) {
  const MappedFile file(path.string());
  auto text = file.text();
  const auto invalid = unicode::find_invalid(text);
  WINNOW_CHECK_KIND(invalid == std::string_view::npos, ErrorKind::file, "{}: the text must be UTF-8, byte {} is not",
                    path.string(), invalid);
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
    add_text(text.substr(0, end));
    text.remove_prefix(end);
  }
}

Json BpeTrainer::train(const std::function<void(int64_t, int64_t)>& progress) const {
  const std::vector<std::pair<std::string_view, int64_t>> counts(counts_.begin(), counts_.end());
  Training training(options_, counts);
  training.run(progress);
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", options_.add_prefix_space},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens(options_)},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", training.vocab()},
            {"merges", training.merges()}}}};
}

}  // namespace winnow::io

// Byte-pair encoding. Source: Sennrich et al. 2016, arXiv 1508.07909; merges in the order of their ranks, leftmost
// first.
#include <algorithm>
#include <array>
#include <limits>
#include <queue>
#include <utility>

#include "byte_level.h"
#include "token_tables.h"
#include "tokenizer_model.h"
#include "unicode.h"
#include "vocabulary.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
constexpr size_t kShort = 48;  // symbols up to which scanning beats a queue

struct Symbol {
  uint32_t id, length;
};

class BpeModel final : public TokenModel {
 public:
  BpeModel(const JsonObject& json, bool raw_bytes);

  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override;
  [[nodiscard]] std::optional<int64_t> token_id(std::string_view token) const override {
    return vocabulary_.find(token);
  }
  [[nodiscard]] std::string_view token(int64_t id) const override { return vocabulary_.token(id); }
  [[nodiscard]] int64_t vocab_size() const override { return vocabulary_.size(); }
  [[nodiscard]] std::optional<int64_t> unk_id() const override { return unk_id_; }

 private:
  void read_merges(const JsonObject& json);
  std::pair<std::string, std::string> read_merge(const Json& merge, size_t index, const JsonObject& json) const;
  void read_bytes(const JsonObject& json);
  void add_merge(const std::pair<std::string, std::string>& merge, size_t rank, const JsonObject& json);
  void symbols_of_bytes(std::string_view piece, std::vector<Symbol>& symbols) const;
  void symbols_of_characters(std::string_view piece, std::vector<Symbol>& symbols) const;
  bool add_fallback(std::string_view text, std::vector<Symbol>& symbols) const;
  void add_unknown(uint32_t length, Symbol& pending, std::vector<Symbol>& symbols) const;
  void merge_short(std::vector<Symbol>& symbols) const;
  void merge_long(std::vector<Symbol>& symbols) const;

  Vocabulary vocabulary_;
  std::string file_, unk_token_, prefix_, suffix_;
  std::optional<int64_t> unk_id_;
  bool raw_bytes_, byte_fallback_, fuse_unk_, ignore_merges_;
  PairTable merges_;
  std::array<uint32_t, 256> bytes_{};  // ids of single bytes, raw or <0x..>; or kNone
  StringTable whole_;                  // with ignore_merges and raw bytes: tokens by their bytes
};

BpeModel::BpeModel(const JsonObject& json, bool raw_bytes)
    : vocabulary_(json.raw("vocab"), json.file(), json.where("vocab")),
      file_(json.file()),
      unk_token_(json.get_or<std::string>("unk_token", "")),
      prefix_(json.get_or<std::string>("continuing_subword_prefix", "")),
      suffix_(json.get_or<std::string>("end_of_word_suffix", "")),
      raw_bytes_(raw_bytes),
      byte_fallback_(json.get_or("byte_fallback", false)),
      fuse_unk_(json.get_or("fuse_unk", false)),
      ignore_merges_(json.get_or("ignore_merges", false)) {
  WINNOW_CHECK_KIND(json.get_or("dropout", 0.0) == 0.0, ErrorKind::unsupported,
                    "{}: {}: BPE with dropout is not supported; set it to null", file_, json.where("dropout"));
  if (!unk_token_.empty()) unk_id_ = vocabulary_.find(unk_token_);
  read_bytes(json);
  read_merges(json);
}

void BpeModel::read_bytes(const JsonObject&) {
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const auto raw = byte_level_text(std::string(1, static_cast<char>(byte)));
    const auto id = vocabulary_.find(raw_bytes_ ? raw : fmt::format("<0x{:02X}>", byte));
    bytes_[byte] = id ? static_cast<uint32_t>(*id) : kNone;
  }
  if (!raw_bytes_ || !ignore_merges_) return;
  for (size_t id = 0; id < vocabulary_.tokens().size(); ++id) {
    const auto bytes = byte_level_bytes(vocabulary_.tokens()[id]);
    if (bytes && !bytes->empty()) whole_.insert(*bytes, static_cast<uint32_t>(id));
  }
}

// ["a", "b"] or "a b".
std::pair<std::string, std::string> BpeModel::read_merge(const Json& merge, size_t index,
                                                         const JsonObject& json) const {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const auto blank = text.find(' ');
    if (blank != std::string::npos && text.find(' ', blank + 1) == std::string::npos)
      return {text.substr(0, blank), text.substr(blank + 1)};
  }
  fail(ErrorKind::file, "{}: {}[{}] must be two tokens, got {}", file_, json.where("merges"), index,
       printable(merge.dump(), 80));
}

void BpeModel::read_merges(const JsonObject& json) {
  const auto& merges = json.raw("merges");
  WINNOW_CHECK_KIND(merges.is_array(), ErrorKind::file, "{}: {} must be a list", file_, json.where("merges"));
  merges_ = PairTable(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) add_merge(read_merge(merges[i], i, json), i, json);
}

void BpeModel::add_merge(const std::pair<std::string, std::string>& merge, size_t rank, const JsonObject& json) {
  const auto id_of = [&](const std::string& token) {
    const auto id = vocabulary_.find(token);
    WINNOW_CHECK_KIND(id.has_value(), ErrorKind::file, "{}: {}[{}]: the vocabulary has no token {}", file_,
                      json.where("merges"), rank, json_quote(token));
    return static_cast<uint32_t>(*id);
  };
  const auto& [a, b] = merge;
  const auto first = id_of(a), second = id_of(b);
  merges_.insert(first, second, {static_cast<uint32_t>(rank), id_of(a + b.substr(std::min(prefix_.size(), b.size())))});
}

bool BpeModel::add_fallback(std::string_view text, std::vector<Symbol>& symbols) const {
  const auto missing = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)] == kNone; };
  if (std::any_of(text.begin(), text.end(), missing)) return false;
  for (const char byte : text) symbols.push_back({bytes_[static_cast<unsigned char>(byte)], 1});
  return true;
}

// Without an unknown token an unknown character is left out.
void BpeModel::add_unknown(uint32_t length, Symbol& pending, std::vector<Symbol>& symbols) const {
  if (unk_token_.empty()) return;
  WINNOW_CHECK_KIND(unk_id_.has_value(), ErrorKind::file,
                    "{}: the text has a character that the vocabulary lacks, and the vocabulary has no unk_token {}",
                    file_, json_quote(unk_token_));
  if (pending.length != 0 && fuse_unk_) {
    pending.length += length;
    return;
  }
  if (pending.length != 0) symbols.push_back(pending);
  pending = {static_cast<uint32_t>(*unk_id_), length};
}

void BpeModel::symbols_of_bytes(std::string_view piece, std::vector<Symbol>& symbols) const {
  Symbol pending{0, 0};  // unknown characters that have not been added
  for (const char byte : piece) {
    const auto id = bytes_[static_cast<unsigned char>(byte)];
    if (id == kNone) {
      add_unknown(1, pending, symbols);
      continue;
    }
    if (pending.length != 0) symbols.push_back(std::exchange(pending, {0, 0}));
    symbols.push_back({id, 1});
  }
  if (pending.length != 0) symbols.push_back(pending);
}

void BpeModel::symbols_of_characters(std::string_view piece, std::vector<Symbol>& symbols) const {
  Symbol pending{0, 0};
  std::string decorated;
  for (size_t at = 0; at < piece.size();) {
    const auto length = unicode::length_of(piece[at]);
    auto text = piece.substr(at, length);
    const bool first = at == 0, last = at + length == piece.size();
    at += length;
    if ((!first && !prefix_.empty()) || (last && !suffix_.empty())) {
      decorated = (first ? "" : prefix_) + std::string(text) + (last ? suffix_ : "");
      text = decorated;
    }
    if (const auto id = vocabulary_.find(text)) {
      if (pending.length != 0) symbols.push_back(std::exchange(pending, {0, 0}));
      symbols.push_back({static_cast<uint32_t>(*id), length});
    } else if (!byte_fallback_ || !add_fallback(text, symbols)) {
      add_unknown(length, pending, symbols);
    }
  }
  if (pending.length != 0) symbols.push_back(pending);
}

void BpeModel::merge_short(std::vector<Symbol>& symbols) const {
  std::array<PairTable::Merge, kShort> merges{};  // of each symbol with the next
  auto count = symbols.size();
  const auto look_up = [&](size_t i) {
    const auto* merge = merges_.find(symbols[i].id, symbols[i + 1].id);
    merges[i] = merge == nullptr ? PairTable::Merge{kNone, 0} : *merge;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNone) break;
    symbols[best] = {merges[best].id, symbols[best].length + symbols[best + 1].length};
    --count;
    for (auto i = best + 1; i < count; ++i) {
      symbols[i] = symbols[i + 1];
      merges[i] = merges[i + 1];
    }
    if (best + 1 < count) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(count);
}

// The same by a queue of candidates over a linked list; a candidate counts only while its two symbols are what they
// were.
void BpeModel::merge_long(std::vector<Symbol>& symbols) const {
  struct Candidate {
    uint32_t rank, at, first, second, id;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  const auto count = static_cast<uint32_t>(symbols.size());
  std::vector<uint32_t> next(count), before(count);
  for (uint32_t i = 0; i < count; ++i) {
    next[i] = i + 1;
    before[i] = i - 1;
  }
  std::vector<Candidate> candidates;
  candidates.reserve(count);
  const auto candidate = [&](uint32_t at) -> std::optional<Candidate> {
    if (next[at] >= count) return std::nullopt;
    const auto first = symbols[at].id, second = symbols[next[at]].id;
    const auto* merge = merges_.find(first, second);
    if (merge == nullptr) return std::nullopt;
    return Candidate{merge->rank, at, first, second, merge->id};
  };
  for (uint32_t i = 0; i < count; ++i) {
    if (const auto c = candidate(i)) candidates.push_back(*c);
  }
  std::priority_queue<Candidate> queue({}, std::move(candidates));
  while (!queue.empty()) {
    const auto best = queue.top();
    queue.pop();
    const auto at = best.at, other = next[at];
    if (symbols[at].length == 0 || other >= count || symbols[at].id != best.first || symbols[other].id != best.second)
      continue;
    symbols[at] = {best.id, symbols[at].length + symbols[other].length};
    symbols[other].length = 0;
    next[at] = next[other];
    if (next[at] < count) before[next[at]] = at;
    if (const auto c = candidate(at)) queue.push(*c);
    if (before[at] < count) {
      if (const auto c = candidate(before[at])) queue.push(*c);
    }
  }
  std::erase_if(symbols, [](const Symbol& s) { return s.length == 0; });
}

void BpeModel::tokenize(std::string_view piece, std::vector<ModelToken>& out) const {
  if (ignore_merges_) {
    const auto whole = raw_bytes_ ? whole_.find(piece) : std::optional<uint32_t>();
    const auto id = raw_bytes_ ? (whole ? std::optional<int64_t>(*whole) : std::nullopt) : vocabulary_.find(piece);
    if (id) return out.push_back({*id, 0, static_cast<uint32_t>(piece.size())});
  }
  thread_local std::vector<Symbol> symbols;
  symbols.clear();
  if (raw_bytes_) {
    symbols_of_bytes(piece, symbols);
  } else {
    symbols_of_characters(piece, symbols);
  }
  if (symbols.size() <= kShort) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
  uint32_t at = 0;
  for (const auto& symbol : symbols) {
    out.push_back({symbol.id, at, at + symbol.length});
    at += symbol.length;
  }
}

}  // namespace

std::unique_ptr<TokenModel> make_bpe_model(const JsonObject& model, bool raw_bytes) {
  return std::make_unique<BpeModel>(model, raw_bytes);
}

bool bpe_takes_bytes(const JsonObject& model) {
  return model.get_or<std::string>("continuing_subword_prefix", "").empty() &&
         model.get_or<std::string>("end_of_word_suffix", "").empty() && !model.get_or("byte_fallback", false);
}

}  // namespace winnow::io

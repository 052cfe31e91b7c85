#include "winnow/io/tiktoken.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <queue>
#include <unordered_map>

#include "piece_trie.h"
#include "split_pattern.h"
#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

constexpr int64_t kMaxId = int64_t{1} << 30;

// The bytes of a base64 text, or nothing where it is none.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 4) {
    uint32_t bits = 0;
    int digits = 0;
    for (std::size_t j = i; j < i + 4; ++j) {
      const char c = text[j];
      const bool pad = c == '=' && i + 4 == text.size() && j >= i + 2;
      if (pad) break;
      const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                        : c >= 'a' && c <= 'z' ? c - 'a' + 26
                        : c >= '0' && c <= '9' ? c - '0' + 52
                        : c == '+'             ? 62
                        : c == '/'             ? 63
                                               : -1;
      if (value < 0) return std::nullopt;
      bits |= static_cast<uint32_t>(value) << (18 - 6 * digits++);
    }
    if (digits == 3 && text[i + 3] != '=') return std::nullopt;
    if (digits == 2 && text.substr(i + 2, 2) != "==") return std::nullopt;
    for (int k = 0; k < digits - 1; ++k) bytes += static_cast<char>((bits >> (16 - 8 * k)) & 0xff);
  }
  return bytes;
}

// tiktoken's patterns are written for an engine in which ^ and $ are the ends of the text, not of lines.
std::string text_anchors(std::string_view pattern) {
  std::string result;
  int classes = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      result += pattern.substr(i++, 2);
      continue;
    }
    if (c == '[') ++classes;
    if (c == ']' && classes > 0) --classes;
    if (classes == 0 && c == '$') {
      result += "\\z";
    } else if (classes == 0 && c == '^') {
      result += "\\A";
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

std::map<std::string, int64_t> parse_tiktoken_ranks(std::string_view text, const std::string& name) {
  std::map<std::string, int64_t> ranks;
  int64_t number = 0;
  for (const auto& line : split(text, '\n')) {
    ++number;
    const auto content = trim(line);
    if (content.empty()) continue;
    const auto blank = content.find(' ');
    auto bytes = from_base64(content.substr(0, blank));
    WINNOW_CHECK_KIND(bytes && !bytes->empty(), ErrorKind::file, "{}: line {}: {} is not base64", name, number,
                      json_quote(printable(content.substr(0, blank), 60)));
    const auto digits = blank == std::string_view::npos ? std::string_view() : trim(content.substr(blank));
    int64_t rank = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    WINNOW_CHECK_KIND(status == std::errc() && end == digits.data() + digits.size() && rank >= 0 && rank <= kMaxId,
                      ErrorKind::file, "{}: line {}: a rank in [0, {}] must follow the token, got {}", name, number,
                      kMaxId, json_quote(printable(digits, 40)));
    WINNOW_CHECK_KIND(ranks.emplace(std::move(*bytes), rank).second, ErrorKind::file,
                      "{}: line {}: the token stands twice", name, number);
  }
  return ranks;
}

struct TiktokenTokenizer::State {
  State(const TiktokenFiles& files, const std::string& name)
      : pattern(text_anchors(files.pattern), /*use_known=*/true, RegexOptions{.possessive_interval = true}) {
    std::vector<std::pair<std::string, int32_t>> keys, specials;
    for (const auto& [bytes, rank] : files.ranks) {
      add(rank, bytes, name);
      keys.emplace_back(bytes, static_cast<int32_t>(rank));
    }
    for (const auto& [text, id] : files.special_tokens) {
      WINNOW_CHECK_KIND(!text.empty() && id >= 0 && id <= kMaxId, ErrorKind::file,
                        "{}: special token {} must not be empty and have an id in [0, {}], got {}", name,
                        json_quote(printable(text, 60)), kMaxId, id);
      add(id, text, name);
      specials.emplace_back(text, static_cast<int32_t>(id));
    }
    ranks = PieceTrie(std::move(keys));
    special = PieceTrie(std::move(specials));
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      WINNOW_CHECK_KIND(ranks.find({&c, 1}) >= 0, ErrorKind::file, "{}: the byte 0x{:02x} has no rank", name, byte);
    }
  }

  void add(int64_t id, const std::string& text, const std::string& name) {
    WINNOW_CHECK_KIND(tokens.emplace(id, text).second, ErrorKind::file, "{}: the id {} stands twice", name, id);
    size = std::max(size, id + 1);
  }

  // The lowest rank first, leftmost of equal ones, until no neighbours join to a token.
  void merge(std::string_view piece, std::vector<int64_t>& ids) const;
  void encode_piece(std::string_view piece, std::vector<int64_t>& ids) const {
    if (const auto id = ranks.find(piece); id >= 0) {
      ids.push_back(id);
    } else {
      merge(piece, ids);
    }
  }

  SplitPattern pattern;
  PieceTrie ranks, special;
  std::unordered_map<int64_t, std::string> tokens;
  int64_t size = 0;
};

void TiktokenTokenizer::State::merge(std::string_view piece, std::vector<int64_t>& ids) const {
  struct Pair {
    int32_t rank, left;
    std::size_t end;  // of the pair when it was seen
    bool operator<(const Pair& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  const auto count = static_cast<int32_t>(piece.size());
  // By the byte at which a part begins: where it ends (0: joined to the left), and where its left neighbour begins.
  std::vector<int32_t> ends(piece.size()), previous(piece.size());
  std::priority_queue<Pair> agenda;
  const auto offer = [&](int32_t left) {
    const auto middle = left < 0 ? count : ends[static_cast<std::size_t>(left)];
    if (middle >= count) return;
    const auto end = ends[static_cast<std::size_t>(middle)];
    const auto rank = ranks.find(piece.substr(static_cast<std::size_t>(left), static_cast<std::size_t>(end - left)));
    if (rank >= 0) agenda.push({rank, left, static_cast<std::size_t>(end)});
  };
  for (int32_t i = 0; i < count; ++i) {
    ends[static_cast<std::size_t>(i)] = i + 1;
    previous[static_cast<std::size_t>(i)] = i - 1;
  }
  for (int32_t i = 0; i < count; ++i) offer(i);
  while (!agenda.empty()) {
    const auto pair = agenda.top();
    agenda.pop();
    auto& middle = ends[static_cast<std::size_t>(pair.left)];
    if (middle == 0 || middle >= count) continue;
    const auto end = ends[static_cast<std::size_t>(middle)];
    if (static_cast<std::size_t>(end) != pair.end) continue;  // changed since
    ends[static_cast<std::size_t>(middle)] = 0;
    middle = end;
    if (end < count) previous[static_cast<std::size_t>(end)] = pair.left;
    offer(previous[static_cast<std::size_t>(pair.left)]);
    offer(pair.left);
  }
  for (int32_t i = 0; i < count; i = ends[static_cast<std::size_t>(i)]) {
    const auto part =
        piece.substr(static_cast<std::size_t>(i), static_cast<std::size_t>(ends[static_cast<std::size_t>(i)] - i));
    ids.push_back(ranks.find(part));
  }
}

namespace {

class Steps final : public DecodeSteps {
 public:
  Steps(const TiktokenTokenizer& tokenizer, std::shared_ptr<const void> owner, bool skip_special)
      : tokenizer_(tokenizer), owner_(std::move(owner)), skip_special_(skip_special) {}
  void push(int64_t id, std::string& bytes) override {
    if (skip_special_ && tokenizer_.is_special(id)) return;
    bytes += tokenizer_.token(id);
  }
  void finish(std::string&) override {}

 private:
  TiktokenTokenizer tokenizer_;  // shares the tables
  std::shared_ptr<const void> owner_;
  bool skip_special_;
};

}  // namespace

TiktokenTokenizer::TiktokenTokenizer(TiktokenFiles files, const std::string& name)
    : state_(std::make_shared<State>(files, name)) {
  special_ids_.eos = token_id("<|endoftext|>");
}

TiktokenTokenizer::~TiktokenTokenizer() = default;

std::vector<int64_t> TiktokenTokenizer::encode_bytes(std::string_view bytes) const {
  std::vector<int64_t> ids;
  if (!bytes.empty()) state_->encode_piece(bytes, ids);
  return ids;
}

std::string TiktokenTokenizer::decode_bytes(std::span<const int64_t> ids) const {
  std::string bytes;
  for (const auto id : ids) bytes += token(id);
  return bytes;
}

int64_t TiktokenTokenizer::vocab_size() const {
  return state_->size;
}

std::optional<int64_t> TiktokenTokenizer::token_id(std::string_view token) const {
  if (const auto id = state_->special.find(token); id >= 0) return id;
  if (const auto id = state_->ranks.find(token); id >= 0) return id;
  return std::nullopt;
}

std::string TiktokenTokenizer::token(int64_t id) const {
  const auto found = state_->tokens.find(id);
  return found == state_->tokens.end() ? std::string() : found->second;
}

bool TiktokenTokenizer::is_special(int64_t id) const {
  const auto found = state_->tokens.find(id);
  return found != state_->tokens.end() && state_->special.find(found->second) == id;
}

std::unique_ptr<DecodeSteps> TiktokenTokenizer::decode_steps(bool skip_special) const {
  return std::make_unique<Steps>(*this, state_, skip_special);
}

void TiktokenTokenizer::encode_text(std::string_view text, const EncodeOptions& options, Encoding& out) const {
  const auto ordinary = [&](std::string_view part) {
    for (std::size_t at = 0; at < part.size();) {
      const auto match = state_->pattern.find(part, at);
      if (!match) return;  // text that the pattern passes over is no part of any token
      state_->encode_piece(part.substr(match->begin, match->end - match->begin), out.ids);
      at = std::max(match->end, at + 1);
    }
  };
  std::size_t begin = 0;  // of the text not yet encoded
  for (std::size_t at = 0; options.parse_special && at < text.size();) {
    const auto length = state_->special.longest(text.substr(at));
    if (length == 0) {
      ++at;
      continue;
    }
    ordinary(text.substr(begin, at - begin));
    out.ids.push_back(state_->special.find(text.substr(at, length)));
    at += length;
    begin = at;
  }
  ordinary(text.substr(begin));
  if (options.offsets) add_offsets(text, out);
}

// Tokens stand one after another; one that begins or ends inside a character gets the whole of it.
void TiktokenTokenizer::add_offsets(std::string_view text, Encoding& out) const {
  std::vector<int64_t> character(text.size() + 1);  // the character that each byte is part of
  for (std::size_t i = 0; i < text.size(); ++i) {
    character[i + 1] = character[i] + (i + 1 < text.size() && unicode::is_continuation(text[i + 1]) ? 0 : 1);
  }
  std::size_t begin = 0;
  for (const auto id : out.ids) {
    const auto end = begin + token(id).size();
    WINNOW_CHECK_KIND(end <= text.size(), ErrorKind::unsupported,
                      "TiktokenTokenizer: no offsets for a pattern that passes over text");
    out.offsets.emplace_back(character[begin], character[end - 1] + 1);
    begin = end;
  }
}

std::shared_ptr<const TiktokenTokenizer> load_tiktoken(const std::filesystem::path& path) {
  auto file = path;
  if (std::filesystem::is_directory(path)) {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".tiktoken") found.push_back(entry.path());
    }
    WINNOW_CHECK_KIND(found.size() == 1, ErrorKind::file, "{}: wanted one .tiktoken file, found {}", path.string(),
                      found.size());
    file = found.front();
  }
  const auto config = JsonObject::read(file.parent_path() / "config.json");
  TiktokenFiles files{.ranks = parse_tiktoken_ranks(winnow::read_file(file.string()), file.string()),
                      .pattern = config.get<std::string>("pat_str")};
  if (config.has("special_tokens")) {
    const auto specials = config.object("special_tokens");
    for (const auto& [text, id] : specials.value().items()) files.special_tokens[text] = specials.get<int64_t>(text);
  }
  return std::make_shared<TiktokenTokenizer>(std::move(files), file.string());
}

}  // namespace winnow::io

#include "added_tokens.h"

#include <algorithm>
#include <cstring>

#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {

void TokenFinder::add(std::string_view content, size_t token) {
  if (content.empty()) return;
  if (nodes_.empty()) nodes_.emplace_back();
  begins_[static_cast<unsigned char>(content[0])] = true;
  uint32_t node = 0;
  for (const char byte : content) {
    auto& next = nodes_[node].next;
    const auto found = std::find_if(next.begin(), next.end(), [&](const auto& edge) { return edge.first == byte; });
    if (found != next.end()) {
      node = found->second;
    } else {
      const auto fresh = static_cast<uint32_t>(nodes_.size());
      next.emplace_back(byte, fresh);
      nodes_.emplace_back();
      node = fresh;
    }
  }
  nodes_[node].token = static_cast<int64_t>(token);
}

std::optional<TokenFinder::Found> TokenFinder::find_at(std::string_view text, size_t at) const {
  std::optional<Found> longest;
  uint32_t node = 0;
  for (auto i = at; i < text.size(); ++i) {
    const auto& next = nodes_[node].next;
    const auto found = std::find_if(next.begin(), next.end(), [&](const auto& edge) { return edge.first == text[i]; });
    if (found == next.end()) break;
    node = found->second;
    if (nodes_[node].token >= 0) longest = Found{at, i + 1, static_cast<size_t>(nodes_[node].token)};
  }
  return longest;
}

std::optional<TokenFinder::Found> TokenFinder::find(std::string_view text, size_t from) const {
  if (nodes_.empty()) return std::nullopt;
  for (auto at = from; at < text.size(); ++at) {
    if (!begins_[static_cast<unsigned char>(text[at])]) continue;
    if (const auto found = find_at(text, at)) return found;
  }
  return std::nullopt;
}

namespace {

AddedToken read_token(const JsonObject& json, const TokenModel& model) {
  AddedToken token{.id = json.get<int64_t>("id"), .content = json.get<std::string>("content")};
  token.special = json.get_or("special", false);
  token.normalized = json.get_or("normalized", !token.special);
  token.single_word = json.get_or("single_word", false);
  token.lstrip = json.get_or("lstrip", false);
  token.rstrip = json.get_or("rstrip", false);
  const auto most = model.vocab_size() + 1'000'000;
  WINNOW_CHECK_KIND(token.id >= 0 && token.id <= most, ErrorKind::file, "{}: {} must be in [0, {}], got {}",
                    json.file(), json.where("id"), most, token.id);
  if (const auto id = model.token_id(token.content)) token.id = *id;
  return token;
}

}  // namespace

AddedTokens::AddedTokens(const Json& json, const std::string& file, const TokenModel& model,
                         const Normalizer* normalizer) {
  if (json.is_null()) return;
  WINNOW_CHECK_KIND(json.is_array(), ErrorKind::file, "{}: added_tokens must be a list", file);
  for (size_t i = 0; i < json.size(); ++i) {
    auto token = read_token(JsonObject(json[i], file, fmt::format("added_tokens[{}]", i)), model);
    if (token.content.empty() || !by_content_.insert(token.content, static_cast<uint32_t>(token.id))) continue;
    const auto [before, fresh] = by_id_.emplace(token.id, tokens_.size());
    WINNOW_CHECK_KIND(fresh, ErrorKind::file, "{}: added_tokens[{}]: {} and {} have one id, {}", file, i,
                      json_quote(tokens_[before->second].content), json_quote(token.content), token.id);
    AlignedText content(token.content, 0, /*track=*/false);
    if (token.normalized && normalizer != nullptr) normalizer->apply(content);
    (token.normalized ? normalized_ : raw_).add(content.text, tokens_.size());
    token.spelling = content.text;
    largest_id_ = std::max(largest_id_, token.id);
    tokens_.push_back(std::move(token));
  }
}

std::vector<AddedTokens::Part> AddedTokens::cut(std::string_view text, bool normalized, bool parse_special) const {
  const auto& finder = normalized ? normalized_ : raw_;
  std::vector<Part> parts;
  size_t done = 0;
  for (auto found = finder.find(text, 0); found; found = finder.find(text, found->end)) {
    const auto& token = tokens_[found->token];
    auto begin = found->begin, end = found->end;
    if (token.special && !parse_special) continue;
    if (token.single_word) {
      const bool word_before =
          begin > 0 && unicode::is_plain_word(unicode::decode(text, unicode::previous(text, begin)).code);
      const bool word_behind = end < text.size() && unicode::is_plain_word(unicode::decode(text, end).code);
      if (word_before || word_behind) continue;
    }
    if (begin < done) continue;  // blanks that the token before took with it
    const auto space_at = [&](size_t at) { return unicode::is_space(unicode::decode(text, at).code); };
    while (token.lstrip && begin > done && space_at(unicode::previous(text, begin)))
      begin = unicode::previous(text, begin);
    while (token.rstrip && end < text.size() && space_at(end)) end += unicode::length_of(text[end]);
    if (begin > done) parts.push_back({done, begin});
    parts.push_back({begin, end, &token});
    done = end;
  }
  if (done < text.size()) parts.push_back({done, text.size()});
  return parts;
}

const AddedToken* AddedTokens::find(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

std::optional<int64_t> AddedTokens::token_id(std::string_view content) const {
  const auto id = by_content_.find(content);
  return id ? std::optional<int64_t>(*id) : std::nullopt;
}

}  // namespace winnow::io

#include "vocabulary.h"

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {

Vocabulary::Vocabulary(const Json& json, const std::string& file, const std::string& path) {
  const auto most = static_cast<int64_t>(4 * json.size()) + 1'000'000;  // gaps, but no memory for nothing
  WINNOW_CHECK_KIND(json.is_object(), ErrorKind::file, "{}: {} must be an object of tokens and ids", file, path);
  table_.reserve(json.size());
  std::vector<bool> taken;
  for (const auto& [token, value] : json.items()) {
    WINNOW_CHECK_KIND(
        value.is_number_integer() && value.get<double>() >= 0 && value.get<double>() <= static_cast<double>(most),
        ErrorKind::file, "{}: {}: the id of {} must be an integer in [0, {}], got {}", file, path, json_quote(token),
        most, value.dump());
    const auto id = value.get<size_t>();
    if (id >= tokens_.size()) tokens_.resize(id + 1);
    if (id >= taken.size()) taken.resize(std::max(id + 1, 2 * taken.size()));
    WINNOW_CHECK_KIND(!taken[id], ErrorKind::file, "{}: {}: {} and {} have one id, {}", file, path,
                      json_quote(tokens_[id]), json_quote(token), id);
    taken[id] = true;
    tokens_[id] = token;
    longest_ = std::max(longest_, token.size());
    table_.insert(token, static_cast<uint32_t>(id));
  }
}

}  // namespace winnow::io

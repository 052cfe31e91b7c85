#include "tokenizer_golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "support/golden.h"
#include "winnow/core/text.h"

namespace winnow::testing {

namespace fs = std::filesystem;

namespace {
fs::path own_folder(const std::string& name) {
  return fs::path(WINNOW_SOURCE_DIR) / "tests/golden/tokenizers" / name;
}
}  // namespace

fs::path TokenizerGolden::file(const std::string& file) const {
  return fs::exists(path / file) ? path / file : own_folder(name()) / file;
}

bool TokenizerGolden::has(const std::string& file) const {
  return fs::exists(this->file(file));
}

void for_each_tokenizer(const std::string& file, const std::function<void(const TokenizerGolden&)>& fn) {
  const auto root = golden::root();
  std::vector<fs::path> found;
  if (fs::is_directory(root.path / "tokenizers")) {
    for (const auto& entry : fs::recursive_directory_iterator(root.path / "tokenizers")) {
      if (entry.path().filename() == "cases.json") found.push_back(entry.path().parent_path());
    }
  }
  std::sort(found.begin(), found.end());
  int64_t ran = 0;
  for (const auto& path : found) {
    TokenizerGolden golden{.path = path};
    if (!golden.has(file)) continue;
    ++ran;
    try {
      golden.cases = io::read_json(path / "cases.json");
      fn(golden);
    } catch (const std::exception& error) {
      ADD_FAILURE() << path.string() << ": " << error.what();
    }
  }
  if (ran > 0) return;
  if (root.from_environment) GTEST_SKIP() << "no tokenizer with " << file << " under " << root.path;
  ADD_FAILURE() << "no tokenizer with " << file << " under " << root.path;
}

RowCheck::~RowCheck() {
  if (different_ > 0) ADD_FAILURE() << name_ << ": " << different_ << " of " << compared_ << " comparisons differ";
}

void RowCheck::report(const char* what, const io::Json& row, const std::string& got, const std::string& wanted) {
  constexpr int64_t kShown = 5;
  if (++different_ > kShown) return;
  ADD_FAILURE() << name_ << ": " << what << " of " << printable(row.dump(-1, ' ', true), 200) << "\n  got    "
                << printable(got, 400) << "\n  wanted " << printable(wanted, 400);
}

std::string streamed(const std::shared_ptr<const io::Tokenizer>& tokenizer, const std::vector<int64_t>& ids,
                     bool skip_special) {
  io::StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  const auto take = [&](const std::string& part) {
    for (size_t at = 0; at < part.size(); at += utf8_length(std::string_view(part).substr(at))) {
      if (utf8_length(std::string_view(part).substr(at)) == 0) {
        ADD_FAILURE() << "half a character came out of StreamDecoder";
        return;
      }
    }
    text += part;
  };
  for (const auto id : ids) take(decoder.push(id));
  take(decoder.finish());
  return text;
}

}  // namespace winnow::testing

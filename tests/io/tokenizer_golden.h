// Rows that the official tokenizer libraries computed: tests/golden/tokenizers and what WINNOW_GOLDEN_DIR holds.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "winnow/io/json.h"
#include "winnow/io/tokenizer.h"

namespace winnow::testing {

// One folder with a cases.json.
struct TokenizerGolden {
  std::filesystem::path path{};
  io::Json cases{};  // the content of cases.json

  [[nodiscard]] std::string name() const { return path.filename().string(); }
  // Another file of the folder, or, where it is not there, of the folder of the same name in tests/golden/tokenizers.
  [[nodiscard]] std::filesystem::path file(const std::string& file) const;
  [[nodiscard]] bool has(const std::string& file) const;
};

// Runs fn for every folder that has (in the sense above) this file: "tokenizer.json", "tokenizer.model",
// "ranks.tiktoken", ... No folder is a failure under tests/golden and a skip under WINNOW_GOLDEN_DIR.
void for_each_tokenizer(const std::string& file, const std::function<void(const TokenizerGolden&)>& fn);

// Counts differences of rows and shows the first few.
class RowCheck {
 public:
  explicit RowCheck(std::string name) : name_(std::move(name)) {}
  ~RowCheck();  // fails the test where there were more differences than were shown
  template <typename T>
  void equal(const char* what, const io::Json& row, const T& got, const T& wanted) {
    ++compared_;
    if (got == wanted) return;
    report(what, row, io::Json(got).dump(-1, ' ', true), io::Json(wanted).dump(-1, ' ', true));
  }
  [[nodiscard]] int64_t compared() const { return compared_; }

 private:
  void report(const char* what, const io::Json& row, const std::string& got, const std::string& wanted);
  std::string name_;
  int64_t compared_ = 0, different_ = 0;
};

// What StreamDecoder gives for these ids, joined; each part must be whole characters.
std::string streamed(const std::shared_ptr<const io::Tokenizer>& tokenizer, const std::vector<int64_t>& ids,
                     bool skip_special);

}  // namespace winnow::testing

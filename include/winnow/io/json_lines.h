// Metrics as JSON lines: one object a line, appended whole.
#pragma once

#include <memory>

#include "winnow/io/json.h"

namespace winnow::io {

class AppendFile;

// Appends to a file (made if missing, its folder too). Each line is one write, so that a reader or a killed process
// sees whole lines only, except perhaps the last. Throws Error(file) naming the path if the disk refuses,
// Error(argument) if the value is not an object or holds text that is not UTF-8. A number that is not finite is written
// as null. Not thread safe.
class JsonLinesWriter {
 public:
  explicit JsonLinesWriter(const std::filesystem::path& path);
  JsonLinesWriter(const JsonLinesWriter&) = delete;
  JsonLinesWriter& operator=(const JsonLinesWriter&) = delete;
  ~JsonLinesWriter();

  void write(const Json& object);
  [[nodiscard]] const std::filesystem::path& path() const;

 private:
  std::unique_ptr<AppendFile> file_;
};

// All lines of a file. A last line without its newline is left out if it is broken; any other broken line is an
// Error(file) that names file and line.
std::vector<Json> read_json_lines(const std::filesystem::path& path);

// For a run that resumes: keeps the lines whose integer `key` is <= last_step, and those without the key, and drops a
// torn last line. Replaces the file atomically; a missing file is left missing. Gives the number of lines dropped.
int64_t truncate_json_lines(const std::filesystem::path& path, const std::string& key, int64_t last_step);

}  // namespace winnow::io

#include "winnow/io/json_lines.h"

#include "append_file.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"

namespace winnow::io {
namespace {

// Calls fn(line, value) for each line of the text; a torn last line is left out.
template <typename Fn>
void for_each_line(std::string_view text, const std::string& name, Fn fn) {
  int64_t number = 0;
  while (!text.empty()) {
    ++number;
    const auto end = text.find('\n');
    const auto line = text.substr(0, end);
    const bool torn = end == std::string_view::npos;
    text.remove_prefix(torn ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Json value;
    try {
      value = parse_json(line, name + ": line " + std::to_string(number));
    } catch (const Error&) {
      if (torn) return;
      throw;
    }
    fn(line, std::move(value));
  }
}

}  // namespace

JsonLinesWriter::JsonLinesWriter(const std::filesystem::path& path)
    : file_(std::make_unique<AppendFile>(path, AppendFile::Mode::append)) {}

JsonLinesWriter::~JsonLinesWriter() = default;

const std::filesystem::path& JsonLinesWriter::path() const {
  return file_->path();
}

void JsonLinesWriter::write(const Json& object) {
  WINNOW_CHECK(object.is_object(), "JsonLinesWriter: a line must be an object, got {}", object.type_name());
  std::string line;
  try {
    line = object.dump() + "\n";
  } catch (const Json::type_error&) {
    fail(ErrorKind::argument, "JsonLinesWriter: {}: text must be UTF-8", path().string());
  }
  file_->write(line);
}

std::vector<Json> read_json_lines(const std::filesystem::path& path) {
  const auto text = winnow::read_file(path.string(), kMaxFileBytes);
  std::vector<Json> lines;
  for_each_line(text, path.string(), [&](std::string_view, Json value) { lines.push_back(std::move(value)); });
  return lines;
}

int64_t truncate_json_lines(const std::filesystem::path& path, const std::string& key, int64_t last_step) {
  if (!std::filesystem::exists(path)) return 0;
  const auto text = winnow::read_file(path.string(), kMaxFileBytes);
  std::string kept;
  int64_t dropped = 0;
  for_each_line(text, path.string(), [&](std::string_view line, const Json& value) {
    const auto step = value.is_object() ? value.find(key) : value.end();
    if (value.is_object() && step != value.end() && step->is_number_integer() && step->get<int64_t>() > last_step) {
      ++dropped;
      return;
    }
    kept.append(line).push_back('\n');
  });
  if (kept != text) write_file(path.string(), kept);
  return dropped;
}

}  // namespace winnow::io

#include "winnow/io/json.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

// Builds the value as the parser reports it: nlohmann's own builder has neither limits nor a check of repeated keys.
class Builder {
 public:
  Builder(std::string_view text, const std::string& name, const JsonLimits& limits)
      : text_(text), name_(name), limits_(limits) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(Json::number_integer_t value) { return add(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return add(value); }
  bool number_float(Json::number_float_t value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& value) {
    const auto [place, is_new] = stack_.back()->get_ref<Json::object_t&>().emplace(value, nullptr);
    WINNOW_CHECK_KIND(is_new, ErrorKind::file, "{}: the key \"{}\" stands twice in one object", name_,
                      printable(value, 80));
    member_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& last_token, const Json::exception& error) {
    if (text_.empty()) fail(ErrorKind::file, "{}: the file is empty, wanted JSON", name_);
    const bool out_of_range = error.id == 406;
    fail_at(position > 0 ? position - 1 : 0, out_of_range ? "a number too large" : "not valid JSON", last_token);
  }

  // `position` counts bytes from 0.
  [[noreturn]] void fail_at(std::size_t position, const char* what, const std::string& token) const {
    const auto before = text_.substr(0, position);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const auto line_start = before.rfind('\n');
    const auto column = before.size() - (line_start == std::string_view::npos ? 0 : line_start + 1) + 1;
    fail(ErrorKind::file, "{}: line {}, column {}: {} near {}", name_, line, column, what,
         json_quote(printable(token, 40)));
  }

  Json take() { return std::move(root_); }

 private:
  Json& place(Json value) {
    WINNOW_CHECK_KIND(++count_ <= limits_.max_values, ErrorKind::file, "{}: more than {} JSON values", name_,
                      limits_.max_values);
    if (stack_.empty()) return root_ = std::move(value);
    if (stack_.back()->is_object()) return *member_ = std::move(value);
    return stack_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    WINNOW_CHECK_KIND(static_cast<int64_t>(stack_.size()) < limits_.max_depth, ErrorKind::file,
                      "{}: JSON nested deeper than {}", name_, limits_.max_depth);
    stack_.push_back(&place(std::move(value)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& name_;
  const JsonLimits& limits_;
  Json root_;
  std::vector<Json*> stack_;  // open arrays and objects; a parent does not grow while a child is open
  Json* member_ = nullptr;
  int64_t count_ = 0;
};

std::string shown(const Json& value) {
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
}

bool is_integer(const Json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()};
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const auto number = value.get<double>();
  return std::abs(number) <= 9007199254740992.0 && number == std::trunc(number);
}

template <typename T>
struct Kind;
template <>
struct Kind<bool> {
  static constexpr const char* name = "true or false";
  static bool holds(const Json& value) { return value.is_boolean(); }
};
template <>
struct Kind<int64_t> {
  static constexpr const char* name = "an integer";
  static bool holds(const Json& value) { return is_integer(value); }
};
template <>
struct Kind<double> {
  static constexpr const char* name = "a number";
  static bool holds(const Json& value) { return value.is_number(); }
};
template <>
struct Kind<std::string> {
  static constexpr const char* name = "a string";
  static bool holds(const Json& value) { return value.is_string(); }
};
template <typename T>
struct Kind<std::vector<T>> {
  static constexpr const char* name = std::is_same_v<T, int64_t>  ? "a list of integers"
                                      : std::is_same_v<T, double> ? "a list of numbers"
                                                                  : "a list of strings";
  static bool holds(const Json& value) {
    return value.is_array() && std::all_of(value.begin(), value.end(), Kind<T>::holds);
  }
};

}  // namespace

Json parse_json(std::string_view text, const std::string& name, const JsonLimits& limits) {
  WINNOW_CHECK_KIND(text.size() <= limits.max_bytes, ErrorKind::file, "{}: {} bytes of JSON, the limit is {}", name,
                    text.size(), limits.max_bytes);
  Builder builder(text, name, limits);
  // nlohmann's scanner takes a NUL for the end of the text.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    builder.fail_at(nul, "not valid JSON", "\\u0000");
  }
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(winnow::read_file(path.string(), static_cast<int64_t>(limits.max_bytes)), path.string(), limits);
}

void write_json(const std::filesystem::path& path, const Json& value) {
  std::string text;
  try {
    text = value.dump(2) + "\n";
  } catch (const Json::type_error&) {
    fail(ErrorKind::argument, "write_json: {}: text must be UTF-8", path.string());
  }
  write_file(path.string(), text);
}

JsonObject::JsonObject(Json value, std::string file, std::string path)
    : value_(std::move(value)), file_(std::move(file)), path_(std::move(path)) {
  WINNOW_CHECK_KIND(value_.is_object(), ErrorKind::file, "{}: {} must be an object, got {}", file_,
                    path_.empty() ? "the content" : path_, shown(value_));
}

JsonObject JsonObject::read(const std::filesystem::path& file) {
  return {read_json(file), file.string()};
}

bool JsonObject::has(const std::string& key) const {
  const auto found = value_.find(key);
  return found != value_.end() && !found->is_null();
}

std::string JsonObject::where(const std::string& key) const {
  return path_.empty() ? key : path_ + "." + key;
}

const Json& JsonObject::raw(const std::string& key) const {
  if (!has(key)) {
    std::vector<std::string> keys;
    for (const auto& [name, value] : value_.items()) {
      if (name != key) keys.push_back(name);
    }
    const auto like = nearest(key, keys);
    fail(ErrorKind::file, "{}: {} {}{}", file_, where(key), value_.contains(key) ? "must not be null" : "is missing",
         like ? " (nearest: " + printable(*like, 80) + ")" : "");
  }
  return value_[key];
}

template <typename T>
T JsonObject::get(const std::string& key) const {
  const auto& value = raw(key);
  WINNOW_CHECK_KIND(Kind<T>::holds(value), ErrorKind::file, "{}: {} must be {}, got {}", file_, where(key),
                    Kind<T>::name, shown(value));
  return value.get<T>();
}

template bool JsonObject::get(const std::string&) const;
template int64_t JsonObject::get(const std::string&) const;
template double JsonObject::get(const std::string&) const;
template std::string JsonObject::get(const std::string&) const;
template std::vector<int64_t> JsonObject::get(const std::string&) const;
template std::vector<double> JsonObject::get(const std::string&) const;
template std::vector<std::string> JsonObject::get(const std::string&) const;

JsonObject JsonObject::object(const std::string& key) const {
  return {raw(key), file_, where(key)};
}

}  // namespace winnow::io

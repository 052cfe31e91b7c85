// Values of templates: those of Python that chat templates meet.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "winnow/io/json.h"

namespace winnow::io::jinja {

struct Value;
using List = std::vector<Value>;
struct Entry;
using Dict = std::vector<Entry>;  // in order of insertion, each key once

struct Undefined {
  std::string name;  // what was asked for
};
struct None {};
struct Namespace;
struct Arguments;
using Function = std::function<Value(const Arguments&)>;

inline constexpr std::size_t kMaxText = std::size_t{16} << 20;  // bytes of any text
inline constexpr int kMaxNesting = 100;                         // of lists and mappings

// Copies share texts, lists and mappings.
struct Value {
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Namespace>, std::shared_ptr<const Function>>
      data;
  int nesting = 0;  // how deep lists and mappings stand inside each other

  Value() : data(Undefined{}) {}
  Value(Undefined value) : data(std::move(value)) {}
  Value(None value) : data(value) {}
  Value(bool value) : data(value) {}
  Value(int64_t value) : data(value) {}
  Value(double value) : data(value) {}
  Value(std::string value) : data(std::make_shared<const std::string>(std::move(value))) {}
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char* value) : Value(std::string(value)) {}
  Value(List value);  // Fault if lists and mappings are nested deeper than kMaxNesting
  Value(Dict value);
  Value(std::shared_ptr<Namespace> value) : data(std::move(value)) {}
  Value(Function value) : data(std::make_shared<const Function>(std::move(value))) {}

  template <typename T>
  [[nodiscard]] bool is() const {
    return std::holds_alternative<T>(data);
  }
  [[nodiscard]] bool is_list() const { return is<std::shared_ptr<const List>>(); }
  [[nodiscard]] bool is_dict() const { return is<std::shared_ptr<const Dict>>(); }
  [[nodiscard]] bool is_number() const { return is<bool>() || is<int64_t>() || is<double>(); }
  [[nodiscard]] bool is_text() const { return is<std::shared_ptr<const std::string>>(); }
  [[nodiscard]] const std::string& text() const { return *std::get<std::shared_ptr<const std::string>>(data); }
  [[nodiscard]] const List& list() const { return *std::get<std::shared_ptr<const List>>(data); }
  [[nodiscard]] const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data); }
  [[nodiscard]] int64_t integer() const { return is<bool>() ? int64_t{std::get<bool>(data)} : std::get<int64_t>(data); }
  [[nodiscard]] double number() const { return is<double>() ? std::get<double>(data) : static_cast<double>(integer()); }
};

struct Entry {
  std::string first;
  Value second;
};
// The one kind of value that templates change.
struct Namespace {
  Dict members;
};
// What a call passes: f(1, key=2).
struct Arguments {
  List positional{};
  Dict named{};
};

// What goes wrong in a value; the interpreter makes it an Error with file and line.
struct Fault {
  std::string text;
};

// Appends; Fault past kMaxText.
void append(std::string& out, std::string_view text);

const Value* find(const Dict& dict, std::string_view key);
void set(Dict& dict, std::string_view key, Value value);

bool truth(const Value& value);
std::string to_text(const Value& value);  // str() of Python; undefined: ""
std::string to_repr(const Value& value);  // repr()
std::string to_json(const Value& value, int64_t indent,
                    bool sort);  // json.dumps(ensure_ascii=False); indent < 0: one line
const char* type_name(const Value& value);
bool equal(const Value& a, const Value& b);
int compare(const Value& a, const Value& b);  // < 0, 0, > 0; Fault if they have no order
bool contains(const Value& container, const Value& item);
List to_list(const Value& value);  // what a loop over it sees: items, keys, characters

// Strings by characters: how many, and where each begins.
int64_t characters(std::string_view text);
std::vector<std::string> split_characters(std::string_view text);

Value from_json(const nlohmann::ordered_json& json, int depth = 0);

}  // namespace winnow::io::jinja

// Options structs described once: key, range and help of each field drive YAML, --set, --help and check().
//
// An options struct stays a plain aggregate (defaults, designated initialisers) with one static member:
//
//   enum class MaskKind { random, grid };
//   inline EnumNames<MaskKind> enum_names(MaskKind) {
//     return {{"random", MaskKind::random}, {"grid", MaskKind::grid}};
//   }
//
//   struct MaskOptions {
//     int64_t patches;                    // no default: has to be given
//     double ratio = 0.75;
//     MaskKind kind = MaskKind::random;
//     std::vector<int64_t> stages = {2, 2};
//     static Fields<MaskOptions> fields() {
//       return Fields<MaskOptions>("Mask")
//           .add("patches", &MaskOptions::patches, "patches of a picture", at_least(1))
//           .add("ratio", &MaskOptions::ratio, "share of patches removed", in_range(0, 1, Ends::right_open))
//           .add("kind", &MaskOptions::kind, "how patches are chosen")
//           .add("stages", &MaskOptions::stages, "blocks of each stage", at_least(1))
//           .rule([](const MaskOptions& o) { WINNOW_CHECK(o.stages.size() < 5, "Mask: at most 4 stages, got {}", ...);
//           });
//     }
//   };
//
// Types of a field: bool, int64_t, uint64_t, double, std::string, an enum with enum_names, another options struct
// (also written .nest), and std::vector, std::array and std::optional of those. A range holds for each element of a
// list and for an optional that has a value. A field whose default lies outside its range has no default: help says
// "required", and reading fails if the key is absent. NaN is never in range, infinity is unless the range excludes it.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/options_detail.h"

namespace winnow {

// Which ends belong to a range: both, neither, or one. right_open is [low, high).
enum class Ends { closed, open, left_open, right_open };

// What a field may hold. Made by the functions below; Range{} admits every value but NaN.
struct Range {
  std::optional<double> low, high;
  bool low_open = false, high_open = false;
  std::vector<std::string> choices;  // for std::string fields

  [[nodiscard]] bool contains(double value) const;
  [[nodiscard]] bool contains(std::string_view text) const;
  // As it stands in messages and help: "in [0, 1)", ">= 1", "> 0", "one of a, b". Empty for Range{}.
  [[nodiscard]] std::string text() const;
};

Range in_range(double low, double high, Ends ends = Ends::closed);
Range at_least(double low);
Range above(double low);
Range at_most(double high);
Range below(double high);
Range one_of(std::vector<std::string> choices);

// The names of an enum, in the order of help. A program declares `EnumNames<E> enum_names(E)` beside its enum E.
template <typename E>
using EnumNames = std::vector<std::pair<const char*, E>>;

// The name of a value: enum_name(MaskKind::grid) == "grid". A value that has no name gives "?".
template <typename E>
const char* enum_name(E value) {
  for (const auto& [name, candidate] : enum_names(E{})) {
    if (candidate == value) return name;
  }
  return "?";
}

// The description of the options struct T. Built by chained calls; see the top of this file.
template <typename T>
class Fields {
 public:
  // The title begins every message of check(): "Mask: ratio must be in [0, 1), got 2".
  explicit Fields(std::string title) { table_.title = std::move(title); }

  // A field under this key. A key is lower case letters, digits and underscores and occurs once; else Error (argument).
  template <typename M>
  Fields&& add(std::string key, M T::* member, std::string help, Range range = {}) && {
    detail::Field field{.key = std::move(key), .help = std::move(help), .range = {}, .type = &detail::value_type<M>()};
    field.range = std::make_shared<const Range>(std::move(range));
    static_assert(sizeof(member) <= sizeof(field.member));
    std::memcpy(&field.member, &member, sizeof(member));
    field.locate = [](void* object, const std::ptrdiff_t& stored) -> void* {
      M T::* pointer;
      std::memcpy(&pointer, &stored, sizeof(pointer));
      return &(static_cast<T*>(object)->*pointer);
    };
    detail::add_field(table_, std::move(field));
    return std::move(*this);
  }

  // Another options struct under this key: the same as add without a range.
  template <typename M>
  Fields&& nest(std::string key, M T::* member, std::string help = "") && {
    return std::move(*this).add(std::move(key), member, std::move(help));
  }

  // A rule over several fields, run by check() and after reading, when every single field is in range. It throws
  // winnow::Error (WINNOW_CHECK) if the rule is broken; Config adds file and line.
  Fields&& rule(void (*check)(const T&)) && {
    table_.rules.push_back({reinterpret_cast<void (*)()>(check), [](void (*stored)(), const void* object) {
                              reinterpret_cast<void (*)(const T&)>(stored)(*static_cast<const T*>(object));
                            }});
    return std::move(*this);
  }

  [[nodiscard]] const detail::Table& table() const { return table_; }

 private:
  detail::Table table_;
};

// Throws Error (argument) naming the first field out of range: "Mask: ratio must be in [0, 1), got 2"; nested fields
// are written encoder.depth. Then runs the rules.
template <typename T>
void check(const T& options) {
  detail::check(detail::table_of<T>(), &options);
}

// The table of --help: one line a key with its default, help, type and range. Keys start with the section:
// "  train.lr  0.001     step size (number > 0)". Fields of nested structs are written train.optimizer.beta.
template <typename T>
std::string help(std::string_view section = "") {
  T defaults{};
  return detail::help(detail::table_of<T>(), section, &defaults);
}

// Every field as YAML that Config reads back to the same values (doubles to the last bit), two spaces an indent.
template <typename T>
std::string to_yaml(const T& options) {
  return detail::to_yaml(detail::table_of<T>(), &options);
}

// Every field as one JSON object on one line. Infinity, which JSON lacks, is the string "inf" or "-inf"; uint64 and
// int64 are written in full.
template <typename T>
std::string to_json(const T& options) {
  return detail::to_json(detail::table_of<T>(), &options);
}

}  // namespace winnow

// The type-erased half of options.h: what a field's type can do, reached through plain function pointers so that an
// options struct costs its translation unit almost nothing. Programs use options.h only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace winnow {
struct Range;
}

namespace winnow::detail {

struct Table;

enum class ValueKind { boolean, int64, uint64, real, text, enumeration, structure, list, optional };

// One type of field. Scalars are read and written through their own pointer by the kind; the rest by these functions.
struct ValueType {
  ValueKind kind;
  // enumeration
  std::vector<std::pair<std::string, int64_t>> names = {};
  int64_t (*get_enum)(const void*) = nullptr;
  void (*set_enum)(void*, int64_t) = nullptr;
  // structure
  const Table& (*table)() = nullptr;
  // list and optional (an optional is a list of at most one)
  const ValueType& (*element)() = nullptr;
  int64_t fixed_size = -1;  // of a std::array; -1: any
  int64_t (*size)(const void*) = nullptr;
  void (*resize)(void*, int64_t) = nullptr;
  void* (*at)(void*, int64_t) = nullptr;
};

struct Field {
  std::string key, help;
  std::shared_ptr<const Range> range;
  const ValueType* type = nullptr;
  std::ptrdiff_t member = 0;  // the bytes of the pointer to member
  void* (*locate)(void* object, const std::ptrdiff_t& member) = nullptr;

  [[nodiscard]] void* in(void* object) const { return locate(object, member); }
  [[nodiscard]] const void* in(const void* object) const { return locate(const_cast<void*>(object), member); }
};

struct Rule {
  void (*stored)();
  void (*call)(void (*stored)(), const void* object);
};

struct Table {
  std::string title;
  std::vector<Field> fields;
  std::vector<Rule> rules;
};

void add_field(Table& table, Field field);
void check(const Table& table, const void* object);
std::string help(const Table& table, std::string_view section, void* defaults);  // defaults is scratch
std::string to_yaml(const Table& table, const void* object);
std::string to_json(const Table& table, const void* object);

template <typename T>
const Table& table_of() {
  static const auto fields = T::fields();
  return fields.table();
}

template <typename M>
const ValueType& value_type();
template <>
const ValueType& value_type<bool>();
template <>
const ValueType& value_type<int64_t>();
template <>
const ValueType& value_type<uint64_t>();
template <>
const ValueType& value_type<double>();
template <>
const ValueType& value_type<std::string>();

template <typename M>
struct MakeType {
  static ValueType make() {
    static_assert(std::is_class_v<M>, "winnow options: this type of field is not supported; see options.h");
    return {.kind = ValueKind::structure, .table = []() -> const Table& { return table_of<M>(); }};
  }
};

template <typename E>
  requires std::is_enum_v<E>
struct MakeType<E> {
  static ValueType make() {
    ValueType type{.kind = ValueKind::enumeration};
    for (const auto& [name, value] : enum_names(E{})) type.names.emplace_back(name, static_cast<int64_t>(value));
    type.get_enum = [](const void* p) { return static_cast<int64_t>(*static_cast<const E*>(p)); };
    type.set_enum = [](void* p, int64_t value) { *static_cast<E*>(p) = static_cast<E>(value); };
    return type;
  }
};

template <typename E>
struct MakeType<std::vector<E>> {
  static_assert(!std::is_same_v<E, bool>, "winnow options: std::vector<bool> is not supported");
  static ValueType make() {
    using List = std::vector<E>;
    return {.kind = ValueKind::list,
            .element = &value_type<E>,
            .size = [](const void* p) { return static_cast<int64_t>(static_cast<const List*>(p)->size()); },
            .resize = [](void* p, int64_t n) { static_cast<List*>(p)->assign(static_cast<size_t>(n), E{}); },
            .at = [](void* p, int64_t i) -> void* { return &(*static_cast<List*>(p))[static_cast<size_t>(i)]; }};
  }
};

template <typename E, size_t N>
struct MakeType<std::array<E, N>> {
  static ValueType make() {
    using List = std::array<E, N>;
    return {.kind = ValueKind::list,
            .element = &value_type<E>,
            .fixed_size = static_cast<int64_t>(N),
            .size = [](const void*) { return static_cast<int64_t>(N); },
            .resize = [](void* p, int64_t) { static_cast<List*>(p)->fill(E{}); },
            .at = [](void* p, int64_t i) -> void* { return &(*static_cast<List*>(p))[static_cast<size_t>(i)]; }};
  }
};

template <typename E>
struct MakeType<std::optional<E>> {
  static ValueType make() {
    using Maybe = std::optional<E>;
    return {.kind = ValueKind::optional,
            .element = &value_type<E>,
            .size = [](const void* p) { return static_cast<int64_t>(static_cast<const Maybe*>(p)->has_value()); },
            .resize =
                [](void* p, int64_t n) {
                  auto& maybe = *static_cast<Maybe*>(p);
                  if (n == 0) {
                    maybe.reset();
                  } else {
                    maybe.emplace();
                  }
                },
            .at = [](void* p, int64_t) -> void* { return &**static_cast<Maybe*>(p); }};
  }
};

template <typename M>
const ValueType& value_type() {
  static const ValueType type = MakeType<M>::make();
  return type;
}

}  // namespace winnow::detail

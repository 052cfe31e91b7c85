// What options.cpp, options_text.cpp and config.cpp share about the values of fields.
#pragma once

#include <string>

#include "winnow/core/options.h"

namespace winnow::detail {

enum class Notation { yaml, json };

// "an integer", "a number", "one of random, grid", "a list of integers >= 0" as it stands behind "must be".
std::string type_text(const ValueType& type);

// The same with the range, as help writes it: "integer >= 1", "random, grid", "list of number > 0".
std::string type_with_range(const ValueType& type, const Range& range);

// A value on one line: 3, 0.5, [1, 2], {a: 1}, null.
std::string flow_text(const ValueType& type, const void* value, Notation notation);

// "" if the scalar is in range, else "must be in [0, 1), got 2". Lists, optionals and structures: "".
std::string range_problem(const ValueType& type, const Range& range, const void* value);

// Throws what the rules of this table throw.
void run_rules(const Table& table, const void* object);

}  // namespace winnow::detail

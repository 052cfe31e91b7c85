#include "winnow/core/cpu_target.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow {

const std::vector<std::string>& cpu_target_names() {
  static const std::vector<std::string> names = {"scalar", "emu128",  "ssse3",     "sse4", "avx2",
                                                 "avx3",   "avx3_dl", "avx3_zen4", "neon", "sve",
                                                 "sve2",   "sve_256", "sve2_128"};
  return names;
}

std::string parse_cpu_target(std::string_view name) {
  std::string lower(name);
  for (auto& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto& names = cpu_target_names();
  WINNOW_CHECK(std::find(names.begin(), names.end(), lower) != names.end(),
               "CPU target must be one of {}, got \"{}\"{}", join(names), printable(name), did_you_mean(name, names));
  return lower;
}

std::optional<std::string> requested_cpu_target() {
  const char* value = std::getenv("WINNOW_CPU");
  if (value == nullptr || *value == '\0') return {};
  return parse_cpu_target(value);
}

}  // namespace winnow

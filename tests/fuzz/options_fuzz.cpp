// Any bytes as a YAML file, and any bytes as a --set: an Error or a configuration, never more.
//
// The input is the file; what stands behind its last 0xFF byte, if there is one, is an assignment.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "../core/sample_options.h"
#include "winnow/core/config.h"

namespace {

// Whatever was read keeps its promises: it passes check() and survives being written and read again.
void expect_round_trip(const winnow::testing::Sample& sample) {
  winnow::check(sample);
  auto again = winnow::Config::parse(winnow::to_yaml(sample)).read<winnow::testing::Sample>("");
  if (winnow::to_json(again) != winnow::to_json(sample)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto end = input.rfind('\xFF');
  winnow::testing::Sample sample{.size = 1};
  try {
    auto config = winnow::Config::parse(input.substr(0, end), "fuzz.yaml");
    if (end != std::string_view::npos) config.set(input.substr(end + 1));
    config.read("", sample);
    config.read("m", sample);
    config.finish();
  } catch (const winnow::Error& e) {
    if (std::string_view(e.what()).find('\n') != std::string_view::npos) std::abort();
    return 0;
  }
  expect_round_trip(sample);
  return 0;
}

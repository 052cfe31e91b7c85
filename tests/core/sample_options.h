// An options struct with a field of every kind, for the tests of options, configuration and programs and for the
// fuzzer.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "winnow/core/options.h"

namespace winnow::testing {

enum class Colour { red, green };
inline EnumNames<Colour> enum_names(Colour) {
  return {{"red", Colour::red}, {"green", Colour::green}};
}

struct Inner {
  int64_t depth = 2;
  static Fields<Inner> fields() {
    return Fields<Inner>("Inner").add("depth", &Inner::depth, "levels", at_least(0)).rule([](const Inner& inner) {
      WINNOW_CHECK(inner.depth != 13, "Inner: depth must not be 13");
    });
  }
};

struct Sample {
  int64_t size;  // required
  double ratio = 0.75;
  double free = 1;
  uint64_t seed = 7;
  uint64_t big = 0;
  bool flag = false;
  std::string name = "plain";
  std::string mode = "fast";
  std::vector<std::string> words = {};
  Colour colour = Colour::red;
  std::vector<int64_t> sizes = {2, 2};
  std::array<double, 2> betas = {0.9, 0.95};
  std::optional<double> clip = {};
  Inner inner = {};
  std::optional<Inner> extra = {};
  std::vector<Inner> stages = {};

  static Fields<Sample> fields() {
    return Fields<Sample>("Sample")
        .add("size", &Sample::size, "number of things", at_least(1))
        .add("ratio", &Sample::ratio, "share", in_range(0, 1, Ends::right_open))
        .add("free", &Sample::free, "any number")
        .add("seed", &Sample::seed, "of the draws", at_most(100))
        .add("big", &Sample::big, "any 64 bits")
        .add("flag", &Sample::flag, "a switch")
        .add("name", &Sample::name, "a word")
        .add("mode", &Sample::mode, "how", one_of({"fast", "exact"}))
        .add("words", &Sample::words, "some words")
        .add("colour", &Sample::colour, "of the thing")
        .add("sizes", &Sample::sizes, "of the stages", at_least(1))
        .add("betas", &Sample::betas, "decays", in_range(0, 1, Ends::right_open))
        .add("clip", &Sample::clip, "largest norm", above(0))
        .nest("inner", &Sample::inner)
        .nest("extra", &Sample::extra)
        .add("stages", &Sample::stages, "one each")
        .rule([](const Sample& sample) {
          WINNOW_CHECK(sample.sizes.size() <= 3, "Sample: at most 3 sizes, got {}", sample.sizes.size());
        });
  }
};

}  // namespace winnow::testing

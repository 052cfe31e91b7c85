#include "winnow/core/options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/sample_options.h"
#include "support/error.h"
#include "winnow/core/config.h"
#include "winnow/core/random.h"
#include "winnow/core/text.h"

namespace winnow {
namespace {

using testing::Colour;
using testing::Inner;
using testing::Sample;

TEST(RangeTest, EndsBelongAsTheySay) {
  EXPECT_TRUE(in_range(0, 1).contains(0.0) && in_range(0, 1).contains(1.0));
  EXPECT_FALSE(in_range(0, 1, Ends::open).contains(0.0) || in_range(0, 1, Ends::open).contains(1.0));
  EXPECT_TRUE(in_range(0, 1, Ends::right_open).contains(0.0));
  EXPECT_FALSE(in_range(0, 1, Ends::right_open).contains(1.0));
  EXPECT_FALSE(in_range(0, 1, Ends::left_open).contains(0.0));
  EXPECT_TRUE(in_range(0, 1, Ends::left_open).contains(1.0));
  EXPECT_TRUE(at_least(2).contains(2.0) && !at_least(2).contains(1.0));
  EXPECT_TRUE(at_most(2).contains(2.0) && !at_most(2).contains(3.0));
  EXPECT_FALSE(above(2).contains(2.0) || below(2).contains(2.0));
  EXPECT_TRUE(above(2).contains(2.1) && below(2).contains(1.9));
}

TEST(RangeTest, NanIsNeverInRangeAndInfinityOnlyWhereNothingForbidsIt) {
  const auto nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const auto& range : {Range{}, at_least(0), at_most(0), in_range(0, 1)}) EXPECT_FALSE(range.contains(nan));
  EXPECT_TRUE(Range{}.contains(infinity) && above(0).contains(infinity));
  EXPECT_FALSE(below(1).contains(infinity) || in_range(0, 1).contains(infinity));
}

TEST(RangeTest, TextReadsAsInMessages) {
  EXPECT_EQ(in_range(0, 1).text(), "in [0, 1]");
  EXPECT_EQ(in_range(0, 0.5, Ends::open).text(), "in (0, 0.5)");
  EXPECT_EQ(in_range(0, 1, Ends::left_open).text(), "in (0, 1]");
  EXPECT_EQ(at_least(1).text(), ">= 1");
  EXPECT_EQ(above(0).text(), "> 0");
  EXPECT_EQ(at_most(1e-3).text(), "<= 0.001");
  EXPECT_EQ(below(8).text(), "< 8");
  EXPECT_EQ(one_of({"a", "b"}).text(), "one of a, b");
  EXPECT_EQ(Range{}.text(), "");
}

TEST(Options, StayAggregatesWithDesignatedInitialisers) {
  static_assert(std::is_aggregate_v<Sample>);
  const Sample sample = {.size = 3, .ratio = 0.25};
  EXPECT_EQ(sample.size, 3);
  EXPECT_EQ(sample.inner.depth, 2);
}

TEST(Options, CheckPassesTheDefaultsOnceWhatIsRequiredIsGiven) {
  EXPECT_NO_THROW(check(Sample{.size = 1}));
  EXPECT_ERROR_KIND(check(Sample{}), ErrorKind::argument, "Sample: size must be >= 1, got 0");
}

TEST(Options, CheckNamesTheFieldItsRangeAndItsValue) {
  const auto expect = [](auto change, const std::string& message) {
    Sample sample{.size = 1};
    change(sample);
    EXPECT_ERROR_KIND(check(sample), ErrorKind::argument, message);
  };
  expect([](Sample& s) { s.ratio = 1; }, "Sample: ratio must be in [0, 1), got 1");
  expect([](Sample& s) { s.ratio = std::nan(""); }, "Sample: ratio must be in [0, 1), got nan");
  expect([](Sample& s) { s.free = std::nan(""); }, "Sample: free must be a number, got nan");
  expect([](Sample& s) { s.seed = 101; }, "Sample: seed must be <= 100, got 101");
  expect([](Sample& s) { s.mode = "medium"; }, "Sample: mode must be one of fast, exact, got medium");
  expect([](Sample& s) { s.colour = static_cast<Colour>(9); }, "Sample: colour must be one of red, green, got 9");
  expect([](Sample& s) { s.sizes = {4, 0}; }, "Sample: sizes[1] must be >= 1, got 0");
  expect([](Sample& s) { s.betas[1] = 2; }, "Sample: betas[1] must be in [0, 1), got 2");
  expect([](Sample& s) { s.clip = -1; }, "Sample: clip must be > 0, got -1");
  expect([](Sample& s) { s.inner.depth = -1; }, "Sample: inner.depth must be >= 0, got -1");
  expect([](Sample& s) { s.stages = {Inner{}, Inner{.depth = -2}}; }, "Sample: stages[1].depth must be >= 0, got -2");
  expect([](Sample& s) { s.extra = Inner{.depth = -3}; }, "Sample: extra.depth must be >= 0, got -3");
}

TEST(Options, RulesRunAfterTheRangesAlsoThoseOfNestedStructs) {
  EXPECT_ERROR(check(Sample{.size = 1, .sizes = {1, 2, 3, 4}}), "Sample: at most 3 sizes, got 4");
  EXPECT_ERROR(check(Sample{.size = 0, .sizes = {1, 2, 3, 4}}), "Sample: size must be >= 1, got 0");
  EXPECT_ERROR(check(Sample{.size = 1, .inner = {.depth = 13}}), "Inner: depth must not be 13");
}

TEST(Options, HelpIsATableOfKeysDefaultsAndRanges) {
  const auto text = help<Sample>("model");
  EXPECT_NE(text.find("  model.size            required"), std::string::npos) << text;
  EXPECT_NE(text.find("number of things (integer >= 1)"), std::string::npos) << text;
  EXPECT_NE(text.find("0.75"), std::string::npos) << text;
  EXPECT_NE(text.find("share (number in [0, 1))"), std::string::npos) << text;
  EXPECT_NE(text.find("model.inner.depth"), std::string::npos) << text;
  EXPECT_NE(text.find("model.stages[].depth"), std::string::npos) << text;
  EXPECT_NE(text.find("model.extra.depth"), std::string::npos) << text;
  EXPECT_NE(text.find("(red, green)"), std::string::npos) << text;
  EXPECT_NE(text.find("[0.9, 0.95]"), std::string::npos) << text;
  EXPECT_NE(text.find("(list of 2: number in [0, 1))"), std::string::npos) << text;
  EXPECT_NE(text.find("(number > 0 or null)"), std::string::npos) << text;
  EXPECT_NE(text.find("(fast, exact)"), std::string::npos) << text;
  for (const auto& line : split(trim(text), '\n')) EXPECT_TRUE(trim(line).starts_with("model.")) << line;
}

TEST(Options, JsonHoldsEveryFieldInFull) {
  Sample sample{.size = std::numeric_limits<int64_t>::max(), .name = "a \"b\"\n"};
  sample.free = -std::numeric_limits<double>::infinity();
  sample.stages = {Inner{.depth = 4}};
  const auto json = nlohmann::json::parse(to_json(sample));
  EXPECT_EQ(json.at("size").get<int64_t>(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(json.at("name"), "a \"b\"\n");
  EXPECT_EQ(json.at("free"), "-inf");
  EXPECT_EQ(json.at("colour"), "red");
  EXPECT_EQ(json.at("clip"), nullptr);
  EXPECT_EQ(json.at("flag"), false);
  EXPECT_EQ(json.at("stages").at(0).at("depth"), 4);
  EXPECT_EQ(json.at("inner").at("depth"), 2);
}

// What is written is read back to the same bits, whatever the values.
TEST(Options, YamlRoundTripKeepsEveryBit) {
  Random random(1);
  const auto any_text = [&] {
    static const std::vector<std::string> awkward = {"",     "true", "null", "~",     "1e5",   "- a",      "a: b",
                                                     "#x",   "'q'",  "\"",   "\\",    "a\nb",  "\t",       "[1, 2]",
                                                     "&a",   "*a",   "!t",   "plain", "a/b-c", "\xC3\xA9", "<<",
                                                     "2024", "yes",  "% d",  "@",     "{x}",   " lead",    "trail "};
    return awkward[static_cast<size_t>(random.integer(static_cast<int64_t>(awkward.size())))];
  };
  for (int trial = 0; trial < 300; ++trial) {
    Sample sample{.size = random.integer(1, std::numeric_limits<int64_t>::max())};
    sample.ratio = random.uniform();
    sample.free = random.normal() * std::pow(10, random.uniform(-300, 300));
    sample.big = random();
    sample.flag = random.chance(0.5);
    sample.name = any_text();
    sample.words = {any_text(), any_text()};
    sample.colour = random.chance(0.5) ? Colour::red : Colour::green;
    sample.sizes.assign(static_cast<size_t>(random.integer(4)), random.integer(1, 9));
    if (random.chance(0.5)) sample.clip = random.uniform(0.1, 3);
    if (random.chance(0.5)) sample.extra = Inner{.depth = random.integer(12)};
    sample.stages.assign(static_cast<size_t>(random.integer(3)), Inner{.depth = random.integer(12)});
    const auto yaml = to_yaml(sample);
    auto config = Config::parse(yaml);
    Sample back;
    config.read("", back);
    config.finish();
    ASSERT_EQ(to_json(back), to_json(sample)) << yaml;
    ASSERT_EQ(std::memcmp(&back.free, &sample.free, sizeof(double)), 0);
  }
}

struct BadKey {
  int64_t x = 0;
  static Fields<BadKey> fields() { return Fields<BadKey>("BadKey").add("The X", &BadKey::x, ""); }
};
struct TwiceKey {
  int64_t x = 0, y = 0;
  static Fields<TwiceKey> fields() {
    return Fields<TwiceKey>("TwiceKey").add("x", &TwiceKey::x, "").add("x", &TwiceKey::y, "");
  }
};

TEST(Options, AKeyIsAWordAndOccursOnce) {
  EXPECT_ERROR(check(BadKey{}), "BadKey: a key must be of a-z, 0-9 and _, got \"The X\"");
  EXPECT_ERROR(check(TwiceKey{}), "TwiceKey: key x is there twice");
}

TEST(Options, EnumNamesServeMessages) {
  EXPECT_STREQ(enum_name(Colour::green), "green");
  EXPECT_STREQ(enum_name(static_cast<Colour>(7)), "?");
}

}  // namespace
}  // namespace winnow

#include "winnow/core/text.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "winnow/core/random.h"

namespace winnow {
namespace {

// The definition by recursion, for short words.
int64_t slow_distance(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return static_cast<int64_t>(a.size() + b.size());
  auto best = std::min(slow_distance(a.substr(1), b), slow_distance(a, b.substr(1))) + 1;
  best = std::min(best, slow_distance(a.substr(1), b.substr(1)) + (a[0] == b[0] ? 0 : 1));
  if (a.size() > 1 && b.size() > 1 && a[0] == b[1] && a[1] == b[0]) {
    best = std::min(best, slow_distance(a.substr(2), b.substr(2)) + 1);
  }
  return best;
}

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("depth", ""), 5);
  EXPECT_EQ(edit_distance("depth", "dept"), 1);
  EXPECT_EQ(edit_distance("dpeth", "depth"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
}

TEST(EditDistance, AgreesWithTheRecursiveDefinitionOnRandomWords) {
  Random random(1);
  for (int trial = 0; trial < 200; ++trial) {
    std::string a, b;
    for (auto i = random.integer(6); i > 0; --i) a += static_cast<char>('a' + random.integer(3));
    for (auto i = random.integer(6); i > 0; --i) b += static_cast<char>('a' + random.integer(3));
    ASSERT_EQ(edit_distance(a, b), slow_distance(a, b)) << a << " " << b;
    ASSERT_EQ(edit_distance(a, b), edit_distance(b, a));
  }
}

TEST(Nearest, FindsTheKeyThatWasMeant) {
  const std::vector<std::string> keys = {"mask_ratio", "warmup_steps", "depth"};
  EXPECT_EQ(nearest("mask_ration", keys), "mask_ratio");
  EXPECT_EQ(nearest("Depth", keys), "depth");
  EXPECT_EQ(nearest("warmup", keys), "warmup_steps");  // a beginning
  EXPECT_EQ(nearest("colour", keys), std::nullopt);
  EXPECT_EQ(nearest("", keys), std::nullopt);
  EXPECT_EQ(did_you_mean("dept", keys), "; did you mean depth?");
  EXPECT_EQ(did_you_mean("colour", keys), "");
}

TEST(Nearest, TakesTheEarlierCandidateOnATie) {
  const std::vector<std::string> keys = {"beta1", "beta2"};
  EXPECT_EQ(nearest("beta3", keys), "beta1");
}

TEST(Human, BytesAndCountsChangeTheirUnitWhereTheDigitsWouldRunOver) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(3 * (int64_t{1} << 29)), "1.5 GiB");
  EXPECT_EQ(human_bytes((int64_t{1} << 20) - 1), "1.0 MiB");
  EXPECT_EQ(human_bytes(std::numeric_limits<int64_t>::max()), "8.0 EiB");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(85'800'000), "85.8 M");
  EXPECT_EQ(human_count(999'960), "1.0 M");
  EXPECT_EQ(human_count(7e9), "7.0 B");
}

TEST(Human, DurationsAreWrittenInTwoUnits) {
  EXPECT_EQ(human_duration(0.84), "0.8 s");
  EXPECT_EQ(human_duration(9.97), "10 s");
  EXPECT_EQ(human_duration(59.6), "1 min 00 s");
  EXPECT_EQ(human_duration(185), "3 min 05 s");
  EXPECT_EQ(human_duration(7620), "2 h 07 min");
  EXPECT_EQ(human_duration(3 * 86400 + 4 * 3600), "3 d 04 h");
  EXPECT_EQ(human_duration(-1), "?");
  EXPECT_EQ(human_duration(std::numeric_limits<double>::quiet_NaN()), "?");
  EXPECT_EQ(human_duration(std::numeric_limits<double>::infinity()), "?");
}

TEST(Utf8, OnlyShortestFormsOfRealCodePointsAreValid) {
  EXPECT_EQ(utf8_length("a"), 1u);
  EXPECT_EQ(utf8_length("\xC3\xA9x"), 2u);
  EXPECT_EQ(utf8_length("\xE2\x82\xAC"), 3u);
  EXPECT_EQ(utf8_length("\xF0\x9F\x98\x80"), 4u);
  EXPECT_EQ(utf8_length(""), 0u);
  for (const char* bad : {"\x80", "\xC0\xAF", "\xC3", "\xC3(", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    EXPECT_EQ(utf8_length(bad), 0u) << printable(bad);
  }
}

TEST(Printable, IsOneLineOfTextThatEndsInDotsWhenCut) {
  EXPECT_EQ(printable("a\nb\tc\rd\x1b[0m"), "a\\nb\\tc\\rd\\x1b[0m");
  EXPECT_EQ(printable("\xFF\xC3\xA9"), "\\xff\xC3\xA9");
  EXPECT_EQ(printable("abcdef", 4), "abcd...");
  EXPECT_EQ(printable("ab\xC3\xA9", 3), "ab...");  // never inside a character
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\x00b");
}

TEST(JsonQuote, EscapesWhatJsonAsksFor) {
  EXPECT_EQ(json_quote("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\n\\u0001\"");
  EXPECT_EQ(json_quote("\xC3\xA9"), "\"\xC3\xA9\"");
  EXPECT_EQ(json_quote("\xFF"), "\"\xEF\xBF\xBD\"");
}

TEST(TextParts, TrimSplitJoin) {
  EXPECT_EQ(trim("  a b\n"), "a b");
  EXPECT_EQ(trim(" \t"), "");
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(split("", ','), (std::vector<std::string>{""}));
  EXPECT_EQ(join(std::vector<int>{1, 2, 3}), "1, 2, 3");
  EXPECT_EQ(join(std::vector<std::string>{}), "");
}

}  // namespace
}  // namespace winnow

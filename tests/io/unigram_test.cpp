#include "winnow/io/unigram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "support/error.h"
#include "winnow/io/charsmap.h"

namespace winnow::testing {
namespace {

using io::Unigram;

std::vector<std::string> texts(const Unigram& model, const std::string& text) {
  std::vector<std::string> parts;
  for (const auto& s : model.encode(text)) {
    parts.push_back(text.substr(static_cast<std::size_t>(s.begin), static_cast<std::size_t>(s.end - s.begin)));
  }
  return parts;
}

TEST(Unigram, TakesTheSegmentationOfTheHighestScore) {
  const Unigram model({{"<unk>", 0, false}, {"a", -1}, {"b", -1.5}, {"ab", -2}, {"abc", -9}, {"c", -3}, {"bc", -3.9}});
  EXPECT_EQ(texts(model, "ab"), (std::vector<std::string>{"ab"}));        // -2 against -2.5
  EXPECT_EQ(texts(model, "abc"), (std::vector<std::string>{"a", "bc"}));  // -4.9 against -5 and -9
  EXPECT_EQ(texts(model, "cab"), (std::vector<std::string>{"c", "ab"}));
  EXPECT_TRUE(model.encode("").empty());
}

TEST(Unigram, IsNeverWorseThanAnyOtherSegmentation) {
  std::mt19937 random(3);  // NOLINT: the same texts each time
  const std::vector<io::UnigramPiece> pieces = {{"?", 0, false}, {"a", -2.1},  {"b", -1.7},   {"ab", -3.1},
                                                {"ba", -2.9},    {"aa", -4.3}, {"aba", -4.4}, {"bbab", -5.2}};
  const Unigram model(pieces);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (int i = 0; i < 10; ++i) text += random() % 2 == 0 ? 'a' : 'b';
    // Every way to cut the text, by its 9 inner places.
    double best = -1e9;
    for (unsigned cuts = 0; cuts < 512; ++cuts) {
      double sum = 0;
      std::string part;
      for (std::size_t i = 0; i < text.size(); ++i) {
        part += text[i];
        if (i + 1 < text.size() && ((cuts >> i) & 1) == 0) continue;
        double score = -1e9;
        for (const auto& piece : pieces) {
          if (piece.selectable && piece.text == part) score = piece.score;
        }
        sum += score;
        part.clear();
      }
      best = std::max(best, sum);
    }
    double got = 0;
    for (const auto& s : model.encode(text)) got += pieces[static_cast<std::size_t>(s.id)].score;
    EXPECT_NEAR(got, best, 1e-9) << text;
  }
}

TEST(Unigram, UnknownCharactersAreOneSegmentEachAndCanBeJoined) {
  const Unigram model({{"<unk>", 0, false}, {"a", -1}});
  const auto segments = model.encode("a\xe6\xb0\xb4?a");
  ASSERT_EQ(segments.size(), 4U);
  EXPECT_EQ(segments[1].id, 0);
  EXPECT_EQ(segments[1].end - segments[1].begin, 3);
  const auto fused = io::fuse_unknown(segments, 0);
  ASSERT_EQ(fused.size(), 3U);
  EXPECT_EQ(fused[1].end - fused[1].begin, 4);
}

TEST(Unigram, WrongPiecesAreNamed) {
  EXPECT_ERROR(Unigram({{"a", -1}}, {.unk = 1}), "Unigram: unk must be in [-1, 1), got 1");
  EXPECT_ERROR(Unigram({{"a", std::nan("")}}), "Unigram: the score of \"a\" must be finite");
  EXPECT_ERROR((void)Unigram({{"a", -1}}, {.unk = -1}).encode("ab"),
               "Unigram: no piece for \"b\" and no unknown piece");
}

// A map with the one rule "a" -> "xy", by hand: a double array with offset 0 at the root, label 'a' at place 97, whose
// leaf stands at place 97 ^ offset.
std::vector<uint8_t> one_rule() {
  std::vector<uint32_t> units(128, 0x80000000);
  units[0] = 0;                              // offset 0: the child of byte c stands at c
  units[97] = 97U | (1U << 8) | (1U << 10);  // label, has a leaf, offset 1: the leaf stands at 96
  units[96] = 0x80000000;                    // value 0: the replacement begins at byte 0
  std::vector<uint8_t> bytes = {0, 2, 0, 0};
  const auto* raw = reinterpret_cast<const uint8_t*>(units.data());
  bytes.insert(bytes.end(), raw, raw + 512);
  for (const char c : {'x', 'y', '\0'}) bytes.push_back(static_cast<uint8_t>(c));
  return bytes;
}

TEST(Charsmap, FindsTheRuleThatATextBeginsWith) {
  const io::Charsmap map(one_rule());
  ASSERT_TRUE(map.longest("ab").has_value());
  EXPECT_EQ(map.longest("ab")->replacement, "xy");
  EXPECT_EQ(map.longest("ab")->length, 1U);
  EXPECT_FALSE(map.longest("b").has_value());
  EXPECT_FALSE(map.longest("\xff").has_value());
  std::string result;
  for (const auto& piece : io::apply_precompiled(map,
                                                 "ab\xe6\xb0\xb4"
                                                 "a"))
    result += piece.replacement;
  EXPECT_EQ(result, "xyb\xe6\xb0\xb4xy");
}

TEST(Charsmap, DamageIsNamedOrHarmless) {
  const auto whole = one_rule();
  EXPECT_ERROR(io::Charsmap({}, "m"), "m: a character map of 0 bytes is too short");
  EXPECT_ERROR(io::Charsmap(io::Bytes(whole).first(100), "m"), "m: the character map is damaged");
  EXPECT_ERROR(io::Charsmap(io::Bytes(whole).first(whole.size() - 1), "m"), "its last replacement has no end");
  std::mt19937 random(5);  // NOLINT: the same damage each time
  for (int round = 0; round < 300; ++round) {
    auto bytes = whole;
    for (int i = 0; i < 20; ++i) bytes[4 + random() % 512] = static_cast<uint8_t>(random());
    const io::Charsmap map(bytes);
    for (const auto* text : {"aaa", "abc", "\xe6\xb0\xb4", "zzzzzz"}) {
      if (const auto rule = map.longest(text)) EXPECT_LE(rule->length, 6U);
    }
  }
}

}  // namespace
}  // namespace winnow::testing

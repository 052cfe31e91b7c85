#include "../../src/io/unicode.h"

#include <gtest/gtest.h>

#include <random>

#include "../../src/io/normalizer.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

using unicode::Trait;

std::string normal(std::string_view text, bool compatibility, bool composed) {
  AlignedText aligned(text, 0, /*track=*/true);
  normal_form(aligned, compatibility, composed);
  EXPECT_EQ(aligned.from.size(), aligned.text.size());
  return aligned.text;
}

TEST(Unicode, CategoriesKnowCharactersOfUnicode16) {
  EXPECT_NE(unicode::category_bit('a') & unicode::kLetter, 0u);
  EXPECT_NE(unicode::category_bit(0x31350) & unicode::kLetter, 0u);  // an ideograph of Unicode 15
  EXPECT_NE(unicode::category_bit(0x1CCF0) & unicode::kNumber, 0u);  // a digit of Unicode 16
  EXPECT_EQ(unicode::category_bit(0x110000), 1u);                    // past the end: unassigned
  EXPECT_EQ(unicode::category_bit(0xE000), unicode::bit(unicode::Category::co));
}

TEST(Unicode, BlanksAreTheWhiteSpaceCharacters) {
  for (const uint32_t c : {0x9u, 0xDu, 0x20u, 0x85u, 0xA0u, 0x1680u, 0x2028u, 0x202Fu, 0x3000u})
    EXPECT_TRUE(unicode::is_space(c)) << c;
  for (const uint32_t c : {0x8u, 0xEu, 0x180Eu, 0x200Bu, 0x2060u, 0xFEFFu}) EXPECT_FALSE(unicode::is_space(c)) << c;
}

TEST(Unicode, BertsTablesAreOlder) {
  EXPECT_TRUE(unicode::has('$', Trait::bert_punctuation));
  EXPECT_FALSE(unicode::has(0x2E52, Trait::bert_punctuation));  // punctuation since Unicode 14
  EXPECT_TRUE(unicode::has(0x301, Trait::bert_mark));
  EXPECT_FALSE(unicode::has(0x1DF6, Trait::bert_mark));  // a mark since Unicode 10
  EXPECT_TRUE(unicode::has(0xFFFD, Trait::bert_control));
  EXPECT_FALSE(unicode::has('\n', Trait::bert_control));
}

TEST(Unicode, NormalForms) {
  EXPECT_EQ(normal("e\u0301", false, true), "\u00e9");
  EXPECT_EQ(normal("\u00e9", false, false), "e\u0301");
  EXPECT_EQ(normal("\ud55c", false, false), "\u1112\u1161\u11ab");
  EXPECT_EQ(normal("\u1112\u1161\u11ab", false, true), "\ud55c");
  EXPECT_EQ(normal("a\u0301\u0323", false, false), "a\u0323\u0301");  // below before above
  EXPECT_EQ(normal("a\u0301\u0323", false, true), "\u1ea1\u0301");
  EXPECT_EQ(normal("\u212b", false, true), "\u00c5");
  EXPECT_EQ(normal("\ufb01", false, true), "\ufb01");
  EXPECT_EQ(normal("\ufb01\u2460\uff21", true, true), "fi1A");
  EXPECT_EQ(normal("\u0958", false, true), "\u0915\u093c");  // never composed
}

TEST(Unicode, AComposedCharacterStandsForItsFirst) {
  AlignedText text("xe\u0301y", 0, /*track=*/true);
  normal_form(text, false, true);
  const std::vector<ByteRange> wanted = {{0, 1}, {1, 2}, {1, 2}, {4, 5}};
  EXPECT_EQ(text.from, wanted);
}

// A plain reading of the standard's table 3-7, a byte at a time.
TEST(Unicode, EachMaximalPartOfBrokenUtf8BecomesOneReplacement) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(unicode::repair("a\x80z"), "a" + r + "z");
  EXPECT_EQ(unicode::repair("\xE2\x82"), r);
  EXPECT_EQ(unicode::repair("\xE2\x82\x41"), r + "A");
  EXPECT_EQ(unicode::repair("\xC0\xAF"), r + r);
  EXPECT_EQ(unicode::repair("\xED\xA0\x80"), r + r + r);
  EXPECT_EQ(unicode::repair("\xF0\x9F\x98"), r);
  EXPECT_EQ(unicode::repair("\xF5\x80"), r + r);
  EXPECT_EQ(unicode::repair("\xF0\x80\x80\x41"), r + r + r + "A");
  EXPECT_EQ(unicode::find_invalid(std::string(200, 'a') + "\xFF"), 200u);
}

TEST(Unicode, ATailThatMayBecomeACharacterIsKept) {
  EXPECT_EQ(unicode::incomplete_tail("a\xE2\x82"), 2u);
  EXPECT_EQ(unicode::incomplete_tail("a\xF0\x9F\x98"), 3u);
  EXPECT_EQ(unicode::incomplete_tail("\xC3"), 1u);
  EXPECT_EQ(unicode::incomplete_tail("\u00e9"), 0u);
  EXPECT_EQ(unicode::incomplete_tail("\xE2\x41"), 0u);
  EXPECT_EQ(unicode::incomplete_tail("\xED\xA0"), 0u);  // begins a surrogate: no character
  EXPECT_EQ(unicode::incomplete_tail("\x80"), 0u);
  EXPECT_EQ(unicode::incomplete_tail(""), 0u);
}

TEST(Unicode, RepairedTextIsUtf8WhateverTheBytes) {
  std::mt19937 random(3);
  constexpr std::string_view kBytes = "a\x80\xBF\xC2\xC3\xE0\xE2\xED\xEF\xF0\xF4\xF5\xFF\x9F\x90\xA0";
  for (int i = 0; i < 3000; ++i) {
    std::string bytes;
    for (auto left = random() % 12; left > 0; --left) bytes += kBytes[random() % kBytes.size()];
    const auto repaired = unicode::repair(bytes);
    EXPECT_EQ(unicode::find_invalid(repaired), std::string::npos);
    // Cutting off the tail that may be completed and repairing the rest is a beginning of the whole's repair.
    const auto tail = unicode::incomplete_tail(bytes);
    EXPECT_TRUE(repaired.starts_with(unicode::repair(bytes.substr(0, bytes.size() - tail))));
  }
}

}  // namespace
}  // namespace winnow::io

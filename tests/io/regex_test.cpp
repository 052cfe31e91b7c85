// Patterns against matches worked out by hand; the hand-written matchers of known patterns against the general one.
#include "../../src/io/regex.h"

#include <gtest/gtest.h>

#include <random>

#include "../../src/io/split_pattern.h"
#include "support/error.h"

namespace winnow::io {
namespace {

// All matches from left to right, joined by |.
std::string matches(const std::string& pattern, const std::string& text, const RegexOptions& options = {}) {
  const Regex regex(pattern, options);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto match = regex.find(text, at);
    if (!match) break;
    out += (out.empty() ? "" : "|") + text.substr(match->begin, match->end - match->begin);
    at = match->end > match->begin ? match->end : match->end + 1;
  }
  return out;
}

TEST(Regex, LettersNumbersAndBlanksAreTheUnicodeClasses) {
  EXPECT_EQ(matches(R"(\p{L}+)", "añЯ中1·b"), "añЯ中|b");
  EXPECT_EQ(matches(R"(\p{N}+)", "a12½٣Ⅷb"), "12½٣Ⅷ");
  EXPECT_EQ(matches(R"([^\s\p{L}\p{N}]+)", "a+-\u3000!?b"), "+-|!?");
  EXPECT_EQ(matches(R"(\S+)", "a\u00a0b\u200bc\u2028d"), "a|b\u200bc|d");
  EXPECT_EQ(matches(R"(\P{L}+|\p{^N})", "ab12"), "a|b|12");
  EXPECT_EQ(matches(R"(\p{Lu}\p{Ll}*)", "HelloWorld"), "Hello|World");
  EXPECT_EQ(matches(R"(\p{Han}+)", "漢字kana かな"), "漢字");
}

TEST(Regex, RepetitionIsGreedyLazyOrPossessive) {
  EXPECT_EQ(matches("a+", "aaab"), "aaa");
  EXPECT_EQ(matches("a+?b?", "aab"), "a|ab");
  EXPECT_EQ(matches("a{2}", "aaaaa"), "aa|aa");
  EXPECT_EQ(matches("a{2,3}", "aaaaa"), "aaa|aa");
  EXPECT_EQ(matches("a{,2}b", "aaab"), "aab");
  EXPECT_EQ(matches("a++a", "aaa"), "");
  EXPECT_EQ(matches("(?:ab)+c", "ababcab"), "ababc");
  EXPECT_EQ(matches("(?:a|ab)(?:c|bcd)", "abcd"), "abcd");
  EXPECT_EQ(matches("a{x", "a{x"), "a{x");
}

TEST(Regex, APossessiveIntervalIsReadAsItsSyntaxSays) {
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "12345678"), "12345678");
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "12345678", {.possessive_interval = true}), "123|456|78");
}

TEST(Regex, LookingAroundTakesNothing) {
  EXPECT_EQ(matches(R"(\s+(?!\S)|\s+)", "   a"), "  | ");
  EXPECT_EQ(matches(R"(\d(?=a))", "1b2a"), "2");
  EXPECT_EQ(matches(R"((?<=a)b)", "bab"), "b");
  EXPECT_EQ(matches(R"((?<!a)b)", "bab"), "b");
  EXPECT_EQ(matches(R"((?>a*)b|a)", "aab"), "aab");
}

TEST(Regex, CaseIsIgnoredWhereAsked) {
  EXPECT_EQ(matches("(?i:'s|'ll)", "'S'Ll's"), "'S|'Ll|'s");
  EXPECT_EQ(matches("a(?i)b", "aBAB"), "aB");
  EXPECT_EQ(matches("(?i)ä", "Äa"), "Ä");
  EXPECT_EQ(matches("(?i:'s)", "'\u017f"), "'\u017f");  // long s
  EXPECT_EQ(matches("(?i:[a-c]+)d", "AbCD"), "");
}

TEST(Regex, ClassesNestIntersectAndNegate) {
  EXPECT_EQ(matches("[a-e&&[^b-d]]+", "abcde"), "a|e");
  EXPECT_EQ(matches("[x[0-3]]+", "x123x45"), "x123x");
  EXPECT_EQ(matches(R"([^\r\n]+)", "a\r\nb"), "a|b");
  EXPECT_EQ(matches("[]a]+", "]a"), "]a");
  EXPECT_EQ(matches(R"([\]\-a]+)", "]-a"), "]-a");
  EXPECT_EQ(matches("[[:space:]x]+", "a x b c"), " x | ");
}

TEST(Regex, AnchorsAndEdges) {
  EXPECT_EQ(matches("^a", "a\na"), "a|a");
  EXPECT_EQ(matches(R"(\Aa)", "a\na"), "a");
  EXPECT_EQ(matches("a$", "a\nab"), "a");
  EXPECT_EQ(matches(R"(\bab\b)", "abc ab"), "ab");
  EXPECT_EQ(matches(R"(a\Z)", "a\n"), "a");
}

TEST(Regex, WhatIsNotSupportedOrMalformedIsNamed) {
  EXPECT_ERROR_KIND(Regex(R"((a)\1)"), ErrorKind::unsupported, R"(pattern "(a)\\1" has \1, which is not supported)");
  EXPECT_ERROR_KIND(Regex(R"(\p{Klingon})"), ErrorKind::unsupported, "has \\p{klingon}, which is not supported");
  EXPECT_ERROR_KIND(Regex("(?:a*)*"), ErrorKind::unsupported, "repeats without limit what may be empty");
  EXPECT_ERROR_KIND(Regex("(?<=a+)b"), ErrorKind::unsupported, "looks behind for something of no fixed length");
  EXPECT_ERROR_KIND(Regex("(a"), ErrorKind::argument, "has a ( without a )");
  EXPECT_ERROR_KIND(Regex("a)"), ErrorKind::argument, "has a ) without a (");
  EXPECT_ERROR_KIND(Regex("[a"), ErrorKind::argument, "has a [ without a ]");
  EXPECT_ERROR_KIND(Regex("*a"), ErrorKind::argument, "repeats nothing");
  EXPECT_ERROR_KIND(Regex("[b-a]"), ErrorKind::argument, "has a range whose end is below its beginning");
  EXPECT_ERROR_KIND(Regex("a{3,2}"), ErrorKind::argument, "has a count whose end is below its beginning");
  EXPECT_ERROR_KIND(Regex("\\"), ErrorKind::argument, "ends inside an escape");
  EXPECT_ERROR_KIND(Regex("a{1,1001}"), ErrorKind::unsupported, "a count above 1000");
  EXPECT_ERROR_KIND(Regex("(?:(?:a{1,1000}){1000}b){1000}"), ErrorKind::unsupported, "is larger than");
}

TEST(Regex, APatternThatNeverEndsIsStopped) {
  const Regex regex("(?:a|a|b)+c");
  EXPECT_ERROR_KIND(std::ignore = regex.find(std::string(60, 'a'), 0), ErrorKind::unsupported, "takes more than");
}

TEST(Regex, AQuotedTextMatchesItself) {
  const std::string text = R"(a.b*[c](d)\{e}^$|+?-#)";
  EXPECT_EQ(matches(regex_quote(text), "x" + text), text);
}

// Random texts out of what the patterns tell apart.
std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> kParts = {
      "a",  "Z",       "the",  "ñ",      "中",     "한",     "\u0301", "1",      "23",     "٣",   "½",   " ",     "  ",
      "\t", "\n",      "\r\n", "\u00a0", "\u3000", "\u2028", "'",      "'s",     "'T",     "'re", "'VE", "'ll",   "'lL",
      "'d", "'\u017f", "!",    "?!",     "-",      "_",      "😀",     "\u200d", "\u200b", "/",   "(",   "\u0085"};
  std::string text;
  for (auto left = random() % 24; left > 0; --left) text += kParts[random() % kParts.size()];
  return text;
}

TEST(SplitPattern, TheHandWrittenMatchersAreTheGeneralMatcher) {
  const std::string tail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string head = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  std::mt19937 random(7);
  for (const auto& pattern : {std::string(kGpt2Pattern), head + R"(\p{N}{1,3})" + tail, head + R"(\p{N})" + tail}) {
    const SplitPattern known(pattern), general(pattern, /*use_known=*/false);
    ASSERT_NE(known.known(), SplitPattern::Known::none) << pattern;
    ASSERT_EQ(general.known(), SplitPattern::Known::none);
    for (int i = 0; i < 4000; ++i) {
      const auto text = random_text(random);
      for (size_t at = 0; at < text.size();) {
        const auto a = known.find(text, at), b = general.find(text, at);
        ASSERT_TRUE(a && b) << text;
        ASSERT_EQ(std::pair(a->begin, a->end), std::pair(b->begin, b->end))
            << pattern << " on " << text << " at " << at;
        at = a->end;
      }
    }
  }
}

}  // namespace
}  // namespace winnow::io

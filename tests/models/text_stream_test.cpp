#include "winnow/models/text_stream.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "scripted_lm.h"
#include "support/error.h"
#include "winnow/core/random.h"
#include "winnow/models/generation.h"

namespace winnow::models {
namespace {

using testing::bytes_of;
using testing::ByteTokenizer;

TEST(StopMatcher, TextIsShownAsSoonAsNoStopStringCanBeginInIt) {
  StopMatcher matcher({"\nUser:", "END"});
  EXPECT_EQ(matcher.push("Hello E"), "Hello ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("T\nUs"), "ENT");
  EXPECT_EQ(matcher.push("es\n"), "\nUses");
  EXPECT_EQ(matcher.push("User: more"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.push("anything"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, TheStopStringThatIsCompleteFirstCounts) {
  StopMatcher matcher({"cd", "bc", "abcdef"});
  EXPECT_EQ(matcher.push("abcdef"), "a");
  EXPECT_TRUE(matcher.matched());
  StopMatcher open({"xyz"});
  EXPECT_EQ(open.push("an xy"), "an ");
  EXPECT_EQ(open.finish(), "xy");
  EXPECT_FALSE(open.matched());
  EXPECT_ERROR(StopMatcher({"a", ""}), "stop_strings must not hold an empty string");
}

// However a text is cut into pieces, what is shown is the text before the stop string, and at no time a part of
// one that is then completed.
TEST(StopMatcher, RandomCutsShowTheSame) {
  Random random(1);
  for (int trial = 0; trial < 3000; ++trial) {
    const auto word = [&](int64_t least, int64_t most) {
      std::string text;
      for (auto n = random.integer(least, most); n > 0; --n) text += static_cast<char>('a' + random.integer(2));
      return text;
    };
    const std::vector<std::string> stops{word(2, 5), word(2, 5)};
    const auto text = word(0, 24);
    // The stop string that is complete first, found by trying every end.
    auto end = std::string::npos;
    for (size_t last = 0; last <= text.size() && end == std::string::npos; ++last) {
      for (const auto& stop : stops) {
        if (text.substr(0, last).ends_with(stop)) end = std::min(end, last - stop.size());
      }
    }
    StopMatcher matcher(stops);
    std::string shown;
    for (size_t at = 0; at < text.size() && !matcher.matched();) {
      const auto size = static_cast<size_t>(random.integer(1, 4));
      shown += matcher.push(std::string_view(text).substr(at, size));
      at += size;
      ASSERT_EQ(shown, text.substr(0, shown.size()));
    }
    shown += matcher.finish();
    EXPECT_EQ(matcher.matched(), end != std::string::npos);
    EXPECT_EQ(shown, text.substr(0, end)) << text << " / " << stops[0] << " / " << stops[1];
  }
}

TEST(TextStream, CharactersComeWhole) {
  TextStream stream(std::make_shared<ByteTokenizer>(), {}, bytes_of("a prompt"));
  std::vector<std::string> pieces;
  for (const auto byte : bytes_of("h\xC3\xA9\xE2\x82\xAC!")) pieces.push_back(stream.push(byte));
  EXPECT_EQ(pieces, (std::vector<std::string>{"h", "", "\xC3\xA9", "", "", "\xE2\x82\xAC", "!"}));
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.text(), "h\xC3\xA9\xE2\x82\xAC!");
}

// The pieces of a generation: events as they came.
struct Streamed {
  std::string text;
  std::vector<std::string> pieces;
  GeneratedSequence sequence;
};

Streamed stream(const std::vector<int64_t>& answer, GenerationOptions options, std::vector<std::string> vocabulary) {
  options.tokenizer = std::make_shared<ByteTokenizer>(std::move(vocabulary));
  auto model = testing::says(answer, 2, options.tokenizer->vocab_size());
  Streamed result;
  const auto output = generate(model, {.prompts = {bytes_of("Q:")}}, options, [&](const TokenEvent& event) {
    result.text += event.text;
    result.pieces.push_back(event.text);
    return true;
  });
  result.sequence = output.rows[0][0];
  return result;
}

TEST(GenerationText, AStopStringAcrossTokensEndsTheTextBeforeIt) {
  // "Yes. " "\nUs" "er: no": the stop string begins inside the second token and ends inside the third.
  const auto streamed = stream({256, 257, 258, 259}, {.max_new_tokens = 10, .stop_strings = {"\nUser:"}},
                               {"Yes. ", " so\nUs", "er: no", "never"});
  EXPECT_EQ(streamed.text, "Yes.  so");
  EXPECT_EQ(streamed.pieces, (std::vector<std::string>{"Yes. ", " so", ""}));
  EXPECT_EQ(streamed.sequence.text, streamed.text);
  EXPECT_EQ(streamed.sequence.finish, Finish::stop);
  EXPECT_EQ(streamed.sequence.tokens, (std::vector<int64_t>{256, 257, 258}));
}

TEST(GenerationText, HeldTextComesWithTheLastEvent) {
  const auto streamed = stream({256, 257}, {.max_new_tokens = 2, .stop_strings = {"\nUser:"}}, {"Yes", "\nUs"});
  EXPECT_EQ(streamed.pieces, (std::vector<std::string>{"Yes", "\nUs"}));
  EXPECT_EQ(streamed.sequence.finish, Finish::length);
  EXPECT_EQ(streamed.sequence.text, "Yes\nUs");
}

TEST(GenerationText, AnEndTokenEndsTheStream) {
  auto answer = bytes_of("ok");
  answer.push_back(0);
  const auto streamed = stream(answer, {.max_new_tokens = 9, .eos = {0}}, {});
  EXPECT_EQ(streamed.sequence.finish, Finish::eos);
  EXPECT_EQ(streamed.sequence.tokens, answer);
}

TEST(GenerationText, TheCallbackCanEndASequence) {
  auto model = testing::says(bytes_of("abcdefgh"), 2, 256);
  GenerationOptions options{.max_new_tokens = 8, .tokenizer = std::make_shared<ByteTokenizer>()};
  int64_t events = 0;
  const auto output = generate(model, {.prompts = {{1, 2}, {3, 4}}}, options, [&](const TokenEvent& event) {
    ++events;
    EXPECT_EQ(event.finish.has_value(), event.row == 1 && event.token == 'h');
    return event.row == 1 || event.token != 'c';
  });
  EXPECT_EQ(output.rows[0][0].text, "abc");
  EXPECT_EQ(output.rows[0][0].finish, Finish::callback);
  EXPECT_EQ(output.rows[1][0].text, "abcdefgh");
  EXPECT_EQ(events, 3 + 8);
}

TEST(GenerationText, TextInTextOut) {
  auto model = testing::says(bytes_of(" Paris."), 6, 256);
  const auto tokenizer = std::make_shared<ByteTokenizer>();
  const auto answer = generate_text(model, "France", {.max_new_tokens = 7, .tokenizer = tokenizer});
  EXPECT_EQ(answer.text, " Paris.");
  EXPECT_ERROR(generate_text(model, "France", {}), "generate_text: options.tokenizer must be given");
  EXPECT_ERROR(generate_text(model, "", {.max_new_tokens = 7, .tokenizer = tokenizer}),
               "generate: prompt 0 must hold at least one token");
}

TEST(GenerationText, TimeEndsASequence) {
  auto model = testing::says({}, 1, 16);
  const auto output = generate(model, {.prompts = {{1}}}, {.max_new_tokens = 500, .max_seconds = 0.0});
  EXPECT_EQ(output.rows[0][0].tokens.size(), 1U);
  EXPECT_EQ(output.rows[0][0].finish, Finish::callback);
}

}  // namespace
}  // namespace winnow::models

#include "winnow/core/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/sample_options.h"
#include "support/error.h"
#include "winnow/core/random.h"

namespace winnow {
namespace {

using testing::Colour;
using testing::Sample;

// Reads the text into Sample from the top level and checks that nothing is left over.
Sample read_all(const std::string& text) {
  auto config = Config::parse(text, "a.yaml");
  auto sample = config.read<Sample>("");
  config.finish();
  return sample;
}

void expect_config_error(const std::string& text, const std::string& message) {
  try {
    read_all(text);
    ADD_FAILURE() << "no error for: " << text;
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()), message) << text;
    EXPECT_EQ(e.kind(), ErrorKind::config) << text;
  }
}

void expect_usage_error(Config& config, const std::string& message) {
  try {
    config.read<Sample>("m");
    config.finish();
    ADD_FAILURE() << "no error, wanted: " << message;
  } catch (const UsageError& e) {
    EXPECT_EQ(std::string(e.what()), message);
  }
}

TEST(ConfigTest, ReadsEveryTypeOfField) {
  const auto sample = read_all(R"(
size: 1_000
ratio: 5.0e-1
free: -.inf
seed: 0
big: 18446744073709551615
flag: true
name: 12
mode: 'exact'
words: [a, "b c", 3]
colour: green
sizes:
  - 1
  - 2
betas: [0, 0.5]
clip: 1
inner:
  depth: 5
extra: {depth: 6}
stages: [{depth: 1}, {}]
)");
  EXPECT_EQ(sample.size, 1000);
  EXPECT_EQ(sample.ratio, 0.5);
  EXPECT_EQ(sample.free, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(sample.big, std::numeric_limits<uint64_t>::max());
  EXPECT_TRUE(sample.flag);
  EXPECT_EQ(sample.name, "12");
  EXPECT_EQ(sample.mode, "exact");
  EXPECT_EQ(sample.words, (std::vector<std::string>{"a", "b c", "3"}));
  EXPECT_EQ(sample.colour, Colour::green);
  EXPECT_EQ(sample.sizes, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(sample.betas, (std::array<double, 2>{0, 0.5}));
  EXPECT_EQ(sample.clip, 1.0);
  EXPECT_EQ(sample.inner.depth, 5);
  EXPECT_EQ(sample.extra.value().depth, 6);
  ASSERT_EQ(sample.stages.size(), 2u);
  EXPECT_EQ(sample.stages[1].depth, 2);
}

TEST(ConfigTest, WhatIsAbsentKeepsItsValue) {
  auto config = Config::parse("m: {ratio: 0.5}");
  Sample sample{.size = 9, .name = "kept"};
  sample.clip = 2;
  config.read("m", sample);
  EXPECT_EQ(sample.size, 9);
  EXPECT_EQ(sample.ratio, 0.5);
  EXPECT_EQ(sample.name, "kept");
  EXPECT_EQ(sample.clip, 2.0);
  auto cleared = Config::parse("clip: null\ninner:");
  cleared.read("", sample);
  EXPECT_EQ(sample.clip, std::nullopt);
}

TEST(ConfigTest, AWrongTypeNamesWhatWasWantedAndWhatCame) {
  expect_config_error("size: twelve", "a.yaml:1: size must be an integer, got \"twelve\"");
  expect_config_error("\nsize: 1.5", "a.yaml:2: size must be an integer, got \"1.5\"");
  expect_config_error("size: '12'", "a.yaml:1: size must be an integer, got \"12\" in quotes");
  expect_config_error("size: 1__2", "a.yaml:1: size must be an integer, got \"1__2\"");
  expect_config_error("size: 9223372036854775808", "a.yaml:1: size must be an integer, got \"9223372036854775808\"");
  expect_config_error("size: [1]", "a.yaml:1: size must be an integer, got a list of 1");
  expect_config_error("size:", "a.yaml:1: size must be an integer, got null");
  expect_config_error("size: 1\nbig: -1", "a.yaml:2: big must be an integer >= 0, got \"-1\"");
  expect_config_error("size: 1\nratio: half", "a.yaml:2: ratio must be a number, got \"half\"");
  expect_config_error("size: 1\nratio: 0x1p3", "a.yaml:2: ratio must be a number, got \"0x1p3\"");
  expect_config_error("size: 1\nratio: 1e999", "a.yaml:2: ratio must be a number, got \"1e999\"");
  expect_config_error("size: 1\nflag: yes", "a.yaml:2: flag must be true or false, got \"yes\"");
  expect_config_error("size: 1\nname: {a: 1}", "a.yaml:2: name must be text, got a mapping");
  expect_config_error("size: 1\nsizes: 3", "a.yaml:2: sizes must be a list, got \"3\"");
  expect_config_error("size: 1\nsizes: [1, x]", "a.yaml:2: sizes[1] must be an integer, got \"x\"");
  expect_config_error("size: 1\nbetas: [0.9]", "a.yaml:2: betas must be a list of 2, got a list of 1");
  expect_config_error("size: 1\ninner: 3", "a.yaml:2: inner must be a mapping (key: value), got \"3\"");
  expect_config_error("size: 1\ncolour: gren",
                      "a.yaml:2: colour must be one of red, green, got \"gren\"; did you mean green?");
}

TEST(ConfigTest, AValueOutOfRangeNamesTheRange) {
  expect_config_error("size: 0", "a.yaml:1: size must be >= 1, got 0");
  expect_config_error("size: 1\nratio: 1.5", "a.yaml:2: ratio must be in [0, 1), got 1.5");
  expect_config_error("size: 1\nfree: .nan", "a.yaml:2: free must be a number, got nan");
  expect_config_error("size: 1\nclip: 0", "a.yaml:2: clip must be > 0, got 0");
  expect_config_error("size: 1\nsizes:\n  - 4\n  - 0", "a.yaml:4: sizes[1] must be >= 1, got 0");
  expect_config_error("size: 1\nstages:\n  - depth: 1\n  - depth: -1",
                      "a.yaml:4: stages[1].depth must be >= 0, got -1");
  expect_config_error("size: 1\nmode: fats", "a.yaml:2: mode must be one of fast, exact, got fats; did you mean fast?");
}

TEST(ConfigTest, ABrokenRuleNamesTheSection) {
  expect_config_error("size: 1\nsizes: [1, 1, 1, 1]", "a.yaml:1: Sample: at most 3 sizes, got 4");
  expect_config_error("size: 1\ninner:\n  depth: 13", "a.yaml:2: inner: Inner: depth must not be 13");
}

TEST(ConfigTest, AnUnknownKeyNamesTheNearestValidOne) {
  expect_config_error("size: 1\nration: 0.5", "a.yaml:2: ration: unknown key; did you mean ratio?");
  expect_config_error("size: 1\ninner:\n  deepth: 3", "a.yaml:3: inner.deepth: unknown key; did you mean inner.depth?");
  expect_config_error("size: 1\ninner:\n  width: 3", "a.yaml:3: inner.width: unknown key; known here: depth");
  expect_config_error("size: 1\nstages: [{}, {dept: 3}]",
                      "a.yaml:2: stages[1].dept: unknown key; did you mean stages[1].depth?");
  expect_config_error("size: 1\nzzz: 3", "a.yaml:2: zzz: unknown key");
}

TEST(ConfigTest, AMissingKeyIsNamedTogetherWithItsMisspelling) {
  expect_config_error("ratio: 0.5", "a.yaml:1: size must be given (integer >= 1)");
  expect_config_error("sise: 4", "a.yaml:1: size must be given (integer >= 1); is it meant by sise?");
  auto config = Config::parse("other: 1", "a.yaml");
  EXPECT_ERROR_KIND(config.read<Sample>("m"), ErrorKind::config, "a.yaml: m.size must be given (integer >= 1)");
}

TEST(ConfigTest, AnUnknownSectionIsAnUnknownKey) {
  auto config = Config::parse("modle:\n  size: 1\n", "a.yaml");
  Sample sample{.size = 1};
  config.read("model", sample);
  EXPECT_ERROR_KIND(config.finish(), ErrorKind::config, "a.yaml:1: modle: unknown key; did you mean model?");
}

struct Method {
  std::string method = "none";
  static Fields<Method> fields() { return Fields<Method>("Method").add("method", &Method::method, ""); }
};

TEST(ConfigTest, SeveralStructsMayShareASection) {
  auto config = Config::parse("m: {method: topk, size: 2}", "a.yaml");
  EXPECT_EQ(config.read<Method>("m").method, "topk");
  EXPECT_ERROR(config.finish(), "a.yaml:1: m.size: unknown key");
  EXPECT_EQ(config.read<Sample>("m").size, 2);
  EXPECT_NO_THROW(config.finish());
}

TEST(ConfigTest, SectionsNestByDots) {
  auto config = Config::parse("a: {b: {size: 4}}", "a.yaml");
  EXPECT_TRUE(config.has("a.b.size"));
  EXPECT_FALSE(config.has("a.c") || config.has("a.b.size.x"));
  EXPECT_EQ(config.read<Sample>("a.b").size, 4);
  EXPECT_NO_THROW(config.finish());
  EXPECT_ERROR(config.read<Sample>("a.b.size"), "a.yaml:1: a.b.size must be a mapping (key: value), got \"4\"");
  EXPECT_ERROR(config.read<Sample>("a.b.size.x"), "a.yaml:1: a.b.size must be a mapping (key: value), got \"4\"");
}

TEST(ConfigTest, OneWordMayBeReadByItself) {
  auto config = Config::parse("m: {method: topk}\nlist: [1]", "a.yaml");
  EXPECT_EQ(config.text("m.method"), "topk");
  EXPECT_EQ(config.text("m.other", "none"), "none");
  EXPECT_ERROR(config.text("list"), "a.yaml:2: list must be text, got a list of 1");
  EXPECT_NO_THROW(config.finish());
}

TEST(ConfigTest, TextThatIsNotOneStrictMappingIsRefused) {
  const auto expect = [](const std::string& text, const std::string& message) {
    EXPECT_ERROR_KIND(Config::parse(text, "a.yaml"), ErrorKind::config, message);
  };
  expect("a: 1\nb: 2\na: 3", "a.yaml:3: key a is there twice");
  expect("x: {a: 1, a: 2}", "a.yaml:1: key a is there twice");
  expect("- 1", "a.yaml:1: the top level must be a mapping (key: value), got a list of 1");
  expect("word", "a.yaml:1: the top level must be a mapping (key: value), got \"word\"");
  expect("a: &x 1", "a.yaml:1: anchors (&name) are not allowed");
  expect("a: &x 1\nb: *x", "a.yaml:1: anchors (&name) are not allowed");
  expect("a: !!int 1", "a.yaml:1: tags (tag:yaml.org,2002:int) are not allowed");
  expect("[1]: 2", "a.yaml:1: a key must be a word, got a list or a mapping; is a bracket not closed?");
  expect("~: 2", "a.yaml:1: a key must be a word, got null");
  expect("a: 1\n---\nb: 2", "a.yaml:3: holds more than one document (---)");
  expect("a: [1, 2", "a.yaml:1: not YAML: ");
  expect("a: 'x", "a.yaml:1: not YAML: ");
  expect("a:\n\tb: 1", "a.yaml:2: not YAML: ");
  expect(std::string("a: 1\nb: \0", 9), "a.yaml:2: not a text file: byte 0x00 at offset 8");
  expect("a: \xFF", "a.yaml:1: not a text file: byte 0xff at offset 3");
  expect("a: " + std::string(1 << 20, 'x'), "a.yaml: longer than 1.0 MiB");
}

TEST(ConfigTest, EmptyFilesAndCommentsAreEmptyConfigurations) {
  for (const char* text : {"", "\n\n", "# nothing\n", "---\n", "{}", "~"}) {
    auto config = Config::parse(text);
    EXPECT_NO_THROW(config.finish()) << text;
    EXPECT_FALSE(config.has("a")) << text;
  }
}

TEST(ConfigTest, DeepNestingInEveryStyleIsAnError) {
  const auto repeat = [](const std::string& text, int n) {
    std::string result;
    for (int i = 0; i < n; ++i) result += text;
    return result;
  };
  std::string block;
  for (int i = 0; i < 3000; ++i) block += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  for (const auto& text :
       {"a: " + repeat("[", 100), "a: " + repeat("[", 500'000), repeat("{a: ", 100'000), "a: " + repeat("[a: ", 40),
        repeat("- ", 400'000), repeat("? ", 400'000), block.substr(0, 1'000'000), repeat("[? ", 200)}) {
    EXPECT_THROW(Config::parse(text), Error) << text.substr(0, 20);
  }
  EXPECT_ERROR(Config::parse("a: " + repeat("[", 33) + repeat("]", 33), "a.yaml"),
               "a.yaml:1: nested deeper than 32 levels");
  EXPECT_NO_THROW(Config::parse("a: " + repeat("[", 31) + repeat("]", 31)));
  std::string many = "a: [";
  for (int i = 0; i < 200'000; ++i) many += "1,";
  EXPECT_ERROR(Config::parse(many + "]", "a.yaml"), "a.yaml:1: more than 100000 values");
}

TEST(ConfigTest, DamagedTextGivesAnErrorOrAConfigurationButNeverMore) {
  const std::string text = "m:\n  size: 4\n  ratio: 0.5\n  words: [a, 'b', \"c\"]\n  inner: {depth: 3}\n# end\n";
  Random random(2);
  for (int trial = 0; trial < 3000; ++trial) {
    auto damaged = text;
    for (auto n = random.integer(1, 4); n > 0; --n) {
      const auto at = static_cast<size_t>(random.integer(static_cast<int64_t>(damaged.size())));
      static const std::string kBytes = "[]{}:,-?&*!|>'\"%@`#\n\t \\x\xFF";
      damaged[at] = kBytes[static_cast<size_t>(random.integer(static_cast<int64_t>(kBytes.size())))];
    }
    try {
      auto config = Config::parse(damaged, "a.yaml");
      config.read<Sample>("m");
      config.finish();
    } catch (const Error& e) {
      ASSERT_TRUE(std::string_view(e.what()).starts_with("a.yaml")) << e.what();
      ASSERT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos) << e.what();
    }
  }
}

TEST(ConfigSet, GoesOverTheFileAndMakesSections) {
  auto config = Config::parse("m: {size: 4, ratio: 0.5}", "a.yaml");
  config.set("m.ratio=0.25");
  config.set("m.sizes=[7,8]");
  config.set(" m.inner.depth = 3");
  config.set("m.name=");
  config.set("m.words=['']");
  EXPECT_THROW(config.read<Sample>("m"), UsageError);  // name: null is no text
  config.set("m.name=a=b");
  const auto sample = config.read<Sample>("m");
  config.finish();
  EXPECT_EQ(sample.size, 4);
  EXPECT_EQ(sample.ratio, 0.25);
  EXPECT_EQ(sample.sizes, (std::vector<int64_t>{7, 8}));
  EXPECT_EQ(sample.inner.depth, 3);
  EXPECT_EQ(sample.name, "a=b");
}

TEST(ConfigSet, ErrorsAreTheCommandLinesFault) {
  const auto expect = [](const std::string& assignment, const std::string& message) {
    auto config = Config::parse("m: {size: 4}", "a.yaml");
    config.set(assignment);
    expect_usage_error(config, message);
  };
  expect("m.ratio=2", "--set m.ratio=2: m.ratio must be in [0, 1), got 2");
  expect("m.ratio=fast", "--set m.ratio=fast: m.ratio must be a number, got \"fast\"");
  expect("m.ration=0.5", "--set m.ration=0.5: m.ration: unknown key; did you mean m.ratio?");
  expect("n.ratio=0.5", "--set n.ratio=0.5: n: unknown key; did you mean m?");
  expect("m.sizes=[1,1,1,1]", "m: Sample: at most 3 sizes, got 4");
  Config empty;
  expect_usage_error(empty, "m.size must be given (integer >= 1): use --set m.size=VALUE or --config FILE");
  EXPECT_EQ(empty.name(), "command line");
}

TEST(ConfigSet, AMalformedAssignmentIsRefusedAtOnce) {
  const auto expect = [](const std::string& assignment, const std::string& message) {
    auto config = Config::parse("m: {size: 4}", "a.yaml");
    EXPECT_THROW(config.set(assignment), UsageError);
    EXPECT_ERROR_KIND(config.set(assignment), ErrorKind::argument, message);
  };
  expect("m.size", "--set m.size: must be KEY=VALUE, as in train.lr=0.001");
  expect("=3", "--set =3: must be KEY=VALUE, as in train.lr=0.001");
  expect("m..size=3", "--set m..size=3: must be KEY=VALUE, as in train.lr=0.001");
  expect("m.size.x=3", "--set m.size.x=3: m.size is a value, not a section");
  expect("m.sizes=[1", "--set m.sizes=[1: a key must be a word, got a list or a mapping; is a bracket not closed?");
  std::string deep = "a";
  for (int i = 0; i < 100'000; ++i) deep += ".a";
  EXPECT_THROW(Config().set(deep + "=1"), UsageError);
}

TEST(ConfigTest, CopiesShareNothing) {
  auto config = Config::parse("size: 1", "a.yaml");
  auto copy = config;
  EXPECT_EQ(copy.read<Sample>("").size, 1);
  EXPECT_NO_THROW(copy.finish());
  EXPECT_ERROR(config.finish(), "a.yaml:1: size: unknown key");
}

TEST(ConfigTest, LoadReadsAFileAndNamesItInErrors) {
  const auto path = (std::filesystem::path(::testing::TempDir()) / "winnow_config_test.yaml").string();
  std::ofstream(path) << "size: x\n";
  EXPECT_ERROR_KIND(Config::load(path).read<Sample>(""), ErrorKind::config, path + ":1: size must be an integer");
  std::ofstream(path) << std::string((1 << 20) + 1, '#');
  EXPECT_ERROR_KIND(Config::load(path), ErrorKind::file, path + ": longer than 1.0 MiB");
  std::filesystem::remove(path);
  EXPECT_ERROR_KIND(Config::load(path), ErrorKind::file, path + ": cannot open: No such file or directory");
  EXPECT_ERROR_KIND(Config::load("/"), ErrorKind::file, "/: cannot read: Is a directory");
}

}  // namespace
}  // namespace winnow

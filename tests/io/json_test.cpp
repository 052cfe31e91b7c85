#include "winnow/io/json.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "winnow/core/file.h"

namespace winnow::testing {
namespace {

TEST(Json, ValuesComeBackAsTheyWere) {
  const auto value = io::parse_json(R"({"a":[1,-2,2.5,true,null,"\u00e4\n"],"b":{"c":{}},"big":18446744073709551615})");
  EXPECT_EQ(value["a"][1], -2);
  EXPECT_EQ(value["a"][5], "\xc3\xa4\n");
  EXPECT_TRUE(value["b"]["c"].is_object());
  EXPECT_EQ(value["big"].get<uint64_t>(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(io::parse_json("3"), 3);
}

TEST(Json, ErrorsNameFileLineAndColumn) {
  EXPECT_ERROR_KIND(io::parse_json("{\n  \"a\": 1,\n  b: 2}", "c.json"), ErrorKind::file,
                    "c.json: line 3, column 3: not valid JSON near \"");
  EXPECT_ERROR(io::parse_json("", "c.json"), "c.json: the file is empty, wanted JSON");
  EXPECT_ERROR(io::parse_json("[1e999]", "c.json"), "c.json: line 1, column 6: a number too large near \"1e999\"");
  EXPECT_ERROR(io::parse_json("{\"a\":1,\"a\":2}", "c.json"), "c.json: the key \"a\" stands twice in one object");
  EXPECT_ERROR(io::parse_json("[NaN]", "c.json"), "not valid JSON");
  EXPECT_ERROR(io::parse_json("[1,]", "c.json"), "not valid JSON");
}

TEST(Json, LimitsAreKept) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(io::parse_json(nested(64)));
  EXPECT_ERROR(io::parse_json(nested(65), "j"), "j: JSON nested deeper than 64");
  EXPECT_ERROR(io::parse_json(std::string(1000000, '['), "j"), "j: JSON nested deeper than 64");
  EXPECT_ERROR(io::parse_json("[1,2,3]", "j", {.max_values = 3}), "j: more than 3 JSON values");
  EXPECT_ERROR(io::parse_json("[1,2,3]", "j", {.max_bytes = 6}), "j: 7 bytes of JSON, the limit is 6");
}

TEST(Json, WrittenFilesAreReadBack) {
  const TemporaryFolder folder;
  const io::Json value = {{"a", {1, 2}}, {"b", "x"}, {"c", std::numeric_limits<double>::quiet_NaN()}};
  io::write_json(folder / "x.json", value);
  EXPECT_EQ(read_file(folder / "x.json"), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": \"x\",\n  \"c\": null\n}\n");
  EXPECT_EQ(io::read_json(folder / "x.json")["a"][1], 2);
  EXPECT_ERROR_KIND(io::write_json(folder / "x.json", {{"a", "\xff"}}), ErrorKind::argument, "text must be UTF-8");
  EXPECT_ERROR_KIND(io::read_json(folder / "y.json"), ErrorKind::file, "y.json");
}

TEST(JsonObject, GivesEachTypeAndNamesTheKeyOtherwise) {
  const io::JsonObject object(
      io::parse_json(R"({"i":3,"whole":12.0,"d":2.5,"t":true,"s":"x","n":null,"list":[1,2],"mixed":[1,"a"],)"
                     R"("half":[0.5,1],"names":["a","b"],"huge":18446744073709551615,"in":{"x":1}})"),
      "config.json");
  EXPECT_EQ(object.get<int64_t>("i"), 3);
  EXPECT_EQ(object.get<int64_t>("whole"), 12);
  EXPECT_EQ(object.get<double>("i"), 3.0);
  EXPECT_EQ(object.get<double>("d"), 2.5);
  EXPECT_TRUE(object.get<bool>("t"));
  EXPECT_EQ(object.get<std::string>("s"), "x");
  EXPECT_EQ(object.get<std::vector<int64_t>>("list"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(object.get<std::vector<double>>("half"), (std::vector<double>{0.5, 1}));
  EXPECT_EQ(object.get<std::vector<std::string>>("names"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(object.object("in").get<int64_t>("x"), 1);
  EXPECT_EQ(object.get_or<int64_t>("absent", 5), 5);
  EXPECT_EQ(object.get_or<int64_t>("n", 5), 5);
  EXPECT_FALSE(object.has("n"));

  EXPECT_ERROR_KIND((void)object.get<int64_t>("d"), ErrorKind::file, "config.json: d must be an integer, got 2.5");
  EXPECT_ERROR((void)object.get<int64_t>("huge"), "config.json: huge must be an integer, got 18446744073709551615");
  EXPECT_ERROR((void)object.get<int64_t>("t"), "config.json: t must be an integer, got true");
  EXPECT_ERROR((void)object.get<bool>("i"), "config.json: i must be true or false, got 3");
  EXPECT_ERROR((void)object.get<double>("s"), "config.json: s must be a number, got \"x\"");
  EXPECT_ERROR((void)object.get<std::string>("i"), "config.json: i must be a string, got 3");
  EXPECT_ERROR((void)object.get<std::vector<int64_t>>("mixed"),
               "config.json: mixed must be a list of integers, got [1,\"a\"]");
  EXPECT_ERROR((void)object.get<std::vector<double>>("names"), "config.json: names must be a list of numbers");
  EXPECT_ERROR((void)object.get<std::vector<std::string>>("list"), "config.json: list must be a list of strings");
  EXPECT_ERROR((void)object.object("list"), "config.json: list must be an object, got [1,2]");
  EXPECT_ERROR((void)object.object("in").get<bool>("x"), "config.json: in.x must be true or false, got 1");
}

TEST(JsonObject, AMissingKeyNamesTheNearest) {
  const io::JsonObject object(io::parse_json(R"({"hidden_sizes":8,"n":null})"), "config.json");
  EXPECT_ERROR((void)object.get<int64_t>("hidden_size"), "config.json: hidden_size is missing (nearest: hidden_sizes)");
  EXPECT_ERROR((void)object.get<int64_t>("n"), "config.json: n must not be null");
  EXPECT_ERROR((void)object.get<int64_t>("zzzzzzzz"), "config.json: zzzzzzzz is missing");
  EXPECT_ERROR(io::JsonObject(io::parse_json("[1]"), "config.json"),
               "config.json: the content must be an object, got [1]");
}

}  // namespace
}  // namespace winnow::testing

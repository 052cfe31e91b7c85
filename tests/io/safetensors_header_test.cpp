#include <gtest/gtest.h>

#include "safetensors_bytes.h"
#include "support/error.h"
#include "winnow/io/safetensors_header.h"

namespace winnow::testing {
namespace {

using io::parse_safetensors_header;

void expect_refused(const std::string& header, const std::string& data, const std::string& message) {
  SCOPED_TRACE(header.substr(0, 200));
  const auto bytes = safetensors_bytes(header, data);
  EXPECT_ERROR_KIND(parse_safetensors_header(bytes, "x.safetensors"), ErrorKind::file, "x.safetensors: " + message);
}

TEST(SafetensorsHeader, OffsetsCountFromTheStartOfTheFile) {
  const std::string text =
      R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("__metadata__":{"format":"pt"}})";
  const auto header = parse_safetensors_header(safetensors_bytes(text, "aaaabbb"));
  ASSERT_EQ(header.tensors.size(), 2u);
  const auto& a = header.tensors.at("a");
  const auto& b = header.tensors.at("b");
  EXPECT_EQ(a.dtype, "F32");
  EXPECT_TRUE(a.shape.empty());
  EXPECT_EQ(a.begin, 8 + text.size());
  EXPECT_EQ(b.end, 8 + text.size() + 7);
  EXPECT_EQ(b.shape, std::vector<int64_t>{3});
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(SafetensorsHeader, AnEmptyObjectIsAFileWithoutTensors) {
  EXPECT_TRUE(parse_safetensors_header(safetensors_bytes("{}")).tensors.empty());
  EXPECT_TRUE(parse_safetensors_header(safetensors_bytes("{}      ")).tensors.empty());
}

TEST(SafetensorsHeader, EmptyTensorsTakeNoBytesAnywhere) {
  const auto header = parse_safetensors_header(safetensors_bytes(
      R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[2,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
      R"("f":{"dtype":"F64","shape":[7,0],"data_offsets":[0,0]}})",
      "xx"));
  EXPECT_EQ(header.tensors.at("e").begin, header.tensors.at("e").end);
  EXPECT_EQ(header.tensors.size(), 3u);
}

TEST(SafetensorsHeader, AWrongLengthIsRefusedBeforeAnythingIsRead) {
  EXPECT_ERROR(parse_safetensors_header({}, "f"), "f: 0 bytes are too few for a safetensors file");
  const std::vector<uint8_t> seven(7, 0);
  EXPECT_ERROR(parse_safetensors_header(seven, "f"), "f: 7 bytes are too few for a safetensors file");
  std::vector<uint8_t> bytes(16, 0);
  bytes[0] = 9;
  EXPECT_ERROR(parse_safetensors_header(bytes, "f"),
               "f: truncated or not a safetensors file: a header of 9 bytes in a file of 16");
  const std::vector<uint8_t> ones(16, 0xff);
  EXPECT_ERROR(parse_safetensors_header(ones, "f"),
               "f: not a safetensors file, or damaged: a header of 18446744073709551615 bytes, the limit is 100000000");
  bytes[0] = 0;
  EXPECT_ERROR(parse_safetensors_header(bytes, "f"), "the header must start with '{'");
}

TEST(SafetensorsHeader, BrokenJsonNamesThePlace) {
  expect_refused("{\"a\":}", "", "header: line 1, column 6: not valid JSON");
  expect_refused("{", "", "header: line 1, column 2: not valid JSON");
  expect_refused(" {}", "", "not a safetensors file: the header must start with '{'");
  expect_refused("{}x", "", "header: line 1, column 3: not valid JSON");
  expect_refused("{\"\xff\":1}", "", "header: line 1, column 3: not valid JSON");
  expect_refused(std::string("{}\0", 3), "", "header: line 1, column 3: not valid JSON");
}

TEST(SafetensorsHeader, DeepNestingAndRepeatedKeysAreRefused) {
  expect_refused("{\"a\":" + std::string(100000, '['), "", "header: JSON nested deeper than 4");
  expect_refused(
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
      "", "header: the key \"a\" stands twice in one object");
  expect_refused(R"({"a":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}})", "",
                 "header: the key \"dtype\" stands twice in one object");
}

TEST(SafetensorsHeader, AnEntryHoldsExactlyTypeShapeAndOffsets) {
  expect_refused(R"({"a":3})", "", "tensor a: its entry must be an object");
  expect_refused(R"({"a":{"shape":[],"data_offsets":[0,0]}})", "", "tensor a: dtype is missing");
  expect_refused(R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", "", "tensor a: shape is missing");
  expect_refused(R"({"a":{"dtype":"U8","shape":[]}})", "", "tensor a: data_offsets is missing");
  expect_refused(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}})", "",
                 "tensor a: its entry has keys beside dtype, shape and data_offsets");
  expect_refused(R"({"a":{"dtype":8,"shape":[0],"data_offsets":[0,0]}})", "", "tensor a: dtype must be a string");
  expect_refused(R"({"a":{"dtype":"F31","shape":[0],"data_offsets":[0,0]}})", "", "tensor a: dtype F31 is not known");
}

TEST(SafetensorsHeader, ShapesAreListsOfCounts) {
  const auto entry = [](const std::string& shape, const std::string& offsets = "[0,0]") {
    return "{\"a\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  expect_refused(entry("[-1]"), "", "tensor a: shape must hold integers >= 0");
  expect_refused(entry("[1.0]"), "", "tensor a: shape must hold integers >= 0");
  expect_refused(entry("[\"1\"]"), "", "tensor a: shape must hold integers >= 0");
  expect_refused(entry("[9223372036854775808]"), "", "tensor a: shape must hold integers >= 0");
  expect_refused(entry("[99999999999999999999999]"), "", "tensor a: shape must hold integers >= 0");
  expect_refused(entry("3"), "", "tensor a: shape must be a list of at most 64 sizes");
  std::string many = "[1";
  for (int i = 0; i < 64; ++i) many += ",1";
  expect_refused(entry(many + "]"), "", "tensor a: shape must be a list of at most 64 sizes");
  expect_refused(entry("[4611686018427387904]"), "", "tensor a: shape overflows");
  expect_refused(entry("[4294967296,4294967296]"), "", "tensor a: shape overflows");
  expect_refused(entry("[4294967296,4294967296,0]"), "", "tensor a: shape overflows");
  expect_refused(entry("[0,4294967296,4294967296]"), "", "tensor a: shape overflows");
}

TEST(SafetensorsHeader, OffsetsFitTheFileTheShapeAndEachOther) {
  const auto entry = [](const std::string& name, const std::string& offsets, int size) {
    return "\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + std::to_string(size) + "],\"data_offsets\":" + offsets +
           "}";
  };
  expect_refused("{" + entry("a", "[0,4]", 4) + "}", "abc",
                 "tensor a: data_offsets [0, 4] lie outside the 3 bytes of data");
  expect_refused("{" + entry("a", "[2,1]", 1) + "}", "abc",
                 "tensor a: data_offsets [2, 1] lie outside the 3 bytes of data");
  expect_refused("{" + entry("a", "[-1,1]", 2) + "}", "abc", "tensor a: data_offsets must be two integers >= 0");
  expect_refused("{" + entry("a", "[0]", 2) + "}", "abc", "tensor a: data_offsets must be two integers >= 0");
  expect_refused("{" + entry("a", "[0,1,2]", 2) + "}", "abc", "tensor a: data_offsets must be two integers >= 0");
  expect_refused("{" + entry("a", "[0,18446744073709551615]", 2) + "}", "abc",
                 "tensor a: data_offsets must be two integers >= 0");
  expect_refused("{" + entry("a", "[0,2]", 3) + "}", "ab", "tensor a: 2 bytes of data, but shape and dtype U8 need 3");
  expect_refused("{" + entry("a", "[0,2]", 2) + "," + entry("b", "[1,3]", 2) + "}", "abc",
                 "tensor b: its data overlap those of another tensor");
  expect_refused("{" + entry("a", "[0,1]", 1) + "," + entry("b", "[2,3]", 1) + "}", "abc",
                 "1 bytes in front of tensor b belong to no tensor");
  expect_refused("{" + entry("a", "[1,3]", 2) + "}", "abc", "1 bytes in front of tensor a belong to no tensor");
  expect_refused("{" + entry("a", "[0,2]", 2) + "}", "abc", "1 bytes at the end belong to no tensor");
  expect_refused("{}", "a", "1 bytes at the end belong to no tensor");
}

TEST(SafetensorsHeader, MetadataIsAMapOfStrings) {
  expect_refused(R"({"__metadata__":[]})", "", "__metadata__ must be an object");
  expect_refused(R"({"__metadata__":{"a":1}})", "", "__metadata__: a must be a string");
}

TEST(SafetensorsHeader, EveryTruncationOfAGoodFileIsRefused) {
  const auto good = safetensors_bytes(R"({"a":{"dtype":"I16","shape":[2,2],"data_offsets":[0,8]}})", "01234567");
  EXPECT_NO_THROW(parse_safetensors_header(good));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(parse_safetensors_header(io::Bytes(good).first(size)), Error) << size;
  }
}

}  // namespace
}  // namespace winnow::testing

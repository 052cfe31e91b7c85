#include "winnow/io/gguf.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "gguf_bytes.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::testing {
namespace {

using io::GgufFile;

GgufFile open(const GgufBytes& bytes) {
  return GgufFile(bytes.bytes(), "x.gguf");
}

std::string f32_bytes(std::size_t count) {
  return std::string(4 * count, '\0');
}

// Half floats: 0x3C00 = 1, 0x3800 = 0.5, 0xC000 = -2.
constexpr std::string_view kOne("\x00\x3c", 2), kHalf("\x00\x38", 2), kMinusTwo("\x00\xc0", 2);

TEST(Gguf, EveryKindOfMetadataComesBack) {
  const auto file = open(GgufBytes()
                             .scalar<uint8_t>("u8", 0, 200)
                             .scalar<int8_t>("i8", 1, -100)
                             .scalar<uint16_t>("u16", 2, 60000)
                             .scalar<int16_t>("i16", 3, -30000)
                             .u32("u32", 4000000000)
                             .scalar<int32_t>("i32", 5, -2000000000)
                             .f32("f32", 0.5f)
                             .boolean("yes", true)
                             .string("text", std::string_view("a\0\xff", 3))
                             .scalar<uint64_t>("u64", 10, uint64_t{1} << 40)
                             .scalar<int64_t>("i64", 11, -5000000000)
                             .scalar<double>("f64", 12, 1e-300)
                             .strings("words", {"one", "", "three"})
                             .numbers<float>("scores", 6, {1.5f, -2.0f})
                             .numbers<int32_t>("none", 5, {}));
  const auto& data = file.metadata();
  EXPECT_EQ(data.get<int64_t>("u8"), 200);
  EXPECT_EQ(data.get<int64_t>("i8"), -100);
  EXPECT_EQ(data.get<int64_t>("u16"), 60000);
  EXPECT_EQ(data.get<int64_t>("i16"), -30000);
  EXPECT_EQ(data.get<int64_t>("u32"), 4000000000);
  EXPECT_EQ(data.get<int64_t>("i32"), -2000000000);
  EXPECT_EQ(data.get<double>("f32"), 0.5);
  EXPECT_TRUE(data.get<bool>("yes"));
  EXPECT_EQ(data.get<std::string>("text"), std::string("a\0\xff", 3));
  EXPECT_EQ(data.get<int64_t>("u64"), int64_t{1} << 40);
  EXPECT_EQ(data.get<int64_t>("i64"), -5000000000);
  EXPECT_EQ(data.get<double>("f64"), 1e-300);
  EXPECT_EQ(data.get<std::vector<std::string>>("words"), (std::vector<std::string>{"one", "", "three"}));
  EXPECT_EQ(data.get<std::vector<double>>("scores"), (std::vector<double>{1.5, -2.0}));
  EXPECT_EQ(data.get<std::vector<int64_t>>("none").size(), 0U);
  EXPECT_ERROR((void)data.get<int64_t>("text"), "x.gguf: text must be an integer");
}

TEST(Gguf, PlainTensorsAreReadInTheShapesOfSafetensors) {
  const auto file = open(GgufBytes()
                             .tensor_of<float>("w", {3, 2}, 0, {0, 1, 2, 3, 4, 5})
                             .tensor("h", {2}, 1, std::string(kHalf) + std::string(kMinusTwo))
                             .tensor("b", {1}, 30, std::string_view("\x80\x3f", 2))
                             .tensor_of<int32_t>("i", {2}, 26, {7, -7})
                             .tensor_of<double>("d", {1, 1, 1}, 28, {0.1}));
  EXPECT_TENSOR_EQ(file.tensor("w"), at::arange(6, at::kFloat).view({2, 3}));
  EXPECT_TENSOR_EQ(file.tensor("h"), at::tensor({0.5, -2.0}).to(at::kHalf));
  EXPECT_TENSOR_EQ(file.tensor("b"), at::ones({1}, at::kBFloat16));
  EXPECT_TENSOR_EQ(file.tensor("i"), at::tensor({7, -7}, at::kInt));
  EXPECT_TENSOR_EQ(file.tensor("d"), at::full({1, 1, 1}, 0.1, at::kDouble));
  EXPECT_EQ(file.names(), (std::vector<std::string>{"b", "d", "h", "i", "w"}));
}

// Nibble j of byte i is (3 i + 7 j) mod 16 here, so that no two orders of nibbles give the same weights.
std::string nibbles() {
  std::string bytes;
  for (int i = 0; i < 16; ++i) bytes += static_cast<char>(((3 * i) % 16) | (((3 * i + 7) % 16) << 4));
  return bytes;
}

at::Tensor quants() {
  const auto i = 3 * at::arange(16, at::kFloat);
  return at::cat({at::remainder(i, 16), at::remainder(i + 7, 16)});
}

TEST(Gguf, BlocksOfFourAndEightBitsAreScaleTimesIntegerPlusMinimum) {
  std::string bytes8;
  for (int i = 0; i < 32; ++i) bytes8 += static_cast<char>(i - 16);
  const auto join = [](auto... parts) { return (std::string() + ... + std::string(parts)); };
  const auto file = open(GgufBytes()
                             .tensor("q4_0", {32, 2}, 2, join(kHalf, nibbles(), kMinusTwo, nibbles()))
                             .tensor("q4_1", {32}, 3, join(kHalf, kMinusTwo, nibbles()))
                             .tensor("q8_0", {64}, 8, join(kOne, bytes8, kHalf, bytes8)));
  EXPECT_TENSOR_EQ(file.tensor("q4_0"), at::stack({0.5 * (quants() - 8), -2 * (quants() - 8)}));
  EXPECT_TENSOR_EQ(file.tensor("q4_1"), 0.5 * quants() - 2);
  const auto ramp = at::arange(-16, 16, at::kFloat);
  EXPECT_TENSOR_EQ(file.tensor("q8_0"), at::cat({ramp, 0.5 * ramp}));
}

TEST(Gguf, VersionTwoAndAnotherAlignmentAreRead) {
  GgufBytes bytes;
  bytes.version = 2;
  bytes.alignment = 64;
  bytes.u32("general.alignment", 64).tensor_of<float>("a", {1}, 0, {1}).tensor_of<float>("b", {1}, 0, {2});
  const auto file = open(bytes);
  EXPECT_EQ(file.version(), 2U);
  EXPECT_EQ(file.entries().at("b").begin % 64, 0U);
  EXPECT_TENSOR_EQ(file.tensor("b"), at::full({1}, 2.0f));
}

TEST(Gguf, TypesThatAreNotReadAreNamed) {
  const auto file = open(GgufBytes().tensor("blk.0.w", {256}, 14, std::string(210, '\0')).tensor("new", {5}, 77, ""));
  EXPECT_ERROR_KIND((void)file.tensor("blk.0.w"), ErrorKind::unsupported, "x.gguf: tensor blk.0.w is kept as Q6_K");
  EXPECT_ERROR_KIND((void)file.tensor("new"), ErrorKind::unsupported, "x.gguf: tensor new is kept as type 77");
  EXPECT_ERROR((void)file.tensor("blk.0.v"), "x.gguf: there is no tensor blk.0.v; did you mean blk.0.w?");
}

TEST(Gguf, WrongFilesAreOneErrorThatNamesThePlace) {
  const auto refused = [](const GgufBytes& bytes, const char* text) {
    EXPECT_ERROR_KIND(open(bytes), ErrorKind::file, text);
  };
  refused(GgufBytes().u32("a", 1).u32("a", 2), "metadata a: the key stands twice");
  refused(GgufBytes().raw("a", 13, ""), "metadata a: a metadata value of type 13, which does not exist");
  refused(GgufBytes().raw("a", 7, "\x02"), "metadata a: a bool of value 2");
  refused(GgufBytes().raw("a", 8, std::string(7, '\0') + "\x7f"), "metadata a: a string of 9151314442816847872 bytes");
  refused(GgufBytes().raw("a", 9, std::string("\x08\0\0\0\0\0\0\1\0\0\0\0", 12)), "an array of 16777216 values in ");
  refused(GgufBytes().raw("a", 9, std::string("\x63\0\0\0\1\0\0\0\0\0\0\0", 12)), "an array of type 99");
  refused(GgufBytes().u32("general.alignment", 48), "general.alignment must be a power of two up to 1048576, got 48");
  refused(GgufBytes().u32("general.alignment", 0), "general.alignment must be a power of two");
  refused(GgufBytes().string("general.alignment", "32"), "general.alignment must be a power of two");
  refused(GgufBytes().tensor("t", {2}, 0, f32_bytes(2)).tensor("t", {2}, 0, f32_bytes(2)),
          "tensor t: the name stands twice");
  refused(GgufBytes().tensor("t", {0}, 0, ""), "tensor t: a size of 0");
  refused(GgufBytes().tensor("t", {1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, f32_bytes(1)), "tensor t: 9 dimensions");
  refused(GgufBytes().tensor("t", {33}, 8, std::string(34, '\0')),
          "tensor t: rows of 33 values, but Q8_0 is kept in blocks of 32");
  refused(GgufBytes().tensor("t", {1u << 31, 1u << 31, 1u << 31}, 0, ""), "tensor t: a shape that overflows");
  refused(GgufBytes().tensor("t", {3}, 0, f32_bytes(2)),
          "tensor t: its data end 12 bytes behind the header, but only 8 follow it");
  refused(GgufBytes().place("t", {2}, 0, 4, f32_bytes(9)), "tensor t: its offset 4 is no multiple of the alignment 32");
  refused(GgufBytes().place("t", {9}, 0, 0, f32_bytes(9)).place("u", {2}, 0, 32, f32_bytes(9)),
          "tensor u: its data overlap those of t");
  GgufBytes old;
  old.version = 1;
  refused(old, "GGUF version 1; winnow reads versions 2 and 3");
  old.version = 3u << 24;
  refused(old, "big-endian");
  EXPECT_ERROR_KIND(open(GgufBytes().scalar<uint16_t>("split.count", 2, 3)), ErrorKind::unsupported,
                    "one of 3 parts of a split GGUF file");
}

TEST(Gguf, AFileCutOffAnywhereIsAnError) {
  const auto whole = GgufBytes()
                         .string("general.name", "x")
                         .strings("words", {"a", "bc"})
                         .tensor_of<float>("w", {2, 2}, 0, {1, 2, 3, 4})
                         .bytes();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_ERROR_KIND(GgufFile(part, "x.gguf"), ErrorKind::file, "x.gguf: ");
  }
}

TEST(Gguf, FilesAreKnownByTheirFirstBytes) {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, std::string_view content) {
    std::ofstream(folder / name, std::ios::binary) << content;
    return folder / name;
  };
  const auto bytes = GgufBytes().u32("a", 1).bytes();
  EXPECT_TRUE(io::is_gguf(write("a", {reinterpret_cast<const char*>(bytes.data()), bytes.size()})));
  EXPECT_EQ(GgufFile(std::filesystem::path(folder / "a")).metadata().get<int64_t>("a"), 1);
  EXPECT_FALSE(io::is_gguf(write("b", "GGU")));
  EXPECT_FALSE(io::is_gguf(folder / "missing"));
  EXPECT_ERROR(GgufFile(std::filesystem::path(folder / "b")), "not a GGUF file, or cut off");
}

TEST(Gguf, SmolLM2IsReadWhole) {
  const auto path = std::filesystem::path(WINNOW_SOURCE_DIR) / "data/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "run: ./dev data smollm2";
  const GgufFile file(path);
  EXPECT_EQ(file.metadata().get<std::string>("general.architecture"), "llama");
  EXPECT_EQ(file.metadata().get<int64_t>("llama.block_count"), 30);
  EXPECT_EQ(file.names().size(), 272U);
  int64_t numbers = 0;
  for (const auto& [name, entry] : file.entries()) {
    int64_t count = 1;
    for (const auto size : entry.shape) count *= size;
    numbers += count;
  }
  EXPECT_EQ(numbers, 134515008);
  EXPECT_EQ(file.tensor("token_embd.weight").sizes(), (std::vector<int64_t>{49152, 576}));
  const auto gate = file.tensor("blk.29.ffn_gate.weight");
  EXPECT_EQ(gate.sizes(), (std::vector<int64_t>{1536, 576}));
  EXPECT_TRUE(gate.isfinite().all().item<bool>());
  EXPECT_GT(gate.std().item<double>(), 0.01);
}

}  // namespace
}  // namespace winnow::testing

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <vector>

#include "support/error.h"
#include "winnow/core/crc32c.h"
#include "winnow/core/random.h"
#include "winnow/core/sha256.h"

namespace winnow {
namespace {

// Bit by bit, from the definition.
uint32_t slow_crc32c(const std::string& bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
  }
  return ~crc;
}

TEST(Crc32c, HasThePublishedCheckValues) {
  EXPECT_EQ(crc32c("123456789", 9), 0xE3069283u);
  EXPECT_EQ(crc32c("", 0), 0u);
  // RFC 3720, appendix B.4.
  std::string bytes(32, '\0');
  EXPECT_EQ(crc32c(bytes.data(), 32), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF').data(), 32), 0x62A8AB43u);
  std::iota(bytes.begin(), bytes.end(), '\0');
  EXPECT_EQ(crc32c(bytes.data(), 32), 0x46DD794Eu);
}

TEST(Crc32c, AgreesWithTheDefinitionAtEveryLengthAndSplit) {
  Random random(1);
  std::string bytes;
  for (size_t n = 0; n < 70; ++n) {
    ASSERT_EQ(crc32c(bytes.data(), n), slow_crc32c(bytes)) << n;
    const auto cut = static_cast<size_t>(random.integer(static_cast<int64_t>(n) + 1));
    ASSERT_EQ(crc32c(bytes.data() + cut, n - cut, crc32c(bytes.data(), cut)), slow_crc32c(bytes)) << n << " " << cut;
    bytes += static_cast<char>(random.integer(256));
  }
}

TEST(Crc32c, TheMaskedFormIsTheRotatedSum) {
  const auto crc = crc32c("winnow", 6);
  EXPECT_EQ(masked_crc32c("winnow", 6), ((crc >> 15) | (crc << 17)) + 0xA282EAD8u);
  EXPECT_NE(masked_crc32c("winnow", 6), crc);
}

TEST(Sha256, HasThePublishedDigests) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PortionsDoNotMatterAtAnyLengthAroundABlock) {
  for (size_t n = 0; n < 200; ++n) {
    const std::string bytes(n, 'x');
    Sha256 sum;
    for (size_t i = 0; i < n; i += 7) sum.update(std::string_view(bytes).substr(i, 7));
    ASSERT_EQ(sum.hex(), sha256(bytes)) << n;
    ASSERT_EQ(sum.hex(), sum.hex());
  }
}

TEST(Sha256, OfAFileIsThatOfItsBytes) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "winnow_sha256_test";
  const std::string bytes(700'000, 'q');
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_EQ(sha256_file(path), sha256(bytes));
  std::filesystem::remove(path);
  EXPECT_ERROR_KIND(sha256_file("/nowhere/at/all"), ErrorKind::file,
                    "/nowhere/at/all: cannot open: No such file or directory");
  EXPECT_ERROR_KIND(sha256_file("/"), ErrorKind::file, "/: cannot read: Is a directory");
}

}  // namespace
}  // namespace winnow

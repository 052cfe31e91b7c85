#include "winnow/io/idx.h"

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <zlib.h>

#include <fstream>

#include "gzip_bytes.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::testing {
namespace {

std::string idx(const std::string& type, const std::vector<uint32_t>& shape, const std::string& data) {
  std::string bytes("\0\0", 2);
  bytes += type;
  bytes.push_back(static_cast<char>(shape.size()));
  for (const auto size : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>((size >> shift) & 0xff));
  }
  return bytes + data;
}

at::Tensor parse(const std::string& bytes) {
  return io::parse_idx(io::as_bytes(bytes), "f.idx");
}

TEST(Idx, EveryElementTypeIsBigEndian) {
  EXPECT_TENSOR_EQ(parse(idx("\x08", {2, 2}, "\x01\x02\x03\xff")), at::tensor({1, 2, 3, 255}, at::kByte).view({2, 2}));
  EXPECT_TENSOR_EQ(parse(idx("\x09", {1}, "\xff")), at::tensor({-1}, at::kChar));
  EXPECT_TENSOR_EQ(parse(idx("\x0b", {2}, std::string("\x01\x00\xff\xfe", 4))), at::tensor({256, -2}, at::kShort));
  EXPECT_TENSOR_EQ(parse(idx("\x0c", {1}, "\x01\x02\x03\x04")), at::tensor({0x01020304}, at::kInt));
  EXPECT_TENSOR_EQ(parse(idx("\x0d", {1}, std::string("\x3f\x80\0\0", 4))), at::tensor({1.0f}));
  EXPECT_TENSOR_EQ(parse(idx("\x0e", {1}, std::string("\xbf\xf8\0\0\0\0\0\0", 8))), at::tensor({-1.5}, at::kDouble));
  EXPECT_TENSOR_EQ(parse(idx("\x0e", {3, 0}, "")), at::empty({3, 0}, at::kDouble));
}

TEST(Idx, GzippedFilesAreUnpackedWithinTheLimit) {
  const TemporaryFolder folder;
  const auto plain = idx("\x08", {1000, 100}, std::string(100000, 'a'));
  const auto packed = gzip_bytes(plain);
  EXPECT_LT(packed.size(), 1000u);
  std::ofstream(folder / "x.gz", std::ios::binary) << packed;
  EXPECT_TENSOR_EQ(io::read_idx(folder / "x.gz"), at::full({1000, 100}, 'a', at::kByte));
  std::ofstream(folder / "x", std::ios::binary) << plain;
  EXPECT_TENSOR_EQ(io::read_idx(folder / "x"), io::read_idx(folder / "x.gz"));
  EXPECT_ERROR_KIND(io::read_idx(folder / "x.gz", 50000), ErrorKind::file,
                    "x.gz: the gzip stream unpacks to more than 50000 bytes");
}

TEST(Idx, WhatIsNotIdxIsRefused) {
  EXPECT_ERROR_KIND(parse(""), ErrorKind::file, "f.idx: not an IDX file: it must start with two zero bytes");
  EXPECT_ERROR(parse("abcd"), "f.idx: not an IDX file");
  EXPECT_ERROR(parse(idx("\x07", {1}, "a")), "f.idx: IDX element type 0x07 is not known");
  EXPECT_ERROR(parse(std::string("\0\0\x08\0", 4)), "f.idx: IDX header of 0 dimensions in a file of 4 bytes");
  EXPECT_ERROR(parse(std::string("\0\0\x08\x02\0\0\0\x01", 8)),
               "f.idx: IDX header of 2 dimensions in a file of 8 bytes");
  EXPECT_ERROR(parse(idx("\x08", {2, 2}, "abc")), "f.idx: IDX shape [2, 2] needs 4 bytes of data, the file has 3");
  EXPECT_ERROR(parse(idx("\x08", {2, 2}, "abcde")), "f.idx: IDX shape [2, 2] needs 4 bytes of data, the file has 5");
  EXPECT_ERROR(parse(idx("\x0e", {0xffffffff, 0xffffffff, 0xffffffff}, "")), "needs more than 2^64 bytes of data");
  EXPECT_ERROR(parse(idx("\x08", {0, 0xffffffff, 0xffffffff}, "")),
               "f.idx: IDX shape [0, 4294967295, 4294967295] is too large");
}

TEST(Gzip, DamageIsOneError) {
  const auto packed = gzip_bytes("hello hello hello");
  const auto unpack = [](const std::string& bytes) { return io::gunzip(io::as_bytes(bytes), "f.gz"); };
  EXPECT_EQ(unpack(packed), "hello hello hello");
  EXPECT_EQ(unpack(packed + packed), "hello hello hellohello hello hello");
  EXPECT_EQ(unpack(packed + std::string(5, '\0')), "hello hello hello");
  EXPECT_ERROR_KIND(unpack("no"), ErrorKind::file, "f.gz: not a gzip stream");
  EXPECT_ERROR(unpack(packed + "abc"), "f.gz: 3 bytes of garbage after the gzip stream");
  for (std::size_t size = 2; size < packed.size(); ++size) {
    EXPECT_ERROR(unpack(packed.substr(0, size)), "f.gz: the gzip stream ends early");
  }
  for (std::size_t i = 12; i < packed.size(); ++i) {
    auto damaged = packed;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    EXPECT_THROW(unpack(damaged), Error) << i;
  }
}

}  // namespace
}  // namespace winnow::testing

#include "winnow/io/npy.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::testing {
namespace {

std::string npy(const std::string& header, const std::string& data, int major = 1) {
  std::string bytes("\x93NUMPY", 6);
  bytes.push_back(static_cast<char>(major));
  bytes.push_back('\0');
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) bytes.push_back(static_cast<char>((header.size() >> (8 * i)) & 0xff));
  return bytes + header + data;
}

std::string header(const std::string& descr, const std::string& shape, const std::string& fortran = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }          \n";
}

at::Tensor parse(const std::string& bytes) {
  return io::parse_npy(io::as_bytes(bytes), "f.npy");
}

TEST(Npy, EveryDtypeAndShapeComesBack) {
  torch::manual_seed(1);
  for (const auto type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::ScalarType::UInt16,
                          at::ScalarType::UInt32, at::ScalarType::UInt64, at::kHalf, at::kFloat, at::kDouble,
                          at::kComplexFloat, at::kComplexDouble}) {
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {5}, {0, 3}, {2, 3, 4}}) {
      const auto tensor = at::randint(0, 2, shape, at::kLong).to(type);
      const auto bytes = io::to_npy(tensor);
      const auto back = io::parse_npy(bytes);
      EXPECT_EQ(back.scalar_type(), type);
      EXPECT_TRUE(at::equal(back.to(at::kComplexDouble), tensor.to(at::kComplexDouble)));
      // The data start at a multiple of 64, as NumPy writes them.
      EXPECT_EQ((bytes.size() - tensor.nbytes()) % 64, 0u);
    }
  }
}

TEST(Npy, HeadersAreWrittenAsNumPyWritesThem) {
  const auto text = [](const at::Tensor& tensor) {
    const auto bytes = io::to_npy(tensor);
    return std::string(bytes.begin() + 10, bytes.end());
  };
  EXPECT_TRUE(text(at::zeros({2, 3})).starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
  EXPECT_TRUE(text(at::zeros({3}, at::kByte)).starts_with("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }"));
  EXPECT_TRUE(text(at::zeros({}, at::kLong)).starts_with("{'descr': '<i8', 'fortran_order': False, 'shape': (), }"));
}

TEST(Npy, VersionsOrdersAndByteOrdersAreRead) {
  const auto wanted = at::tensor({1, 2, 3, 4, 5, 6}, at::kShort).view({2, 3});
  const std::string little("\1\0\2\0\3\0\4\0\5\0\6\0", 12), big("\0\1\0\2\0\3\0\4\0\5\0\6", 12);
  for (const int major : {1, 2, 3}) EXPECT_TENSOR_EQ(parse(npy(header("<i2", "(2, 3)"), little, major)), wanted);
  EXPECT_TENSOR_EQ(parse(npy(header(">i2", "(2, 3)"), big)), wanted);
  EXPECT_TENSOR_EQ(parse(npy(header("<i2", "(2L, 3L,)"), little)), wanted);
  EXPECT_TENSOR_EQ(parse(npy(header("<i2", "(3, 2)", "True"), little)), wanted.t());
  EXPECT_TRUE(parse(npy(header("<i2", "(3, 2)", "True"), little)).is_contiguous());
  EXPECT_TENSOR_EQ(parse(npy("{\"shape\":(6,),\"fortran_order\":False,\"descr\":\"<i2\"}", little)),
                   wanted.reshape({-1}));
  const auto complex = parse(npy(header(">c8", "(1,)"), std::string("\x3f\x80\0\0\x40\0\0\0", 8)));
  EXPECT_EQ(complex.item<c10::complex<double>>(), c10::complex<double>(1, 2));
}

TEST(Npy, ViewsAreWrittenAsTheyLookAndFilesAreAtomic) {
  const TemporaryFolder folder;
  const auto view = at::arange(6).view({2, 3}).t();
  io::write_npy(folder / "x.npy", view);
  EXPECT_TENSOR_EQ(io::read_npy(folder / "x.npy"), view);
  EXPECT_ERROR_KIND(io::write_npy(folder / "x.npy", at::ones({1}, at::kBFloat16)), ErrorKind::argument,
                    "write_npy: NumPy has no dtype bfloat16");
  EXPECT_ERROR(io::write_npy(folder / "x.npy", at::Tensor()), "write_npy: tensor must be dense, got undefined");
  EXPECT_TENSOR_EQ(io::read_npy(folder / "x.npy"), view);
}

TEST(Npy, WhatIsNotAnArrayOfNumbersIsRefused) {
  EXPECT_ERROR_KIND(parse(""), ErrorKind::file, "f.npy: not an npy file");
  EXPECT_ERROR(parse(npy(header("<i2", "(1,)"), "ab", 4)), "f.npy: npy version 4.0 is not known");
  EXPECT_ERROR(parse(npy(header("<i2", "(1,)"), "ab").substr(0, 30)), "f.npy: the npy file ends in its header");
  EXPECT_ERROR(parse(npy(header("<i2", "(2,)"), "abc")),
               "f.npy: npy shape [2] of int16 needs 4 bytes of data, the file has 3");
  EXPECT_ERROR(parse(npy(header("<f8", "(9223372036854775807, 9)"), "abc")), "needs more than 2^64 bytes of data");
  EXPECT_ERROR_KIND(parse(npy(header("|O", "(1,)"), "ab")), ErrorKind::unsupported,
                    "f.npy: npy arrays of type '|O' are not read, only numbers");
  EXPECT_ERROR(parse(npy(header("<U4", "(1,)"), "ab")), "f.npy: npy arrays of type '<U4' are not read, only numbers");
  EXPECT_ERROR(parse(npy(header("", "(1,)"), "ab")), "f.npy: npy arrays of type '' are not read, only numbers");
  EXPECT_ERROR(parse(npy("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}", "")),
               "f.npy: npy arrays of records are not read");
  EXPECT_ERROR(parse(npy(header("|b1", "(2,)"), "\x01\x02")), "f.npy: a bool byte is neither 0 nor 1");
}

TEST(Npy, DamagedHeadersSayWhat) {
  const auto expect = [](const std::string& text, const std::string& message) {
    EXPECT_ERROR_KIND(parse(npy(text, "")), ErrorKind::file, "f.npy: damaged npy header: " + message);
  };
  expect("", "'{' expected");
  expect("{'descr' '<i2'}", "':' expected");
  expect("{'descr': '<i2' 'shape': ()}", "'}' expected");
  expect("{'descr': '<i2}", "an open quote");
  expect("{'x': 1}", "unexpected key x");
  expect("{'descr': '<i2', 'descr': '<i2'}", "unexpected key descr");
  expect("{'descr': '<i2'}", "descr, fortran_order or shape is missing");
  expect("{'fortran_order': 1}", "fortran_order must be True or False");
  expect("{'shape': (-1,)}", "shape must be a tuple of at most 64 sizes");
  expect("{'shape': (x)}", "shape must be a tuple of at most 64 sizes");
  expect(header("<i2", "()") + "x", "text after the end");
}

}  // namespace
}  // namespace winnow::testing

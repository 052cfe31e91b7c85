#include "winnow/io/safetensors.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "safetensors_bytes.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/file.h"
#include "winnow/tensor/format.h"

namespace winnow::testing {
namespace {

constexpr at::ScalarType kAllTypes[] = {at::kDouble,
                                        at::kFloat,
                                        at::kHalf,
                                        at::kBFloat16,
                                        at::kLong,
                                        at::kInt,
                                        at::kShort,
                                        at::kChar,
                                        at::ScalarType::UInt64,
                                        at::ScalarType::UInt32,
                                        at::ScalarType::UInt16,
                                        at::kByte,
                                        at::kBool,
                                        at::kComplexFloat,
                                        at::kFloat8_e4m3fn,
                                        at::kFloat8_e5m2};

// Any bytes as a tensor of the type (BOOL: 0 and 1 only).
at::Tensor random_tensor(at::IntArrayRef shape, at::ScalarType type, uint64_t seed) {
  torch::manual_seed(seed);
  if (type == at::kBool) return at::randint(0, 2, shape, at::kByte).to(at::kBool);
  auto bytes = shape.vec();
  bytes.push_back(static_cast<int64_t>(c10::elementSize(type)));
  return at::randint(0, 256, bytes, at::kByte).view(type).squeeze(-1).clone();
}

// Equal to the last bit, NaN payloads and all.
void expect_same_bytes(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.scalar_type(), b.scalar_type());
  ASSERT_EQ(a.sizes(), b.sizes());
  const auto x = a.contiguous(), y = b.contiguous();
  EXPECT_EQ(std::string(static_cast<const char*>(x.const_data_ptr()), x.nbytes()),
            std::string(static_cast<const char*>(y.const_data_ptr()), y.nbytes()));
}

TEST(Safetensors, EveryDtypeAndShapeComesBackToTheBit) {
  const TemporaryFolder folder;
  const auto path = folder / "all.safetensors";
  const std::vector<std::vector<int64_t>> shapes = {{}, {1}, {7}, {0}, {3, 0, 2}, {2, 3, 5}, {1, 1, 1, 1, 1, 2}};
  for (uint64_t seed = 0; seed < 4; ++seed) {
    io::TensorMap tensors;
    for (const auto type : kAllTypes) {
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        tensors[std::string(io::safetensors_dtype(type)) + "." + std::to_string(i)] =
            random_tensor(shapes[i], type, seed);
      }
    }
    io::save_safetensors(path, tensors, {{"seed", std::to_string(seed)}, {"text", "a\"b\\\n\xc3\xa4"}});
    const io::SafetensorsFile file{std::filesystem::path(path)};
    ASSERT_EQ(file.names().size(), tensors.size());
    EXPECT_EQ(file.metadata().at("text"), "a\"b\\\n\xc3\xa4");
    for (const auto& [name, tensor] : tensors) expect_same_bytes(file.tensor(name), tensor);
    for (const auto& [name, tensor] : io::load_safetensors(path)) expect_same_bytes(tensor, tensors.at(name));
  }
}

TEST(Safetensors, StridesViewsAndLazyBitsAreWrittenAsTheyLook) {
  const auto base = at::arange(24, at::kFloat).view({2, 3, 4});
  const auto complex = at::complex(at::arange(3, at::kFloat), at::ones({3}));
  const io::TensorMap tensors = {{"transposed", base.transpose(0, 2)},
                                 {"every_other", base.select(2, 1).slice(1, 0, 3, 2)},
                                 {"expanded", at::arange(3, at::kFloat).view({3, 1}).expand({3, 4})},
                                 {"conjugate", complex.conj()},
                                 {"negated", at::_neg_view(base)}};
  const io::SafetensorsFile file(io::to_safetensors(tensors));
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(file.tensor(name).is_contiguous()) << name;
    EXPECT_TRUE(at::equal(file.tensor(name), tensor.resolve_conj().resolve_neg())) << name;
  }
}

TEST(Safetensors, TheSameTensorsGiveTheSameBytesAndEveryTensorIsAligned) {
  const io::TensorMap tensors = {{"a", at::ones({3}, at::kByte)},
                                 {"b", at::ones({5}, at::kDouble)},
                                 {"c", at::ones({1}, at::kHalf)},
                                 {"d", at::ones({}, at::kFloat)}};
  const auto bytes = io::to_safetensors(tensors, {{"k", "v"}});
  EXPECT_EQ(bytes, io::to_safetensors(tensors, {{"k", "v"}}));
  const auto header = io::parse_safetensors_header(bytes);
  for (const auto& [name, entry] : header.tensors) {
    EXPECT_EQ(entry.begin % io::safetensors_dtype_size(entry.dtype), 0u) << name;
  }
  EXPECT_EQ(header.tensors.at("b").begin % 8, 0u);
}

TEST(Safetensors, TensorsOutliveTheFileObjectAndShareItsMapping) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  io::save_safetensors(path, {{"x", at::arange(5, at::kFloat)}});
  at::Tensor first, second;
  {
    const io::SafetensorsFile file{std::filesystem::path(path)};
    first = file.tensor("x");
    second = file.tensor("x");
  }
  EXPECT_EQ(first.data_ptr(), second.data_ptr());
  first.add_(1);  // private: neither a crash nor a change of the file
  EXPECT_TENSOR_EQ(second, at::arange(1, 6, at::kFloat));
  EXPECT_TENSOR_EQ(io::load_safetensors(path).at("x"), at::arange(5, at::kFloat));
  io::save_safetensors(path, {{"x", at::zeros({5})}});  // replaced by rename: the mapping keeps the old file
  EXPECT_TENSOR_EQ(first, at::arange(1, 6, at::kFloat));
}

TEST(Safetensors, DataThatAreNotAlignedAreCopied) {
  const auto data = at::arange(3, at::kDouble);
  std::string bytes("\x07", 1);
  bytes.append(static_cast<const char*>(data.const_data_ptr()), 24);
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"F64","shape":[3],"data_offsets":[1,25]}})";
  for (std::size_t padding = 0; padding < 8; ++padding) {
    const io::SafetensorsFile file(safetensors_bytes(header + std::string(padding, ' '), bytes));
    const auto x = file.tensor("x");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data_ptr()) % 8, 0u);
    EXPECT_TENSOR_EQ(x, data);
    EXPECT_EQ(file.tensor("a").item<int64_t>(), 7);
  }
}

TEST(Safetensors, ABoolByteOtherThanZeroAndOneIsRefused) {
  const io::SafetensorsFile file(
      safetensors_bytes(R"({"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", std::string("\x01\x02", 2)),
      "m");
  EXPECT_ERROR_KIND((void)file.tensor("mask"), ErrorKind::file, "m: tensor mask: a BOOL byte is neither 0 nor 1");
}

TEST(Safetensors, AMissingTensorNamesTheNearest) {
  const io::SafetensorsFile file(io::to_safetensors({{"encoder.weight", at::ones({1})}}), "m.safetensors");
  EXPECT_ERROR_KIND((void)file.tensor("encoder.wieght"), ErrorKind::file,
                    "m.safetensors: there is no tensor encoder.wieght; did you mean encoder.weight?");
}

TEST(Safetensors, WhatCannotBeWrittenIsRefusedBeforeAnyFileIsTouched) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  io::save_safetensors(path, {{"x", at::ones({2})}});
  const auto before = read_file(path);
  EXPECT_ERROR_KIND(io::save_safetensors(path, {{"__metadata__", at::ones({1})}}), ErrorKind::argument,
                    "save_safetensors: a tensor cannot be called __metadata__");
  EXPECT_ERROR(io::save_safetensors(path, {{"u", at::Tensor()}}), "save_safetensors: tensor u is undefined");
  EXPECT_ERROR(io::save_safetensors(path, {{"z", at::ones({1}, at::kComplexDouble)}}),
               "save_safetensors: tensor z: the format has no dtype complex128");
  EXPECT_ERROR(io::save_safetensors(path, {{"s", at::eye(2).to_sparse()}}),
               "save_safetensors: tensor s must be dense and hold data, got float32 [2, 2]");
  EXPECT_ERROR(io::save_safetensors(path, {{"m", at::empty({2}, at::TensorOptions().device(at::kMeta))}}),
               "save_safetensors: tensor m must be dense and hold data");
  EXPECT_ERROR(io::save_safetensors(path, {{"\xff", at::ones({1})}}),
               "save_safetensors: names and metadata must be UTF-8");
  EXPECT_EQ(read_file(path), before);
}

TEST(Safetensors, AWriteThatFailsLeavesTheOldFile) {
  const TemporaryFolder folder;
  EXPECT_ERROR_KIND(io::save_safetensors(folder / "no/such/folder/x.safetensors", {{"x", at::ones({1})}}),
                    ErrorKind::file, "no/such/folder/x.safetensors");
  EXPECT_ERROR_KIND(io::SafetensorsFile{std::filesystem::path(folder / "none.safetensors")}, ErrorKind::file,
                    "none.safetensors");
}

TEST(Safetensors, PickleFilesAreRefusedInOneSentenceThatSaysHowToConvert) {
  const TemporaryFolder folder;
  for (const std::string& name : {"model.pt", "model.pth", "model.bin", "model.ckpt", "MODEL.PT", "weights"}) {
    for (const std::string& content : {std::string("PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00", 12),
                                       std::string("\x80\x02}q\x00(X\x01\x00\x00\x00", 11)}) {
      const auto path = folder / name;
      std::ofstream(path, std::ios::binary) << content;
      EXPECT_ERROR_KIND(
          io::SafetensorsFile{std::filesystem::path(path)}, ErrorKind::file,
          "pickle files are never read, because they can run code; convert it in Python: import torch; from "
          "safetensors.torch import save_file; save_file({k: v.clone() for k, v in torch.load(\"" +
              name + "\"");
    }
  }
  std::ofstream(folder / "text.pt") << "no pickle at all";
  EXPECT_ERROR(io::SafetensorsFile{std::filesystem::path(folder / "text.pt")}, "\"text.safetensors\"");
  // The first bytes 80 02 are a fine header length too.
  const std::string header = "{" + std::string(638, ' ') + "}";
  EXPECT_NO_THROW(io::SafetensorsFile(safetensors_bytes(header), "odd.pt"));
}

}  // namespace
}  // namespace winnow::testing

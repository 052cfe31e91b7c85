#include "winnow/models/weight_map.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::models {
namespace {

at::Tensor counting(std::vector<int64_t> shape, double start = 0) {
  int64_t n = 1;
  for (const auto size : shape) n *= size;
  return at::arange(start, start + static_cast<double>(n), at::kFloat).reshape(shape);
}

// A checkpoint of these tensors, which lives as long as the object.
struct File {
  explicit File(const io::TensorMap& tensors) { io::save_safetensors(folder.path() / "model.safetensors", tensors); }
  io::Checkpoint open() const { return io::Checkpoint(folder.path()); }
  std::string name() const { return folder.path().string(); }
  testing::TemporaryFolder folder;
};

// A fused [6, 2] matrix that published files hold as q, k, v and others whole, and a vector under two names.
struct Fused {
  Fused() {
    map.add_forms({{{.name = "net.q", .parts = {rows(qkv, 0, 2)}},
                    {.name = "net.k", .parts = {rows(qkv, 2, 2)}},
                    {.name = "net.v", .parts = {rows(qkv, 4, 2)}}},
                   {{.name = "qkv", .parts = {whole(qkv)}}}});
    map.add(bias, {"net.bias", "b"});
    map.accept_prefix("net.");
  }
  at::Tensor qkv = at::zeros({6, 2}), bias = at::zeros({3});
  WeightMap map{{"published", "other"}};
};

TEST(WeightMap, RowsOfAFusedMatrixComeFromThreeTensors) {
  Fused f;
  const File file({{"net.q", counting({2, 2})},
                   {"net.k", counting({2, 2}, 4)},
                   {"net.v", counting({2, 2}, 8)},
                   {"net.bias", counting({3})}});
  f.map.load(file.open());
  EXPECT_TENSOR_EQ(f.qkv, counting({6, 2}));
  EXPECT_TENSOR_EQ(f.bias, counting({3}));
}

TEST(WeightMap, AnotherStyleAndAMixtureOfStylesGiveTheSame) {
  for (const auto* bias : {"b", "net.bias", "bias"}) {
    Fused f;
    const File file({{"qkv", counting({6, 2})}, {bias, counting({3})}});
    f.map.load(file.open());
    EXPECT_TENSOR_EQ(f.qkv, counting({6, 2}));
    EXPECT_TENSOR_EQ(f.bias, counting({3}));
  }
}

TEST(WeightMap, ThePrefixMayBeAbsentOrAdded) {
  Fused f;
  const File bare(
      {{"q", counting({2, 2})}, {"k", counting({2, 2})}, {"v", counting({2, 2})}, {"net.b", counting({3})}});
  f.map.load(bare.open());
  EXPECT_TENSOR_EQ(f.qkv, counting({2, 2}).repeat({3, 1}));
  EXPECT_TENSOR_EQ(f.bias, counting({3}));
}

TEST(WeightMap, OnlyTheFirstStyleIsWrittenAndReadsBack) {
  Fused f;
  f.qkv.copy_(counting({6, 2}));
  f.bias.copy_(counting({3}, 7));
  EXPECT_EQ(f.map.names(), (std::vector<std::string>{"net.bias", "net.k", "net.q", "net.v"}));
  const File file(f.map.tensors());
  EXPECT_EQ(file.open().names(), f.map.names());
  EXPECT_TENSOR_EQ(file.open().tensor("net.k"), counting({2, 2}, 4));
  Fused again;
  again.map.load(file.open());
  EXPECT_TENSOR_EQ(again.qkv, f.qkv);
  EXPECT_TENSOR_EQ(again.bias, f.bias);
}

TEST(WeightMap, AParameterGivenTwiceIsAnError) {
  Fused f;
  const File prefix({{"qkv", counting({6, 2})}, {"net.bias", counting({3})}, {"bias", counting({3})}});
  EXPECT_ERROR_KIND(f.map.load(prefix.open()), ErrorKind::file,
                    prefix.name() + ": net.bias and bias are two names of one parameter, both are there");
  const File style({{"qkv", counting({6, 2})},
                    {"net.q", counting({2, 2})},
                    {"net.k", counting({2, 2})},
                    {"net.v", counting({2, 2})},
                    {"b", counting({3})}});
  EXPECT_ERROR(f.map.load(style.open()), "net.q and qkv are two names of one parameter, both are there");
}

TEST(WeightMap, AMissingNameIsToldInTheStyleOfTheFileAndNothingChanges) {
  Fused f;
  const File file({{"qkv", counting({6, 2})}, {"bb", counting({3})}});
  EXPECT_ERROR_KIND(f.map.load(file.open()), ErrorKind::file, "b (nearest: bb)");
  EXPECT_ERROR(f.map.load(file.open()), file.name());
  EXPECT_TENSOR_EQ(f.qkv, at::zeros({6, 2}));
  const File published({{"net.q", counting({2, 2})}, {"net.v", counting({2, 2})}, {"net.bias", counting({3})}});
  EXPECT_ERROR(f.map.load(published.open()), "net.k");
  const File bare({{"q", counting({2, 2})}, {"v", counting({2, 2})}, {"bias", counting({3})}});
  try {
    f.map.load(bare.open());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("net.k"), std::string::npos) << error.what();
  }
}

TEST(WeightMap, AWrongShapeIsToldWithBothShapesAndNothingChanges) {
  Fused f;
  const File file({{"qkv", counting({6, 2})}, {"b", counting({4})}});
  EXPECT_ERROR(f.map.load(file.open()), "[3]");
  EXPECT_ERROR(f.map.load(file.open()), "[4]");
  EXPECT_TENSOR_EQ(f.qkv, at::zeros({6, 2}));
}

TEST(WeightMap, UnexpectedNamesAreErrorsUnlessIgnoredByTheirExactName) {
  Fused f;
  f.map.ignore({"net.mask"});
  const io::TensorMap good{{"qkv", counting({6, 2})}, {"b", counting({3})}};
  auto with_mask = good;
  with_mask["net.mask"] = counting({1});
  f.map.load(File(with_mask).open());
  EXPECT_TENSOR_EQ(f.qkv, counting({6, 2}));
  auto with_more = good;
  with_more["net.mask2"] = counting({1});
  EXPECT_ERROR(f.map.load(File(with_more).open()), "net.mask2");
  f.map.load(File(with_more).open(), {.ignore_unexpected = {"net.mask*"}});
}

TEST(WeightMap, TheCallerMayAllowMissingParametersWhichThenKeepTheirValues) {
  Fused f;
  f.bias.fill_(5);
  const File file({{"qkv", counting({6, 2})}});
  EXPECT_ERROR(f.map.load(file.open()), "missing");
  f.map.load(file.open(), {.ignore_missing = {"b"}});
  EXPECT_TENSOR_EQ(f.bias, at::full({3}, 5.0f));
  EXPECT_TENSOR_EQ(f.qkv, counting({6, 2}));
}

TEST(WeightMap, AnOptionalParameterKeepsItsValueWhereTheFileLacksIt) {
  const auto table = at::full({2}, 3.0f), weight = at::zeros({2});
  WeightMap map({"published"});
  map.add(table, {"table"}, WeightNeed::optional);
  map.add(weight, {"weight"});
  map.load(File({{"weight", counting({2})}}).open());
  EXPECT_TENSOR_EQ(table, at::full({2}, 3.0f));
  map.load(File({{"weight", counting({2})}, {"table", counting({2}, 8)}}).open());
  EXPECT_TENSOR_EQ(table, counting({2}, 8));
}

TEST(WeightMap, ATiedCopyMustBeEqualAndIsNeverWritten) {
  const auto words = at::zeros({2, 2});
  WeightMap map({"published"});
  map.add(words, {"words"});
  map.tie("head", "words");
  map.load(File({{"words", counting({2, 2})}}).open());
  map.load(File({{"words", counting({2, 2})}, {"head", counting({2, 2})}}).open());
  EXPECT_TENSOR_EQ(words, counting({2, 2}));
  EXPECT_ERROR_KIND(map.load(File({{"words", counting({2, 2})}, {"head", counting({2, 2}, 1)}}).open()),
                    ErrorKind::file, "head must hold the same values as words, to which it is tied");
  EXPECT_EQ(map.names(), std::vector<std::string>{"words"});
}

TEST(WeightMap, ATransposedTensorIsReadAndWrittenTransposed) {
  const auto weight = at::zeros({3, 2});
  WeightMap map({"published"});
  map.add_forms({{{.name = "conv1d", .parts = {transposed(whole(weight))}}}});
  map.load(File({{"conv1d", counting({2, 3})}}).open());
  EXPECT_TENSOR_EQ(weight, counting({2, 3}).t());
  EXPECT_TENSOR_EQ(map.tensors().at("conv1d"), counting({2, 3}));
  EXPECT_ERROR(map.load(File({{"conv1d", counting({3, 2})}}).open()), "[2, 3]");
}

TEST(WeightMap, PartsOfSeveralParametersLieBehindEachOther) {
  const auto gate = at::zeros({2, 2}), up = at::zeros({1, 2});
  WeightMap map({"published", "apart"});
  map.add_forms({{{.name = "both", .parts = {whole(gate), whole(up)}}},
                 {{.name = "gate", .parts = {whole(gate)}}, {.name = "up", .parts = {whole(up)}}}});
  map.load(File({{"both", counting({3, 2})}}).open());
  EXPECT_TENSOR_EQ(gate, counting({2, 2}));
  EXPECT_TENSOR_EQ(up, counting({1, 2}, 4));
  EXPECT_TENSOR_EQ(map.tensors().at("both"), counting({3, 2}));
  map.load(File({{"up", counting({1, 2})}, {"gate", counting({2, 2}, 2)}}).open());
  EXPECT_TENSOR_EQ(map.value("both"), at::tensor({2.f, 3.f, 4.f, 5.f, 0.f, 1.f}).view({3, 2}));
}

// GPT-NeoX: rows go head by head, inside a head q, k, v; here 2 heads of 1 row each.
TEST(WeightMap, AnyOrderOfRowsIsAView) {
  const auto qkv = at::zeros({6, 2});
  WeightMap map({"published"});
  const auto by_head = [](const at::Tensor& x) { return x.view({3, 2, -1}).transpose(0, 1); };
  map.add_forms({{{.name = "query_key_value", .parts = {{.parameter = qkv, .view = by_head}}, .shape = {6, 2}}}});
  map.load(File({{"query_key_value", counting({6, 2})}}).open());
  // File rows q0 k0 v0 q1 k1 v1 -> q0 q1 k0 k1 v0 v1.
  EXPECT_TENSOR_EQ(qkv, counting({6, 2}).index_select(0, at::tensor({0, 3, 1, 4, 2, 5})));
  EXPECT_TENSOR_EQ(map.tensors().at("query_key_value"), counting({6, 2}));
}

TEST(WeightMap, GradientsAreFoundByAnyNameInTheFormOfTheFile) {
  Fused f;
  f.qkv.requires_grad_(true);
  EXPECT_FALSE(f.map.gradient("net.k").defined());
  (f.qkv * counting({6, 2})).sum().backward();
  EXPECT_TENSOR_EQ(f.map.gradient("net.k"), counting({2, 2}, 4));
  EXPECT_TENSOR_EQ(f.map.gradient("k"), counting({2, 2}, 4));
  EXPECT_TENSOR_EQ(f.map.gradient("qkv"), counting({6, 2}));
  EXPECT_ERROR((void)f.map.gradient("net.qq"), "WeightMap: no tensor is named net.qq; did you mean net.q?");
}

TEST(WeightMap, HalfPrecisionFilesAreWidened) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    Fused f;
    const auto values = at::randn({6, 2}).to(type);
    f.map.load(File({{"qkv", values}, {"b", counting({3}).to(type)}}).open());
    EXPECT_TENSOR_EQ(f.qkv, values.to(at::kFloat));
  }
}

TEST(WeightMap, WholeNumbersWhereFloatsAreWantedAreRefused) {
  Fused f;
  const File file({{"qkv", counting({6, 2}).to(at::kLong)}, {"b", counting({3})}});
  EXPECT_ERROR_KIND(f.map.load(file.open()), ErrorKind::file, "qkv");
}

}  // namespace
}  // namespace winnow::models

#include "winnow/io/load_state.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::testing {
namespace {

struct TwoLayersImpl : torch::nn::Module {
  TwoLayersImpl() : first(3, 2), second(2, 1) {
    register_module("first", first);
    register_module("second", second);
    steps = register_buffer("steps", at::zeros({}, at::kLong));
  }
  torch::nn::Linear first, second;
  at::Tensor steps;
};
TORCH_MODULE(TwoLayers);

io::TensorMap good() {
  return {{"first.weight", at::ones({2, 3})},
          {"first.bias", at::ones({2})},
          {"second.weight", at::ones({1, 2})},
          {"second.bias", at::ones({1})},
          {"steps", at::full({}, 7, at::kLong)}};
}

TEST(LoadState, AModuleReadsWhatItsStateWrote) {
  const TemporaryFolder folder;
  const TwoLayers from, to;
  from->steps.fill_(5);
  io::save_safetensors(folder / "m.safetensors", io::state_of(*from));
  const auto report = io::load_state(io::state_of(*to), io::Checkpoint(folder / "m.safetensors"));
  EXPECT_EQ(report.loaded, 5);
  EXPECT_EQ(report.summary(), "5 tensors loaded");
  for (const auto& [name, tensor] : io::state_of(*to)) EXPECT_TENSOR_EQ(tensor, io::state_of(*from).at(name));
  EXPECT_TRUE(to->first->weight.requires_grad());
  EXPECT_TRUE(to->first->weight.is_leaf());
}

TEST(LoadState, MissingNamesTheNearestUnexpectedAndNothingIsModified) {
  const TwoLayers net;
  const auto before = net->second->bias.detach().clone();
  auto tensors = good();
  tensors["first.wieght"] = tensors["first.weight"];
  tensors.erase("first.weight");
  EXPECT_ERROR_KIND(io::load_state(io::state_of(*net), tensors, "m.safetensors"), ErrorKind::file,
                    "m.safetensors: the names do not fit; missing: first.weight (nearest: first.wieght); unexpected: "
                    "first.wieght");
  EXPECT_TENSOR_EQ(net->second->bias.detach(), before);
}

TEST(LoadState, AWrongShapeOrDtypeIsAnErrorEvenWhereNamesMayDiffer) {
  const TwoLayers net;
  auto tensors = good();
  tensors["first.weight"] = at::ones({3, 2});
  tensors["steps"] = at::ones({});
  const auto before = net->second->bias.detach().clone();
  EXPECT_ERROR_KIND(
      io::load_state(io::state_of(*net), tensors, "m", {.strict = false}), ErrorKind::file,
      "m: first.weight must have shape [2, 3], found [3, 2]; m: steps must have dtype int64, found float32");
  EXPECT_TENSOR_EQ(net->second->bias.detach(), before);
}

TEST(LoadState, LenientLoadingReportsWhatItLeft) {
  const TwoLayers net;
  auto tensors = good();
  tensors.erase("steps");
  tensors["head"] = at::ones({1});
  const auto report = io::load_state(io::state_of(*net), tensors, "m", {.strict = false});
  EXPECT_EQ(report.summary(), "4 tensors loaded; missing: steps; unexpected: head");
  EXPECT_TENSOR_EQ(net->first->weight.detach(), at::ones({2, 3}));
}

TEST(LoadState, PatternsExcuseNamesOnBothSides) {
  const TwoLayers net;
  auto tensors = good();
  tensors.erase("second.weight");
  tensors.erase("second.bias");
  tensors["decoder.0.weight"] = at::ones({1});
  tensors["attention.masked_bias"] = at::ones({1});
  const io::LoadOptions options{.ignore_missing = {"second.*"},
                                .ignore_unexpected = {"decoder.*.weight", "*masked_bias"}};
  EXPECT_EQ(io::load_state(io::state_of(*net), tensors, "m", options).summary(), "3 tensors loaded");
  EXPECT_ERROR(
      io::load_state(io::state_of(*net), tensors, "m", {.ignore_missing = {"second"}, .ignore_unexpected = {"*"}}),
      "m: the names do not fit; missing: second.bias, second.weight");
}

TEST(LoadState, OnlyNamesBehindThePrefixCount) {
  const TwoLayers net;
  io::TensorMap tensors = {{"head.weight", at::ones({1})}};
  for (const auto& [name, tensor] : good()) tensors["model." + name] = tensor;
  EXPECT_EQ(io::load_state(io::state_of(*net), tensors, "m", {.prefix = "model."}).loaded, 5);
}

TEST(LoadState, HalfPrecisionWidensAndNothingNarrowsUnasked) {
  auto target = at::zeros({2});
  for (const auto type : {at::kHalf, at::kBFloat16, at::kFloat8_e4m3fn}) {
    const auto report = io::load_state({{"x", target}}, {{"x", at::full({2}, 1.5).to(type)}}, "m");
    EXPECT_EQ(report.summary(), "1 tensors loaded, 1 of them converted");
    EXPECT_TENSOR_EQ(target, at::full({2}, 1.5));
    target.zero_();
  }
  auto narrow = at::zeros({2}, at::kBFloat16);
  EXPECT_ERROR(io::load_state({{"x", narrow}}, {{"x", at::ones({2})}}, "m"),
               "m: x must have dtype bfloat16, found float32");
  EXPECT_ERROR(io::load_state({{"x", narrow}}, {{"x", at::ones({2}, at::kHalf)}}, "m"),
               "m: x must have dtype bfloat16, found float16");
  io::load_state({{"x", narrow}}, {{"x", at::ones({2})}}, "m", {.allow_narrowing = true});
  EXPECT_TENSOR_EQ(narrow, at::ones({2}, at::kBFloat16));
  auto index = at::zeros({2}, at::kLong);
  io::load_state({{"x", index}}, {{"x", at::ones({2}, at::kInt)}}, "m");
  EXPECT_TENSOR_EQ(index, at::ones({2}, at::kLong));
  EXPECT_ERROR(io::load_state({{"x", index}}, {{"x", at::ones({2}, at::kBool)}}, "m"),
               "m: x must have dtype int64, found bool");
}

TEST(LoadState, ATargetMayBeAViewOfAParameter) {
  const torch::nn::Linear fused(2, 6);
  const auto q = fused->weight.narrow(0, 0, 2), k = fused->weight.narrow(0, 2, 2), v = fused->weight.narrow(0, 4, 2);
  io::load_state({{"q", q}, {"k", k}, {"v", v}},
                 {{"q", at::full({2, 2}, 1.0)}, {"k", at::full({2, 2}, 2.0)}, {"v", at::full({2, 2}, 3.0)}}, "m");
  EXPECT_TENSOR_EQ(fused->weight.detach().select(1, 0), at::tensor({1.f, 1.f, 2.f, 2.f, 3.f, 3.f}));
}

TEST(LoadState, LongListsAreCut) {
  io::TensorMap targets;
  for (int i = 10; i < 40; ++i) targets["layer" + std::to_string(i)] = at::zeros({1});
  EXPECT_ERROR(io::load_state(targets, {}, "m"), "layer20, layer21 and 18 more");
}

TEST(LoadState, ABadValueIsFoundBeforeTheFirstTargetChanges) {
  const TemporaryFolder folder;
  auto bytes = io::to_safetensors({{"a", at::ones({2})}, {"b", at::ones({2}, at::kBool)}});
  bytes.back() = 9;
  {
    std::ofstream(folder / "m.safetensors", std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  auto a = at::zeros({2}), b = at::zeros({2}, at::kBool);
  EXPECT_ERROR(io::load_state({{"a", a}, {"b", b}}, io::Checkpoint(folder / "m.safetensors")),
               "a BOOL byte is neither 0 nor 1");
  EXPECT_TENSOR_EQ(a, at::zeros({2}));
}

}  // namespace
}  // namespace winnow::testing

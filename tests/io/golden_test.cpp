#include "support/golden.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>
#include <iostream>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::testing {
namespace {

// What the reader gives is used by every golden test; here it is tested on files made on the spot.
class CaseReader : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* old = std::getenv("WINNOW_GOLDEN_DIR")) before_ = old;
    ::setenv("WINNOW_GOLDEN_DIR", folder_.path().c_str(), 1);
  }
  void TearDown() override {
    if (before_.empty()) {
      ::unsetenv("WINNOW_GOLDEN_DIR");
    } else {
      ::setenv("WINNOW_GOLDEN_DIR", before_.c_str(), 1);
    }
  }
  std::string case_path(const std::string& name) const {
    const std::filesystem::path path = folder_ / ("methods/mae/" + name + ".safetensors");
    std::filesystem::create_directories(path.parent_path());
    return path.string();
  }
  void write_case(const std::string& name, const io::TensorMap& tensors,
                  const io::StringMap& metadata = {{"kind", "lars"},
                                                   {"options", "{\"seed\": 3, \"rates\": [0.5]}"}}) const {
    io::save_safetensors(case_path(name), tensors, metadata);
  }
  TemporaryFolder folder_;
  std::string before_;
};

TEST_F(CaseReader, EveryCaseOfTheKindIsRunOnce) {
  write_case("a", {{"in.x", at::ones({2})}, {"w.layer.weight", at::zeros({1})}});
  write_case("deeper/b", {{"in.x", at::ones({3})}});
  write_case("c", {{"in.x", at::ones({4})}}, {{"kind", "adan"}, {"options", "{}"}});
  write_case("weights", {{"x", at::ones({4})}}, {});
  std::vector<int64_t> seen;
  golden::for_each("mae", "lars", [&](const golden::Case& c) {
    seen.push_back(c["in.x"].numel());
    EXPECT_EQ(c.option<int64_t>("seed"), 3);
    EXPECT_EQ(c.option<std::vector<double>>("rates"), std::vector<double>{0.5});
    EXPECT_EQ(c.module, "mae");
    EXPECT_EQ(c.kind, "lars");
    c["in.x"].zero_();  // a copy
    EXPECT_TENSOR_EQ(c["in.x"], at::ones({seen.back()}));
    if (c.has("w.layer.weight")) {
      EXPECT_EQ(c.with_prefix("w.").begin()->first, "layer.weight");
    }
    EXPECT_ERROR_KIND(c["in.y"], ErrorKind::file, "there is no tensor in.y; did you mean in.x?");
    EXPECT_ERROR((void)c.option<int64_t>("sed"), ": options.sed is missing (nearest: seed)");
  });
  EXPECT_EQ(seen, (std::vector<int64_t>{2, 3}));
}

TEST_F(CaseReader, ValuesWithinTheToleranceAgreeAndOthersAreNamed) {
  write_case("a", {{"out.x", at::tensor({1.0f, 100.0f})},
                   {"grad.x", at::tensor({1.0f, 1000.0f})},
                   {"out.i", at::tensor({1, 2})},
                   {"out.mask", at::tensor({0, 1}, at::kByte)},
                   {"out.loss", at::scalar_tensor(2.0)},
                   {"out.inf", at::full({1}, std::numeric_limits<float>::infinity())}});
  const golden::Case c(case_path("a"), {.rtol = 1e-2, .atol = 1e-3});
  c.expect("out.x", at::tensor({1.01f, 100.9f}));
  c.expect("out.x", at::tensor({1.01, 100.9}, at::kDouble));
  c.expect("grad.x", at::tensor({1.9f, 1000.0f}));  // the absolute part is 1e-3 * 1000
  c.expect("out.i", at::tensor({1, 2}, at::kInt));
  c.expect("out.mask", at::tensor({0, 1}).to(at::kBool));
  c.expect("out.loss", 2.001);
  c.expect("out.inf", at::full({1}, std::numeric_limits<float>::infinity()));
  const auto fails = [&](const std::string& name, const at::Tensor& got, const std::string& message) {
    ::testing::TestPartResultArray results;
    {
      const ::testing::ScopedFakeTestPartResultReporter reporter(
          ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
      c.expect(name, got);
    }
    ASSERT_EQ(results.size(), 1) << name;
    EXPECT_NE(std::string(results.GetTestPartResult(0).message()).find(message), std::string::npos)
        << results.GetTestPartResult(0).message();
  };
  fails("out.x", at::tensor({1.0f, 102.0f}),
        "a.safetensors: out.x: 1 of 2 values are off, the worst at [1]: wanted 100, got 102, difference 2, allowed 1");
  fails("out.x", at::tensor({std::nanf(""), 100.0f}), "the worst at [0]: wanted 1, got nan");
  fails("out.x", at::ones({1, 2}), "out.x: wanted shape [2], got [1, 2]");
  fails("out.x", at::ones({2}, at::kLong), "out.x: wanted dtype float32, got int64");
  fails("out.i", at::tensor({1, 3}), "out.i: 1 of 2 values differ, the first at [1]: wanted 2, got 3");
  fails("out.i", at::tensor({1.0f, 2.0f}), "out.i: wanted dtype int32, got float32");
  fails("out.mask", at::tensor({1, 1}).to(at::kBool),
        "out.mask: 1 of 2 values differ, the first at [0]: wanted 0, got 1");
  fails("out.inf", at::zeros({1}), "out.inf: 1 of 1 values are off");
  fails("out.x", at::Tensor(), "out.x: got an undefined tensor");
}

TEST_F(CaseReader, AMalformedFileFailsWithItsName) {
  const auto refuses = [&](const std::string& name, const io::StringMap& metadata, const std::string& message) {
    write_case(name, {{"in.x", at::ones({1})}}, metadata);
    EXPECT_ERROR_KIND(golden::Case(case_path(name)), ErrorKind::file, name + ".safetensors: metadata: " + message);
  };
  refuses("a", {{"options", "{}"}}, "kind is missing");
  refuses("b", {{"kind", "lars"}}, "options is missing");
  refuses("c", {{"kind", "lars"}, {"options", "{"}}, "options: line 1");
  refuses("d", {{"kind", "lars"}, {"options", "[]"}}, "options must be an object");
  write_case("e", {});
  EXPECT_ERROR(golden::Case(case_path("e")), "e.safetensors: no tensors");
}

TEST_F(CaseReader, AnExceptionOrAnUnlistedKindIsAFailure) {
  write_case("a", {{"in.x", at::ones({1})}});
  EXPECT_NONFATAL_FAILURE(golden::for_each("mae", "lars", [](const golden::Case& c) { (void)c["in.z"]; }),
                          "there is no tensor in.z");
  EXPECT_NONFATAL_FAILURE(golden::for_each("mae", "no_such_kind", [](const golden::Case&) {}),
                          "mae/no_such_kind must be listed in tests/support/golden_kinds.inc");
}

TEST_F(CaseReader, AModelFolderIsRunInEachOfItsForms) {
  const std::filesystem::path model = folder_ / "hf/vit/tiny";
  std::filesystem::create_directories(model);
  io::write_json(model / "config.json", {{"architectures", {"ViTModel"}}, {"hidden_size", 8}});
  io::save_safetensors(model / "model.safetensors", {{"w", at::ones({1})}});
  io::save_safetensors(model / "golden.safetensors",
                       {{"full.in.x", at::ones({2})},
                        {"full.out.y", at::tensor({1.0f, 2.0f})},
                        {"full.out.i", at::tensor({1})},
                        {"full.out64.y", at::tensor({1.0, 2.0}, at::kDouble)}},
                       {{"options", R"({"runs":{"full":{"kind":"vit","options":{"interpolate":true}}}})"},
                        {"tolerance", R"({"columns":[],"tensors":{"full.out.y":[2.0,1e-6,1e-2]}})"}});
  std::vector<std::string> forms;
  const auto run = [&](const golden::HfCase& c) {
    forms.push_back(c.form);
    ASSERT_EQ(c.runs.size(), 1u);
    EXPECT_EQ(c.runs[0].name, "full");
    EXPECT_EQ(c.runs[0].kind, "vit");
    EXPECT_EQ(c.runs[0].options["interpolate"], true);
    EXPECT_EQ(c.checkpoint().tensor("w").numel(), 1);
    c.expect("full.out.y", at::tensor({1.009f, 2.0f}));
    c.expect("full.out.i", at::tensor({1}));
    c.expect("full.out64.y", at::tensor({1.0, 2.0 + 1e-9}, at::kDouble));
    EXPECT_NONFATAL_FAILURE(c.expect("full.out.y", at::tensor({1.011f, 2.0f})),
                            "tiny (" + c.form + "): full.out.y: 1 of 2 values are off");
    EXPECT_NONFATAL_FAILURE(c.expect("full.in.x", at::ones({2})), "the metadata give no tolerance");
  };
  golden::for_each_hf("ViTModel", run);
  EXPECT_EQ(forms, (std::vector<std::string>{"transformers5"}));
  io::write_json(model / "config.published.json", {{"architectures", {"ViTModel"}}, {"hidden_size", 9}});
  io::save_safetensors(model / "model.transformers5.safetensors", {{"w", at::ones({1})}});
  forms.clear();
  golden::for_each_hf("ViTModel", [&](const golden::HfCase& c) {
    run(c);
    EXPECT_EQ(c.config().get<int64_t>("hidden_size"), c.form == "published" ? 9 : 8);
  });
  EXPECT_EQ(forms, (std::vector<std::string>{"transformers5", "published", "saved_by_5"}));
  io::save_checkpoint(model, {{"w", at::ones({1})}, {"v", at::ones({1})}}, {}, {.max_shard_bytes = 4});
  forms.clear();
  golden::for_each_hf("ViTModel", run);
  EXPECT_EQ(forms.size(), 3u);
}

// Every file of the root must be readable, and the kinds that no test runs are counted and printed.
TEST(InventoryGolden, EveryFileOfTheRootIsWellFormed) {
  int64_t cases = 0, folders = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(golden::root().path)) {
    const auto path = item.path();
    if (path.extension() == ".safetensors") {
      const io::SafetensorsFile file(path);
      for (const auto& name : file.names()) EXPECT_NO_THROW((void)file.tensor(name)) << path << ": " << name;
      if (!file.metadata().contains("kind")) continue;
      EXPECT_NO_THROW(golden::Case{path}) << path;
      ++cases;
    }
    folders += path.filename() == "config.json";
  }
  EXPECT_GT(cases + folders, 0) << golden::root().path;
  const auto missing = golden::kinds_without_test();
  std::cout << "golden: " << cases << " cases and " << folders << " model folders under "
            << golden::root().path.string() << "; " << missing.size() << " kinds without a test";
  for (std::size_t i = 0; i < missing.size(); ++i) std::cout << (i == 0 ? ": " : ", ") << missing[i];
  std::cout << std::endl;
  if (!golden::root().from_environment) {
    EXPECT_TRUE(missing.empty()) << "tests/golden holds what no test runs";
  }
}

}  // namespace
}  // namespace winnow::testing

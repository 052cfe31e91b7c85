#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include "support/devices.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/masking.h"
#include "winnow/tensor/norm.h"
#include "winnow/tensor/patches.h"
#include "winnow/tensor/runtime.h"

namespace winnow {
namespace {

c10::OperatorHandle find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

const std::vector<const char*> kOperators = {"winnow::gather_tokens",       "winnow::gather_tokens_backward",
                                             "winnow::restore_tokens",      "winnow::restore_tokens_backward",
                                             "winnow::masking_permutation", "winnow::gather_patches",
                                             "winnow::masked_patch_loss",   "winnow::masked_patch_loss_backward",
                                             "winnow::add_layer_norm",      "winnow::add_layer_norm_backward",
                                             "winnow::linear_rows"};

TEST(Library, EveryOperatorCoversCpuCudaAndMeta) {
  for (const auto* name : kOperators) {
    const auto op = find(name);
    for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA, c10::DispatchKey::Meta}) {
      EXPECT_TRUE(op.hasKernelForDispatchKey(key)) << name << ' ' << c10::toString(key);
    }
  }
}

TEST(Library, AScriptCanCallAnOperatorByName) {
  torch::jit::Stack stack{at::arange(6, at::kFloat).view({1, 3, 2}), at::tensor({2, 0}, at::kLong).view({1, 2})};
  find("winnow::gather_tokens").callBoxed(stack);
  EXPECT_TENSOR_EQ(stack.at(0).toTensor(), at::tensor({4.F, 5.F, 0.F, 1.F}).view({1, 2, 2}));
}

TEST(Library, ShapesAloneAreEnoughForMetaTensors) {
  const auto meta = at::TensorOptions(at::kMeta);
  const auto x = at::empty({2, 5, 8}, meta), ids = at::empty({2, 3}, meta.dtype(at::kLong));
  const auto all = at::empty({2, 7}, meta.dtype(at::kLong)), row = at::empty({8}, meta);
  EXPECT_EQ(gather_tokens(x, ids).sizes(), at::IntArrayRef({2, 3, 8}));
  EXPECT_EQ(restore_tokens(x, all, row, {}, 1).sizes(), at::IntArrayRef({2, 8, 8}));
  EXPECT_EQ(masking_permutation(at::empty({2, 7}, meta), 3).ids_keep.sizes(), at::IntArrayRef({2, 3}));
  EXPECT_EQ(add_layer_norm(x, x, row, row).sum.sizes(), x.sizes());
  const auto images = at::empty({2, 3, 4, 6}, meta);
  EXPECT_EQ(gather_patches(images, 2, ids).sizes(), at::IntArrayRef({2, 3, 12}));
  const auto loss = masked_patch_loss(at::empty({2, 6, 12}, meta), images, at::empty({2, 6}, meta), {.patch = 2});
  EXPECT_EQ(loss.dim(), 0);
  EXPECT_TRUE(loss.is_meta());
}

TEST(Library, AnotherDeviceOrLayoutIsAClearError) {
  // A tensor without storage: LibTorch's own binaries bring no kernels for this device, but they know its name.
  const at::Tensor foreign = at::detail::make_tensor<c10::TensorImpl>(
      c10::DispatchKeySet(c10::DispatchKey::XLA), caffe2::TypeMeta::Make<float>(), c10::Device(at::kXLA, 0));
  const auto ids = at::zeros({1, 1}, at::kLong);
  EXPECT_ERROR_KIND(gather_tokens(foreign, ids), ErrorKind::unsupported,
                    "gather_tokens: tensors must be dense and on cpu, cuda or meta, got xla:0");
  const auto sparse = at::eye(3).to_sparse();
  EXPECT_ERROR(add_layer_norm(sparse, sparse, at::ones({3}), at::zeros({3})),
               "add_layer_norm: tensors must be dense and on cpu, cuda or meta, got Sparse");
}

TEST(Runtime, TellsVersionsTargetAndThreads) {
  const auto info = runtime_info();
  EXPECT_FALSE(info.winnow_version.empty());
  EXPECT_EQ(info.libtorch_loaded.rfind(info.libtorch_compiled, 0), 0U) << info.libtorch_loaded;
  EXPECT_TRUE(info.cxx11_abi);
  EXPECT_EQ(info.threads, at::get_num_threads());
  EXPECT_NE(std::find(info.cpu_targets.begin(), info.cpu_targets.end(), info.cpu_target), info.cpu_targets.end());
  EXPECT_EQ(info.built_with_cuda, !info.cuda_compiled.empty());
  const auto text = format(info);
  EXPECT_NE(text.find("winnow            " + info.winnow_version), std::string::npos) << text;
  EXPECT_NE(text.find("CPU target        " + info.cpu_target), std::string::npos) << text;
  for (const auto& warning : info.warnings) EXPECT_NE(text.find(warning), std::string::npos);
}

TEST(Runtime, TwoOpenMpRuntimesAreAWarning) {
  const auto info = runtime_info();
  const bool warned = std::any_of(info.warnings.begin(), info.warnings.end(), [](const std::string& warning) {
    return warning.find("OpenMP runtimes are loaded") != std::string::npos;
  });
  EXPECT_EQ(warned, info.openmp_runtimes.size() > 1) << format(info);
}

}  // namespace
}  // namespace winnow

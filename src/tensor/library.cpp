// The schemas of torch.ops.winnow.*, in one place, and the answer to a device that no kernel covers.
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/library.h>

#include <string>

#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/kernels/cuda_stream.h"
#include "winnow/tensor/format.h"

namespace winnow::ops {
namespace {

constexpr const char* kSchemas[] = {
    "gather_tokens(Tensor x, Tensor ids) -> Tensor",
    "gather_tokens_backward(Tensor grad, Tensor ids, int length) -> Tensor",
    "restore_tokens(Tensor kept, Tensor ids_restore, Tensor mask_token, Tensor? positions, int prefix) -> Tensor",
    "restore_tokens_backward(Tensor grad, Tensor ids_restore, int kept, int prefix) -> (Tensor, Tensor)",
    "masking_permutation(Tensor noise, int keep) -> (Tensor, Tensor, Tensor)",
    "gather_patches(Tensor images, int patch, Tensor ids) -> Tensor",
    "masked_patch_loss(Tensor pred, Tensor images, Tensor weight, Tensor? ids, int patch, bool norm_pix) -> (Tensor, "
    "Tensor, Tensor)",
    "masked_patch_loss_backward(Tensor scale, Tensor pred, Tensor images, Tensor weight, Tensor? ids, "
    "Tensor mean, Tensor inverse_deviation, int patch) -> Tensor",
    "add_layer_norm(Tensor x, Tensor delta, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor, Tensor, "
    "Tensor)",
    "add_layer_norm_backward(Tensor? grad_sum, Tensor grad_normalized, Tensor sum, Tensor mean, Tensor rstd, "
    "Tensor weight) -> (Tensor, Tensor, Tensor)",
    "blocked_attention(Tensor q, Tensor k, Tensor v, bool causal, float scale) -> (Tensor, Tensor)",
    "blocked_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, bool causal, "
    "float scale) -> (Tensor, Tensor, Tensor)",
    "linear_rows(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    "selective_scan(Tensor u, Tensor dt, Tensor a, Tensor b, Tensor c, Tensor? d, Tensor? z, Tensor? dt_bias, "
    "Tensor? state, bool boundaries) -> (Tensor, Tensor, Tensor)",
    "selective_scan_backward(Tensor? grad_y, Tensor? grad_state, Tensor u, Tensor dt, Tensor a, Tensor b, Tensor c, "
    "Tensor? d, Tensor? z, Tensor? dt_bias, Tensor boundaries) -> Tensor[]",
};

// Stands under every backend that has no kernel of its own.
void unsupported_device(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  std::string found = "another";
  for (const auto& argument : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (!argument.isTensor() || !argument.toTensor().defined()) continue;
    const auto& tensor = argument.toTensor();
    if (tensor.layout() != at::kStrided) found = c10::str(tensor.layout());
    if (!tensor.is_cpu()) found = tensor.device().str();
  }
  const auto& name = op.schema().name();
  fail(ErrorKind::unsupported, "{}: tensors must be dense and on cpu, cuda or meta, got {}",
       name.substr(name.find(':') + 2), found);
}

}  // namespace

std::vector<std::string_view> names() {
  std::vector<std::string_view> result;
  for (const std::string_view schema : kSchemas) result.push_back(schema.substr(0, schema.find('(')));
  return result;
}

void refuse_double_backward(std::string_view function) {
  WINNOW_CHECK_KIND(!c10::GradMode::is_enabled(), ErrorKind::unsupported,
                    "{}: double backward is not supported (backward was called with create_graph)", function);
}

cudaStream_t stream_of(const at::Tensor& x) {
  const c10::impl::VirtualGuardImpl guard(x.device().type());
  return static_cast<cudaStream_t>(guard.getStream(x.device()).native_handle());
}

void check_launch(std::string_view function) {
  const char* message = kernels::cuda::launch_error();
  WINNOW_CHECK_KIND(message == nullptr, ErrorKind::unsupported, "{}: CUDA could not start the kernel: {}", function,
                    message);
}

TORCH_LIBRARY(winnow, library) {
  for (const char* schema : kSchemas) library.def(schema);
}

TORCH_LIBRARY_IMPL(winnow, CompositeExplicitAutograd, library) {
  for (const auto name : names()) {
    library.impl(std::string(name).c_str(), torch::CppFunction::makeFromBoxedFunction<&unsupported_device>());
  }
}

}  // namespace winnow::ops

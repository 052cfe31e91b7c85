// Takes the place of kernels/cuda where winnow is built without CUDA: every call of a CUDA kernel is answered here.
#include "winnow/core/error.h"
#include "winnow/kernels/gather_tokens.h"
#include "winnow/kernels/image_resize.h"
#include "winnow/kernels/layer_norm.h"
#include "winnow/kernels/masked_patch_loss.h"
#include "winnow/kernels/masking_permutation.h"
#include "winnow/kernels/restore_tokens.h"
#include "winnow/kernels/selective_scan.h"

namespace winnow::kernels::cuda {
namespace {
[[noreturn]] void absent() {
  fail(ErrorKind::unsupported, "built without CUDA; configure with WINNOW_CUDA=ON");
}
}  // namespace

const char* launch_error() {
  return nullptr;
}
const char* toolkit_version() {
  return "";
}
const char* runtime_version() {
  return "";
}

void gather_tokens(const void*, const int64_t*, int64_t, int64_t, int64_t, int64_t, void*, cudaStream_t) {
  absent();
}
void gather_tokens_backward(const float*, const int64_t*, int64_t, int64_t, int64_t, int64_t, float*, cudaStream_t) {
  absent();
}
void gather_tokens_backward(const double*, const int64_t*, int64_t, int64_t, int64_t, int64_t, double*, cudaStream_t) {
  absent();
}
void gather_patches(const GatherPatches&, int64_t, void*, cudaStream_t) {
  absent();
}

void restore_tokens(const RestoreTokens<float>&, const float*, const float*, const float*, float*, int64_t,
                    cudaStream_t) {
  absent();
}
void restore_tokens(const RestoreTokens<double>&, const double*, const double*, const double*, double*, int64_t,
                    cudaStream_t) {
  absent();
}
void restore_tokens_backward(const RestoreTokens<float>&, const float*, float*, float*, int64_t, cudaStream_t) {
  absent();
}
void restore_tokens_backward(const RestoreTokens<double>&, const double*, double*, double*, int64_t, cudaStream_t) {
  absent();
}

void masking_permutation(const float*, int64_t, int64_t, int64_t, const MaskingPermutation&, cudaStream_t) {
  absent();
}
void masking_permutation(const double*, int64_t, int64_t, int64_t, const MaskingPermutation&, cudaStream_t) {
  absent();
}

void masked_patch_loss(const MaskedPatchLoss<float>&, float*, float*, float*, int64_t, cudaStream_t) {
  absent();
}
void masked_patch_loss(const MaskedPatchLoss<double>&, double*, double*, double*, int64_t, cudaStream_t) {
  absent();
}
void masked_patch_loss_backward(const MaskedPatchLoss<float>&, const float*, const float*, const float*, float*,
                                int64_t, cudaStream_t) {
  absent();
}
void masked_patch_loss_backward(const MaskedPatchLoss<double>&, const double*, const double*, const double*, double*,
                                int64_t, cudaStream_t) {
  absent();
}

void add_layer_norm(const AddLayerNorm<float>&, float*, float*, float*, float*, cudaStream_t) {
  absent();
}
void add_layer_norm(const AddLayerNorm<double>&, double*, double*, double*, double*, cudaStream_t) {
  absent();
}
void add_layer_norm_backward(const AddLayerNormGrad<float>&, float*, float*, float*, cudaStream_t) {
  absent();
}
void add_layer_norm_backward(const AddLayerNormGrad<double>&, double*, double*, double*, cudaStream_t) {
  absent();
}

void image_resize(const ImageResize&, cudaStream_t) {
  absent();
}

void selective_scan(const SelectiveScan<float>&, float*, float*, float*, cudaStream_t) {
  absent();
}
void selective_scan(const SelectiveScan<double>&, double*, double*, double*, cudaStream_t) {
  absent();
}
void selective_scan_backward(const SelectiveScan<float>&, const SelectiveScanGrad<float>&, cudaStream_t) {
  absent();
}
void selective_scan_backward(const SelectiveScan<double>&, const SelectiveScanGrad<double>&, cudaStream_t) {
  absent();
}

}  // namespace winnow::kernels::cuda

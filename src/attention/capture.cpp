#include "winnow/attention/capture.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"

namespace winnow {

namespace {

void check_heads(const char* name, const at::Tensor& q, const at::Tensor& k) {
  WINNOW_CHECK(q.defined() && k.defined() && q.dim() == 4 && k.dim() == 4, "{}: q and k must have 4 dimensions", name);
  WINNOW_CHECK(q.size(0) == k.size(0) && q.size(3) == k.size(3) && k.size(1) > 0 && q.size(1) % k.size(1) == 0,
               "{}: k must have shape [{}, divisor of {}, *, {}], got [{}]", name, q.size(0), q.size(1), q.size(3),
               fmt::join(k.sizes(), ", "));
}

at::Tensor rows_of(const at::Tensor& mask, int64_t begin, int64_t count) {
  return !mask.defined() || mask.size(-2) == 1 ? mask : mask.narrow(-2, begin, count);
}

}  // namespace

at::Tensor attention_pattern(const at::Tensor& q, const at::Tensor& k, const at::Tensor& allowed,
                             const at::Tensor& bias, double scale) {
  check_heads("attention_pattern", q, k);
  const auto B = q.size(0), H = q.size(1), Lq = q.size(2), groups = k.size(1), Lk = k.size(2);
  const auto dtype = q.scalar_type();
  const auto accumulate = dtype == at::kDouble ? at::kDouble : at::kFloat;
  // The query heads of one key head are rows of one matrix product.
  const auto grouped = q.reshape({B, groups, H / groups * Lq, q.size(3)});
  auto scores = at::matmul(grouped.to(accumulate), k.to(accumulate).transpose(2, 3)).view({B, H, Lq, Lk}) * scale;
  if (bias.defined()) scores = scores + bias;
  if (!allowed.defined()) return at::softmax(scores, -1).to(dtype);
  scores = scores.masked_fill(allowed.logical_not(), -std::numeric_limits<double>::infinity());
  // A row with no key: softmax of zeros, then zero, so that neither values nor gradients are NaN.
  const auto empty = allowed.any(-1, /*keepdim=*/true).logical_not();
  return at::softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0).to(dtype);
}

at::Tensor attention_column_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& allowed,
                                 const at::Tensor& bias, double scale, int64_t chunk) {
  check_heads("attention_column_sums", q, k);
  WINNOW_CHECK(chunk >= 1, "attention_column_sums: chunk must be >= 1, got {}", chunk);
  const auto accumulate = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto sums = at::zeros({q.size(0), q.size(1), k.size(2)}, q.options().dtype(accumulate));
  for (int64_t begin = 0; begin < q.size(2); begin += chunk) {
    const auto count = std::min(chunk, q.size(2) - begin);
    const auto part = attention_pattern(q.narrow(2, begin, count).to(accumulate), k.to(accumulate),
                                        rows_of(allowed, begin, count), rows_of(bias, begin, count), scale);
    sums = sums + part.sum(2);
  }
  return sums.to(q.scalar_type());
}

}  // namespace winnow

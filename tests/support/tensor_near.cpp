#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <string>

#include "winnow/tensor/format.h"

namespace winnow::testing {
namespace {

std::string position(int64_t flat, at::IntArrayRef shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  return describe(at::IntArrayRef(index));
}

}  // namespace

::testing::AssertionResult tensors_close(const char* a_text, const char* b_text, const at::Tensor& a,
                                         const at::Tensor& b, double rtol, double atol, bool check_dtype) {
  const auto failure = [&] { return ::testing::AssertionFailure() << a_text << " against " << b_text << ": "; };
  if (!a.defined() || !b.defined()) {
    if (a.defined() == b.defined()) return ::testing::AssertionSuccess();
    return failure() << describe(a) << " against " << describe(b);
  }
  if (check_dtype && a.scalar_type() != b.scalar_type()) {
    return failure() << "dtype " << dtype_name(a.scalar_type()) << " against " << dtype_name(b.scalar_type());
  }
  if (a.sizes() != b.sizes()) return failure() << "shape " << describe(a.sizes()) << " against " << describe(b.sizes());
  if (a.numel() == 0) return ::testing::AssertionSuccess();
  // Integers are compared as integers: float64 cannot hold them all.
  if (!a.is_floating_point() && !b.is_floating_point()) {
    const auto x = a.detach().cpu().to(at::kLong).flatten(), y = b.detach().cpu().to(at::kLong).flatten();
    const auto wrong = ((x - y).abs().to(at::kDouble) > atol + rtol * y.abs().to(at::kDouble));
    if (!wrong.any().item<bool>()) return ::testing::AssertionSuccess();
    const auto at = wrong.to(at::kByte).argmax().item<int64_t>();
    return failure() << wrong.sum().item<int64_t>() << " of " << x.numel() << " differ, first at "
                     << position(at, a.sizes()) << ": " << x[at].item<int64_t>() << " against "
                     << y[at].item<int64_t>();
  }
  const auto x = a.detach().cpu().to(at::kDouble).flatten(), y = b.detach().cpu().to(at::kDouble).flatten();
  const auto same = (x == y).logical_or(x.isnan().logical_and(y.isnan()));
  const auto error = at::where(same, at::zeros_like(x), (x - y).abs() - rtol * y.abs());
  // NaN on one side, or an infinity against something else, is as wrong as can be.
  const auto bad = same.logical_not().logical_and((x - y).isfinite().logical_not());
  const auto excess = at::where(bad, at::full_like(x, std::numeric_limits<double>::infinity()), error);
  const auto worst = excess.argmax().item<int64_t>();
  if (excess[worst].item<double>() <= atol) return ::testing::AssertionSuccess();
  return failure() << excess.gt(atol).sum().item<int64_t>() << " of " << x.numel() << " differ, worst at "
                   << position(worst, a.sizes()) << ": " << x[worst].item<double>() << " against "
                   << y[worst].item<double>() << " (difference " << (x[worst] - y[worst]).abs().item<double>()
                   << ", rtol " << rtol << ", atol " << atol << ")";
}

}  // namespace winnow::testing

#include "winnow/train/state.h"

#include <fmt/ranges.h>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow::train {

const at::Tensor& state_tensor(const StateDict& state, const std::string& name, const at::Tensor& like,
                               const char* who) {
  const auto found = state.tensors.find(name);
  WINNOW_CHECK_KIND(found != state.tensors.end(), ErrorKind::file, "{}: the saved state has no tensor '{}'", who, name);
  const at::Tensor& tensor = found->second;
  WINNOW_CHECK_KIND(tensor.sizes() == like.sizes() && tensor.scalar_type() == like.scalar_type(), ErrorKind::file,
                    "{}: saved tensor '{}' must be {} {}, got {} {}", who, name, like.scalar_type(), like.sizes(),
                    tensor.scalar_type(), tensor.sizes());
  return tensor;
}

}  // namespace winnow::train

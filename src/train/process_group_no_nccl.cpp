#include "nccl_backend.h"
#include "winnow/core/error.h"

namespace winnow::train {

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>&, int, int,
                                                    std::chrono::milliseconds) {
  fail(ErrorKind::unsupported, "ProcessGroup: built without NCCL; configure with WINNOW_CUDA=ON, or use Backend::gloo");
}

}  // namespace winnow::train

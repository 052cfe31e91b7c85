// NCCL where it was built in: one of process_group_nccl.cpp and process_group_no_nccl.cpp is compiled.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>

namespace winnow::train {

// Throws winnow::Error (kind unsupported) where it was not built in.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    std::chrono::milliseconds timeout);

}  // namespace winnow::train

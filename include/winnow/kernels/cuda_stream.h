#pragma once

// What a kernel header needs of the CUDA runtime, so that it compiles without the toolkit.
struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace winnow::kernels::cuda {

// What went wrong with the kernels that this thread launched last, or null: the launchers themselves report nothing.
const char* launch_error();

// CUDA versions, "13.0": of the toolkit that built the kernels, and of the runtime that is loaded. Empty without CUDA.
const char* toolkit_version();
const char* runtime_version();

}  // namespace winnow::kernels::cuda

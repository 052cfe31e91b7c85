#pragma once

// The CUDA runtime's stream type, so that kernel headers compile without the toolkit.
struct CUstream_st;
using cudaStream_t = CUstream_st*;

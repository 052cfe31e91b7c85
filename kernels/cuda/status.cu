#include <cuda_runtime.h>

#include <cstdio>

#include "winnow/kernels/cuda_stream.h"

namespace winnow::kernels::cuda {
namespace {

// "13.0" of 13000, once.
const char* write_version(int version, char* text, int size) {
  std::snprintf(text, static_cast<unsigned>(size), "%d.%d", version / 1000, version % 1000 / 10);
  return text;
}

}  // namespace

const char* launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

const char* toolkit_version() {
  static char text[32];
  static const char* const result = write_version(CUDART_VERSION, text, sizeof text);
  return result;
}

const char* runtime_version() {
  static char text[32];
  static const char* const result = [] {
    int version = 0;
    return cudaRuntimeGetVersion(&version) == cudaSuccess ? write_version(version, text, sizeof text) : "";
  }();
  return result;
}

}  // namespace winnow::kernels::cuda

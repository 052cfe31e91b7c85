// LibTorch's binaries are built by g++, and clang from 18 on gives TensorBase::const_data_ptr<T>() another symbol name
// (it writes the kind of a constrained template parameter, as newer versions of the ABI do), so that a clang program
// finds no definition in them. Here are the definitions under clang's name; g++ has nothing to add.
#include <ATen/core/TensorBase.h>

#if defined(__clang__) && __clang_major__ >= 18

namespace at {

#define WINNOW_CONST_DATA_PTR(T, name)                                                                          \
  template <>                                                                                                   \
  const T* TensorBase::const_data_ptr<T, 0>() const {                                                           \
    TORCH_CHECK(scalar_type() == ScalarType::name, "expected scalar type " #name " but found ", scalar_type()); \
    return static_cast<const T*>(const_data_ptr());                                                             \
  }

WINNOW_CONST_DATA_PTR(bool, Bool)
WINNOW_CONST_DATA_PTR(uint8_t, Byte)
WINNOW_CONST_DATA_PTR(int8_t, Char)
WINNOW_CONST_DATA_PTR(int16_t, Short)
WINNOW_CONST_DATA_PTR(int32_t, Int)
WINNOW_CONST_DATA_PTR(int64_t, Long)
WINNOW_CONST_DATA_PTR(c10::Half, Half)
WINNOW_CONST_DATA_PTR(c10::BFloat16, BFloat16)
WINNOW_CONST_DATA_PTR(float, Float)
WINNOW_CONST_DATA_PTR(double, Double)
WINNOW_CONST_DATA_PTR(c10::complex<float>, ComplexFloat)
WINNOW_CONST_DATA_PTR(c10::complex<double>, ComplexDouble)

#undef WINNOW_CONST_DATA_PTR

}  // namespace at

#endif

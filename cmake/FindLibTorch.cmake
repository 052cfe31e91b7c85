# Finds LibTorch and makes the targets LibTorch::cpu and, with CUDA, LibTorch::cuda.
#
# Looked at, in this order: LibTorch_ROOT or TORCH_ROOT (the folder that holds include/ and lib/), Torch_DIR (the
# share/cmake/Torch folder inside it), each entry of CMAKE_PREFIX_PATH, .deps/python of this checkout, and the `torch`
# package of the python in reach. docs/decisions/001-own-find-module.md says why TorchConfig.cmake is not used.
#
# Sets LibTorch_FOUND, LibTorch_VERSION, LibTorch_ROOT_DIR, LibTorch_CUDA_VERSION (empty for a CPU build), LibTorch_HAS_CUDA.

set(_libtorch_candidates)
foreach(_variable LibTorch_ROOT TORCH_ROOT)
  if(DEFINED ${_variable})
    list(APPEND _libtorch_candidates "${${_variable}}")
  elseif(DEFINED ENV{${_variable}})
    list(APPEND _libtorch_candidates "$ENV{${_variable}}")
  endif()
endforeach()
if(Torch_DIR)
  list(APPEND _libtorch_candidates "${Torch_DIR}/../../..")
endif()
foreach(_prefix IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND _libtorch_candidates "${_prefix}" "${_prefix}/../../..")
endforeach()
file(GLOB _libtorch_wheels "${CMAKE_CURRENT_LIST_DIR}/../.deps/python/lib/python3*/site-packages/torch")
list(APPEND _libtorch_candidates ${_libtorch_wheels})

set(LibTorch_ROOT_DIR "")
foreach(_candidate IN LISTS _libtorch_candidates)
  if(NOT LibTorch_ROOT_DIR AND EXISTS "${_candidate}/include/ATen/ATen.h")
    get_filename_component(LibTorch_ROOT_DIR "${_candidate}" REALPATH)
  endif()
endforeach()
if(NOT LibTorch_ROOT_DIR)
  find_program(_libtorch_python NAMES python3 python)
  mark_as_advanced(_libtorch_python)
  if(_libtorch_python)
    execute_process(
      COMMAND "${_libtorch_python}" -c
              "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE _libtorch_from_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(EXISTS "${_libtorch_from_python}/include/ATen/ATen.h")
      get_filename_component(LibTorch_ROOT_DIR "${_libtorch_from_python}" REALPATH)
    endif()
  endif()
endif()

if(NOT LibTorch_ROOT_DIR)
  set(LibTorch_FOUND FALSE)
  if(LibTorch_FIND_REQUIRED)
    message(FATAL_ERROR "LibTorch was not found: run ./dev build, which fetches it, or set Torch_DIR, CMAKE_PREFIX_PATH or "
                        "LibTorch_ROOT to an installed LibTorch >= ${LibTorch_FIND_VERSION}.")
  endif()
  return()
endif()

# Version: of the headers, because they are what is compiled against.
set(LibTorch_VERSION "")
foreach(_header include/torch/csrc/api/include/torch/version.h include/torch/headeronly/version.h)
  if(NOT LibTorch_VERSION AND EXISTS "${LibTorch_ROOT_DIR}/${_header}")
    file(STRINGS "${LibTorch_ROOT_DIR}/${_header}" _lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
    foreach(_part MAJOR MINOR PATCH)
      string(REGEX MATCH "TORCH_VERSION_${_part} +([0-9]+)" _match "${_lines}")
      set(_version_${_part} "${CMAKE_MATCH_1}")
    endforeach()
    if(NOT _version_MAJOR STREQUAL "")
      set(LibTorch_VERSION "${_version_MAJOR}.${_version_MINOR}.${_version_PATCH}")
    endif()
  endif()
endforeach()
if(LibTorch_FIND_VERSION AND (LibTorch_VERSION STREQUAL "" OR LibTorch_VERSION VERSION_LESS LibTorch_FIND_VERSION))
  message(FATAL_ERROR "LibTorch >= ${LibTorch_FIND_VERSION} is needed, found '${LibTorch_VERSION}' in ${LibTorch_ROOT_DIR}.")
endif()

set(_libtorch_lib "${LibTorch_ROOT_DIR}/lib")
set(LibTorch_HAS_CUDA FALSE)
set(LibTorch_CUDA_VERSION "")
if(EXISTS "${_libtorch_lib}/libtorch_cuda.so")
  set(LibTorch_HAS_CUDA TRUE)
  file(GLOB _libtorch_cudart "${LibTorch_ROOT_DIR}/../nvidia/cu*/lib/libcudart.so.*"
       "${LibTorch_ROOT_DIR}/../nvidia/cuda_runtime/lib/libcudart.so.*" "${_libtorch_lib}/libcudart*.so*")
  if(EXISTS "${LibTorch_ROOT_DIR}/version.py")
    file(STRINGS "${LibTorch_ROOT_DIR}/version.py" _cuda_line REGEX "^cuda.*=.*'[0-9]+\\.[0-9]+'")
    string(REGEX MATCH "'([0-9]+\\.[0-9]+)'" _match "${_cuda_line}")
    set(LibTorch_CUDA_VERSION "${CMAKE_MATCH_1}")
  endif()
  if(LibTorch_CUDA_VERSION STREQUAL "" AND _libtorch_cudart)
    list(GET _libtorch_cudart 0 _first)
    string(REGEX MATCH "so\\.([0-9]+)|cudart-[a-z0-9]*\\.so\\.([0-9]+)" _match "${_first}")
    set(LibTorch_CUDA_VERSION "${CMAKE_MATCH_1}")
  endif()
endif()

# The string ABI: a function of libc10 that takes a std::string must link with the flags in use.
if(NOT DEFINED LibTorch_ABI_MATCHES OR NOT LibTorch_ABI_PROBED STREQUAL "${LibTorch_ROOT_DIR};${CMAKE_CXX_FLAGS}")
  set(_probe "${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_abi_probe.cpp")
  file(WRITE "${_probe}" "#include <cstdint>\n#include <string>\nnamespace c10::detail {\n[[noreturn]] void torchCheckFail(const char*, const char*, "
       "std::uint32_t, const std::string&);\n}\nint main(int argc, char**) {\n  if (argc > 9) c10::detail::torchCheckFail(\"\", \"\", 1, std::string(\"x\"));\n  return 0;\n}\n")
  unset(LibTorch_ABI_MATCHES CACHE)
  try_compile(LibTorch_ABI_MATCHES "${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_abi" "${_probe}" LINK_LIBRARIES "${_libtorch_lib}/libc10.so"
              OUTPUT_VARIABLE _probe_output)
  set(LibTorch_ABI_PROBED "${LibTorch_ROOT_DIR};${CMAKE_CXX_FLAGS}" CACHE INTERNAL "")
endif()
if(NOT LibTorch_ABI_MATCHES)
  message(FATAL_ERROR "LibTorch in ${LibTorch_ROOT_DIR} uses another std::string ABI than this compiler and its flags "
                      "(_GLIBCXX_USE_CXX11_ABI): take a LibTorch built with the C++11 ABI and drop that definition.")
endif()

# After the system's folders, because the wheel carries an fmt of its own (header files only) that would hide the packaged one.
set(_libtorch_includes "SHELL:-idirafter ${LibTorch_ROOT_DIR}/include"
    "SHELL:-idirafter ${LibTorch_ROOT_DIR}/include/torch/csrc/api/include")
if(NOT TARGET LibTorch::cpu)
  foreach(_name c10 torch_cpu)
    add_library(LibTorch::${_name} SHARED IMPORTED)
    set_target_properties(LibTorch::${_name} PROPERTIES IMPORTED_LOCATION "${_libtorch_lib}/lib${_name}.so")
  endforeach()
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES
    # From version 18 on clang names some function templates otherwise than g++, which built LibTorch.
    INTERFACE_COMPILE_OPTIONS "${_libtorch_includes};$<$<COMPILE_LANG_AND_ID:CXX,Clang>:-fclang-abi-compat=17>"
    INTERFACE_COMPILE_DEFINITIONS "USE_C10D_GLOO;USE_DISTRIBUTED"
    INTERFACE_LINK_OPTIONS "LINKER:-rpath,${_libtorch_lib}"
    INTERFACE_LINK_LIBRARIES "LibTorch::torch_cpu;LibTorch::c10")
  # The wheel keeps its own libgomp and CUDA runtime; without these paths the linker cannot follow libtorch_cpu's needs.
  set(_libtorch_link_paths "${_libtorch_lib}")
  file(GLOB _libtorch_nvidia "${LibTorch_ROOT_DIR}/../nvidia/*/lib")
  foreach(_path IN LISTS _libtorch_nvidia)
    list(APPEND _libtorch_link_paths "${_path}")
  endforeach()
  foreach(_path IN LISTS _libtorch_link_paths)
    set_property(TARGET LibTorch::cpu APPEND PROPERTY INTERFACE_LINK_OPTIONS "LINKER:-rpath-link,${_path}")
  endforeach()
endif()
if(LibTorch_HAS_CUDA AND NOT TARGET LibTorch::cuda)
  foreach(_name c10_cuda torch_cuda)
    add_library(LibTorch::${_name} SHARED IMPORTED)
    set_target_properties(LibTorch::${_name} PROPERTIES IMPORTED_LOCATION "${_libtorch_lib}/lib${_name}.so")
  endforeach()
  add_library(LibTorch::cuda INTERFACE IMPORTED)
  # Nothing calls libtorch_cuda by name, so the linker would drop it and CUDA would be absent at run time.
  set_target_properties(LibTorch::cuda PROPERTIES
    INTERFACE_COMPILE_DEFINITIONS "USE_C10D_NCCL"
    INTERFACE_LINK_LIBRARIES "LibTorch::cpu;-Wl,--no-as-needed;LibTorch::torch_cuda;LibTorch::c10_cuda;-Wl,--as-needed")
endif()
set(LibTorch_FOUND TRUE)

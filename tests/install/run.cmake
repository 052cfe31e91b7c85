# Installs the build tree, takes the README's program out of README.md, and builds and runs it as an outside project that
# knows nothing but find_package(winnow).
foreach(name BUILD_DIR SOURCE_DIR WORK_DIR COMPILER)
  if(NOT DEFINED ${name})
    message(FATAL_ERROR "run.cmake: -D ${name} is missing")
  endif()
endforeach()

function(run_step what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "install: ${what} failed:\n${output}")
  endif()
  set(step_output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
run_step("installation" "${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${WORK_DIR}/prefix")

# The first ```cpp block of the README that has a main.
file(READ "${SOURCE_DIR}/README.md" readme)
string(FIND "${readme}" "```cpp\n" start)
if(start EQUAL -1)
  message(FATAL_ERROR "install: README.md holds no cpp block")
endif()
math(EXPR start "${start} + 7")
string(SUBSTRING "${readme}" ${start} -1 program)
string(FIND "${program}" "\n```" end)
string(SUBSTRING "${program}" 0 ${end} program)
if(NOT program MATCHES "int main")
  message(FATAL_ERROR "install: the first cpp block of README.md is no program:\n${program}")
endif()
file(WRITE "${WORK_DIR}/project/main.cpp" "${program}\n")
file(COPY "${SOURCE_DIR}/tests/install/project/CMakeLists.txt" DESTINATION "${WORK_DIR}/project")

run_step("configuration of the outside project" "${CMAKE_COMMAND}" -G Ninja -S "${WORK_DIR}/project" -B "${WORK_DIR}/build"
  -D "CMAKE_PREFIX_PATH=${WORK_DIR}/prefix" -D "CMAKE_CXX_COMPILER=${COMPILER}" -D CMAKE_BUILD_TYPE=Release)
run_step("build of the outside project" "${CMAKE_COMMAND}" --build "${WORK_DIR}/build")
run_step("the README's program" "${WORK_DIR}/build/hello_winnow")
if(NOT step_output MATCHES "loss")
  message(FATAL_ERROR "install: the README's program printed no loss:\n${step_output}")
endif()
message(STATUS "the installed package works:\n${step_output}")

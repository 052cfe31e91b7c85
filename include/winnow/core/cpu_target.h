// Names of the instruction sets that kernels are built for, and the one that the user asked for. Whether the processor
// has it is the kernel layer's to say.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

// The names of WINNOW_CPU, those of Highway in lower case: scalar, emu128, ssse3, sse4, avx2, avx3 (AVX-512), avx3_dl
// (with VNNI), avx3_zen4, neon, sve, sve2, sve_256, sve2_128.
const std::vector<std::string>& cpu_target_names();

// Throws Error (argument), naming the nearest, unless it is one of the names (upper case is accepted). Returns it in
// lower case.
std::string parse_cpu_target(std::string_view name);

// The target in the environment variable WINNOW_CPU; none if it is unset or empty. Error (argument) on an unknown name.
std::optional<std::string> requested_cpu_target();

}  // namespace winnow

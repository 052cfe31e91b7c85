// For kernels that keep accumulators in arrays of vectors: targets of unknown vector length do not have such arrays and
// are left out. Included before Highway.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

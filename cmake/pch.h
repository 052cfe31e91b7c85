// The precompiled header of every unit that uses LibTorch. It only saves time: each file includes what it uses.
#pragma once

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>
#if __has_include(<gtest/gtest.h>)
#include <gtest/gtest.h>
#endif

#pragma once

#include <gtest/gtest.h>

#include <string>

#include "winnow/core/error.h"

// EXPECT_ERROR(statement, text): the statement throws winnow::Error whose message is `text` or contains it.
#define EXPECT_ERROR(statement, text)                                                             \
  do {                                                                                            \
    const std::string winnow_wanted = (text);                                                     \
    try {                                                                                         \
      statement;                                                                                  \
      ADD_FAILURE() << #statement " threw nothing, wanted: " << winnow_wanted;                    \
    } catch (const ::winnow::Error& winnow_error) {                                               \
      EXPECT_NE(std::string(winnow_error.what()).find(winnow_wanted), std::string::npos)          \
          << #statement "\n  wanted: " << winnow_wanted << "\n  got:    " << winnow_error.what(); \
    } catch (const std::exception& winnow_error) {                                                \
      ADD_FAILURE() << #statement " threw no winnow::Error but: " << winnow_error.what();         \
    }                                                                                             \
  } while (false)

// The same, and the error's kind.
#define EXPECT_ERROR_KIND(statement, wanted_kind, text)                                \
  do {                                                                                 \
    EXPECT_ERROR(statement, text);                                                     \
    try {                                                                              \
      statement;                                                                       \
    } catch (const ::winnow::Error& winnow_error) {                                    \
      EXPECT_EQ(static_cast<int>(winnow_error.kind()), static_cast<int>(wanted_kind)); \
    } catch (const std::exception&) {                                                  \
    }                                                                                  \
  } while (false)

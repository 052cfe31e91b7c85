// Comma-separated values, plain or gzipped.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "winnow/io/bytes.h"

namespace winnow::io {

struct CsvOptions {
  char separator = ',';
  enum class Header {
    automatic,
    present,
    absent
  } header = Header::automatic;  // automatic: a first row with a cell that is no number
  int64_t skip_rows = 0;         // before the header
  int64_t max_bytes = kMaxFileBytes;
};

struct CsvTable {
  std::vector<std::string> columns;  // names of the header; empty without one
  at::Tensor values;                 // float64 [rows, columns]
  // The index of a column; throws Error(argument) with the nearest name.
  [[nodiscard]] int64_t column(const std::string& name) const;
};

// A table of numbers. Cells may be quoted and have blanks around them; "nan" and "inf" are numbers; an empty cell is
// NaN; lines end with \n or \r\n; a blank line at the end is ignored. Throws Error(file) that names file, line and
// column for a cell that is no number, a row of another length, an open quote.
CsvTable read_csv(const std::filesystem::path& path, const CsvOptions& options = {});
CsvTable parse_csv(std::string_view text, const CsvOptions& options = {}, const std::string& name = kMemoryName);

// All cells as text, rows of any length; quotes removed, "" inside quotes is one ". For tables with words in them.
std::vector<std::vector<std::string>> read_csv_cells(const std::filesystem::path& path, const CsvOptions& options = {});
std::vector<std::vector<std::string>> parse_csv_cells(std::string_view text, const CsvOptions& options = {},
                                                      const std::string& name = kMemoryName);

}  // namespace winnow::io

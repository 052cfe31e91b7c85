#include "winnow/io/csv.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

// Cuts the text into cells, row by row.
class Cutter {
 public:
  Cutter(std::string_view text, char separator, const std::string& name)
      : text_(text), separator_(separator), name_(name) {
    WINNOW_CHECK(separator != '"' && separator != '\n' && separator != '\r',
                 "read_csv: separator must not be a quote or the end of a line");
  }

  // The line that the next row starts in, from 1.
  [[nodiscard]] int64_t line() const { return line_; }

  // The cells of the next row; false at the end. A line that holds nothing but blanks gives no cells.
  bool next(std::vector<std::string>& cells) {
    cells.clear();
    if (at_ >= text_.size()) return false;
    const auto end_of_line = std::min(text_.find('\n', at_), text_.size());
    if (trim(text_.substr(at_, end_of_line - at_)).empty() && separator_ != ' ' && separator_ != '\t') {
      at_ = end_of_line + 1;
      ++line_;
      return true;
    }
    while (!read_cell(cells)) {
    }
    return true;
  }

 private:
  // Appends one cell; true if it was the last of its row.
  bool read_cell(std::vector<std::string>& cells) {
    auto& cell = cells.emplace_back();
    while (at_ < text_.size() && text_[at_] == ' ' && separator_ != ' ') ++at_;
    if (at_ < text_.size() && text_[at_] == '"') {
      read_quoted(cell, cells.size());
    } else {
      const auto start = at_;
      while (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n') ++at_;
      cell = trim(text_.substr(start, at_ - start));
    }
    if (at_ >= text_.size()) return true;
    return text_[at_++] == '\n' && ++line_ > 0;
  }

  void read_quoted(std::string& cell, std::size_t column) {
    const auto first_line = line_;
    for (++at_;; ++at_) {
      WINNOW_CHECK_KIND(at_ < text_.size(), ErrorKind::file, "{}: line {}, column {}: the quote is never closed", name_,
                        first_line, column);
      if (text_[at_] == '"') {
        if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') break;
        ++at_;
      }
      if (text_[at_] == '\n') ++line_;
      cell.push_back(text_[at_]);
    }
    ++at_;
    while (at_ < text_.size() && (text_[at_] == '\r' || (text_[at_] == ' ' && separator_ != ' '))) ++at_;
    WINNOW_CHECK_KIND(at_ >= text_.size() || text_[at_] == separator_ || text_[at_] == '\n', ErrorKind::file,
                      "{}: line {}, column {}: text after the closing quote", name_, line_, column);
  }

  std::string_view text_;
  char separator_;
  const std::string& name_;
  std::size_t at_ = 0;
  int64_t line_ = 1;
};

std::optional<double> to_number(std::string_view cell) {
  cell = trim(cell);
  if (cell.empty()) return std::numeric_limits<double>::quiet_NaN();
  if (cell.front() == '+' && cell.size() > 1 && cell[1] != '-' && cell[1] != '+') cell.remove_prefix(1);
  double value = 0;
  const auto [end, status] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (end != cell.data() + cell.size() || status == std::errc::invalid_argument) return std::nullopt;
  if (status == std::errc::result_out_of_range) return std::nullopt;
  return value;
}

void skip_rows(Cutter& cutter, int64_t count) {
  WINNOW_CHECK(count >= 0, "read_csv: skip_rows must be >= 0, got {}", count);
  std::vector<std::string> cells;
  while (count-- > 0 && cutter.next(cells)) {
  }
}

bool all_numbers(const std::vector<std::string>& cells) {
  return std::all_of(cells.begin(), cells.end(), [](const auto& cell) { return to_number(cell).has_value(); });
}

}  // namespace

int64_t CsvTable::column(const std::string& name) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found == columns.end()) {
    fail(ErrorKind::argument, "CsvTable: there is no column {}{}", printable(name), did_you_mean(name, columns));
  }
  return found - columns.begin();
}

CsvTable parse_csv(std::string_view text, const CsvOptions& options, const std::string& name) {
  Cutter cutter(text, options.separator, name);
  skip_rows(cutter, options.skip_rows);
  CsvTable table;
  std::vector<double> values;
  std::vector<std::string> cells;
  std::size_t width = 0;
  int64_t rows = 0;
  bool first = true;
  for (auto line = cutter.line(); cutter.next(cells); line = cutter.line()) {
    if (cells.empty()) continue;
    if (width == 0) width = cells.size();
    WINNOW_CHECK_KIND(cells.size() == width, ErrorKind::file, "{}: line {}: {} cells, the first row has {}", name, line,
                      cells.size(), width);
    const bool could_be_header = std::exchange(first, false);
    if (could_be_header && (options.header == CsvOptions::Header::present ||
                            (options.header == CsvOptions::Header::automatic && !all_numbers(cells)))) {
      table.columns = cells;
      continue;
    }
    for (std::size_t i = 0; i < width; ++i) {
      const auto value = to_number(cells[i]);
      WINNOW_CHECK_KIND(value.has_value(), ErrorKind::file, "{}: line {}, column {}: \"{}\" is not a number", name,
                        line, i + 1, printable(cells[i], 40));
      values.push_back(*value);
    }
    ++rows;
  }
  WINNOW_CHECK_KIND(width > 0, ErrorKind::file, "{}: the table is empty", name);
  table.values = at::empty({rows, static_cast<int64_t>(width)}, at::kDouble);
  std::copy(values.begin(), values.end(), table.values.mutable_data_ptr<double>());
  return table;
}

CsvTable read_csv(const std::filesystem::path& path, const CsvOptions& options) {
  return parse_csv(read_file_or_gzip(path, options.max_bytes), options, path.string());
}

std::vector<std::vector<std::string>> parse_csv_cells(std::string_view text, const CsvOptions& options,
                                                      const std::string& name) {
  Cutter cutter(text, options.separator, name);
  skip_rows(cutter, options.skip_rows);
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> cells;
  while (cutter.next(cells)) {
    if (!cells.empty()) rows.push_back(cells);
  }
  return rows;
}

std::vector<std::vector<std::string>> read_csv_cells(const std::filesystem::path& path, const CsvOptions& options) {
  return parse_csv_cells(read_file_or_gzip(path, options.max_bytes), options, path.string());
}

}  // namespace winnow::io

// Any bytes as CSV, as a table of numbers and as cells, or one winnow::Error. The first byte chooses the options.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>

#include "winnow/core/error.h"
#include "winnow/io/csv.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace winnow;
  if (size == 0) return 0;
  constexpr char kSeparators[] = {',', ';', '\t', ' '};
  const io::CsvOptions options{.separator = kSeparators[data[0] % 4],
                               .header = static_cast<io::CsvOptions::Header>(data[0] / 4 % 3),
                               .skip_rows = data[0] / 16 % 3};
  const auto text = io::as_text(io::Bytes(data, size).subspan(1));
  try {
    const auto table = io::parse_csv(text, options);
    if (!table.columns.empty() && static_cast<int64_t>(table.columns.size()) != table.values.size(1)) std::abort();
  } catch (const Error&) {
  }
  try {
    for (const auto& row : io::parse_csv_cells(text, options)) {
      if (row.empty()) std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}

#include "winnow/io/csv.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "gzip_bytes.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::testing {
namespace {

at::Tensor table(std::vector<double> values, int64_t columns) {
  return at::tensor(values, at::kDouble).view({-1, columns});
}

TEST(Csv, NumbersBecomeATable) {
  const auto plain = io::parse_csv("1,2.5\r\n -3 ,\"4e2\"\n");
  EXPECT_TRUE(plain.columns.empty());
  EXPECT_TENSOR_EQ(plain.values, table({1, 2.5, -3, 400}, 2));
  EXPECT_TENSOR_EQ(io::parse_csv("1;2\n3;4", {.separator = ';'}).values, table({1, 2, 3, 4}, 2));
  EXPECT_TENSOR_EQ(io::parse_csv("1\n\n2\n\n").values, table({1, 2}, 1));
  const auto special = io::parse_csv("nan,inf,-inf,,+5\n").values;
  EXPECT_TRUE(std::isnan(special[0][0].item<double>()));
  EXPECT_TRUE(std::isnan(special[0][3].item<double>()));
  EXPECT_EQ(special[0][2].item<double>(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(special[0][4].item<double>(), 5);
}

TEST(Csv, AHeaderIsFoundOrForced) {
  const auto named = io::parse_csv("x,\"the \"\"y\"\"\"\n1,2\n");
  EXPECT_EQ(named.columns, (std::vector<std::string>{"x", "the \"y\""}));
  EXPECT_TENSOR_EQ(named.values, table({1, 2}, 2));
  EXPECT_EQ(named.column("x"), 0);
  EXPECT_ERROR_KIND((void)io::parse_csv("weight,b\n1,2\n").column("wieght"), ErrorKind::argument,
                    "CsvTable: there is no column wieght; did you mean weight?");
  EXPECT_EQ(io::parse_csv("1,2\n3,4\n", {.header = io::CsvOptions::Header::present}).values.size(0), 1);
  EXPECT_ERROR(io::parse_csv("x,y\n", {.header = io::CsvOptions::Header::absent}, "t.csv"),
               "t.csv: line 1, column 1: \"x\" is not a number");
  EXPECT_TENSOR_EQ(io::parse_csv("569,30,malignant,benign\n1,2\n", {.skip_rows = 1}).values, table({1, 2}, 2));
}

TEST(Csv, ErrorsNameLineAndColumn) {
  const auto parse = [](const char* text) { return io::parse_csv(text, {}, "t.csv"); };
  EXPECT_ERROR_KIND(parse("1,2\n3,x\n"), ErrorKind::file, "t.csv: line 2, column 2: \"x\" is not a number");
  EXPECT_ERROR(parse("1,2\n3\n"), "t.csv: line 2: 1 cells, the first row has 2");
  EXPECT_ERROR(parse("1,\"a\nb\"\n3,4,5\n"), "t.csv: line 3: 3 cells, the first row has 2");
  EXPECT_ERROR(parse("1,\"2\n3,4"), "t.csv: line 1, column 2: the quote is never closed");
  EXPECT_ERROR(parse("1,\"2\"x\n"), "t.csv: line 1, column 2: text after the closing quote");
  EXPECT_ERROR(parse("1\n0x10\n"), "t.csv: line 2, column 1: \"0x10\" is not a number");
  EXPECT_ERROR(parse("1\n1e999\n"), "t.csv: line 2, column 1: \"1e999\" is not a number");
  EXPECT_ERROR(parse(""), "t.csv: the table is empty");
  EXPECT_ERROR_KIND(io::parse_csv("1", {.skip_rows = -1}), ErrorKind::argument,
                    "read_csv: skip_rows must be >= 0, got -1");
  EXPECT_ERROR(io::parse_csv("1", {.separator = '"'}), "read_csv: separator must not be a quote or the end of a line");
}

TEST(Csv, CellsAreTextWithQuotesTakenOff) {
  const auto rows = io::parse_csv_cells("a, \"b,c\" ,\n\"multi\nline\",\"say \"\"hi\"\"\"\nlast");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0], (std::vector<std::string>{"a", "b,c", ""}));
  EXPECT_EQ(rows[1], (std::vector<std::string>{"multi\nline", "say \"hi\""}));
  EXPECT_EQ(rows[2], (std::vector<std::string>{"last"}));
}

TEST(Csv, GzippedFilesReadAlike) {
  const TemporaryFolder folder;
  std::ofstream(folder / "t.csv.gz", std::ios::binary) << gzip_bytes("1,2\n3,4\n");
  EXPECT_TENSOR_EQ(io::read_csv(folder / "t.csv.gz").values, table({1, 2, 3, 4}, 2));
  EXPECT_EQ(io::read_csv_cells(folder / "t.csv.gz")[1][0], "3");
  EXPECT_ERROR_KIND(io::read_csv(folder / "none.csv"), ErrorKind::file, "none.csv");
}

}  // namespace
}  // namespace winnow::testing

// Turns sentences into vectors with a sentence encoder (a folder of sentence-transformers, here MiniLM).
//
//   ./dev data minilm
//   build/release/bin/embed_text --model data/minilm --text "A man is eating food." "Someone has lunch." --cosines
//   build/release/bin/embed_text --model data/minilm --file lines.txt --out vectors.npy
//
// --out writes the vectors, a row per text, as .npy, or as JSON with the texts; --cosines prints the table of their
// similarities (0.51 for the two above). About a second for loading and 10 ms for a sentence on one core.
#include <ATen/Functions.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "winnow/core/file.h"
#include "winnow/core/program.h"
#include "winnow/core/text.h"
#include "winnow/io/json.h"
#include "winnow/io/npy.h"
#include "winnow/models/sentence_encoder.h"

namespace {

using namespace winnow;  // NOLINT: a program

void print_cosines(const std::vector<std::string>& texts, const at::Tensor& vectors) {
  const auto unit = vectors / vectors.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12);
  const auto cosines = at::mm(unit, unit.t());
  for (int64_t i = 0; i < cosines.size(0); ++i) {
    for (int64_t j = 0; j < cosines.size(1); ++j) fmt::print("{:7.4f} ", cosines[i][j].item<double>());
    fmt::print(" {}\n", printable(texts[static_cast<size_t>(i)], 60));
  }
}

void write_vectors(const std::string& file, const std::vector<std::string>& texts, const at::Tensor& vectors) {
  if (file.ends_with(".npy")) return io::write_npy(file, vectors);
  io::Json list = io::Json::array();
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto row = vectors[static_cast<int64_t>(i)].contiguous();
    const auto* values = row.const_data_ptr<float>();
    list.push_back({{"text", texts[i]}, {"vector", std::vector<float>(values, values + row.numel())}});
  }
  io::write_json(file, list);
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, file, out;
  std::vector<std::string> texts;
  bool cosines = false;
  int64_t batch = 32;
  const ProgramInfo info{
      .name = "embed_text",
      .summary = "Turns sentences into vectors with a sentence encoder.",
      .arguments = {{"--model", &folder, "folder of a sentence encoder", /*required=*/true},
                    {"--text", &texts, "the texts"},
                    {"--file", &file, "a file of further texts, one a line; empty lines are skipped"},
                    {"--out", &out, "file to write: vectors.npy or vectors.json"},
                    {"--cosines", &cosines, "print the cosines of all pairs"},
                    {"--batch-size", &batch, "texts run together"}},
      .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config&) {
    if (batch < 1) throw UsageError(fmt::format("--batch-size must be >= 1, got {}", batch));
    if (!out.empty() && !out.ends_with(".npy") && !out.ends_with(".json")) {
      throw UsageError(fmt::format("--out must end in .npy or .json, got {}", out));
    }
    if (!file.empty()) {
      for (const auto& line : split(read_file(file), '\n')) {
        if (!trim(line).empty()) texts.emplace_back(trim(line));
      }
    }
    if (texts.empty()) throw UsageError("there must be a text: --text or --file");
    const auto encoder = models::SentenceEncoder::load(folder);
    const auto vectors = encoder.encode(texts, {.batch_size = batch}).to(at::kFloat);  // [N, D]
    if (cosines) print_cosines(texts, vectors);
    if (!out.empty()) write_vectors(out, texts, vectors);
    if (!cosines)
      fmt::print("{} texts, {} numbers each{}\n", texts.size(), vectors.size(1), out.empty() ? "" : ": " + out);
    return 0;
  });
}

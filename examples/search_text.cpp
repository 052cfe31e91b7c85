// Search by meaning in a file of texts, one a line: the King James Bible with a question in other words than its own.
//
//   ./dev data minilm && ./dev data kjv
//   build/release/bin/search_text --model data/minilm --corpus data/kjv/kjv.txt --labels
//       --index runs/kjv.safetensors --query "people build a very high tower" --top-k 3
//
// The vectors of all 31,102 verses take six minutes of one core, once; the index file keeps them, and a query then
// takes less than a second. The first verse found is Genesis 11:5, "And the LORD came down to see the city and the
// tower", with a cosine of 0.5084. Without --query, queries are read from standard input, one a line.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/program.h"
#include "winnow/core/progress.h"
#include "winnow/core/text.h"
#include "winnow/models/text_index.h"

namespace {

using namespace winnow;  // NOLINT: a program

struct Corpus {
  std::vector<std::string> labels, texts;
};

// Lines that are not empty, at most `limit` of them (0: all). With labels, the first word of a line is not part of its
// text.
Corpus read_corpus(const std::string& file, bool labels, int64_t limit) {
  Corpus corpus;
  for (const auto& raw : split(read_file(file), '\n')) {
    const auto line = trim(raw);
    const auto gap = labels ? line.find(' ') : std::string_view::npos;
    const auto text = gap == std::string_view::npos ? line : trim(line.substr(gap));
    if (text.empty()) continue;
    corpus.labels.emplace_back(gap == std::string_view::npos ? "" : line.substr(0, gap));
    corpus.texts.emplace_back(text);
    if (limit > 0 && static_cast<int64_t>(corpus.texts.size()) == limit) break;
  }
  WINNOW_CHECK_KIND(!corpus.texts.empty(), ErrorKind::file, "{}: must hold at least one line of text", file);
  return corpus;
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, file, index_file;
  std::vector<std::string> queries;
  bool labels = false;
  int64_t top_k = 5, limit = 0;
  const ProgramInfo info{.name = "search_text",
                         .summary = "Finds the lines of a file that mean most nearly what a query says.",
                         .arguments = {{"--model", &folder, "folder of a sentence encoder", /*required=*/true},
                                       {"--corpus", &file, "the texts, one a line", /*required=*/true},
                                       {"--labels", &labels, "the first word of a line is its label, not its text"},
                                       {"--index", &index_file, "file that keeps the vectors (.safetensors)"},
                                       {"--query", &queries, "what to look for; absent: lines of standard input"},
                                       {"--top-k", &top_k, "lines shown for a query"},
                                       {"--limit", &limit, "lines of the corpus used, 0 = all"}},
                         .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config&) {
    if (top_k < 1) throw UsageError(fmt::format("--top-k must be >= 1, got {}", top_k));
    const auto corpus = read_corpus(file, labels, limit);
    const auto encoder = models::SentenceEncoder::load(folder);
    std::optional<Progress> progress;  // only if the vectors must be made
    const auto index =
        models::index_texts(encoder, corpus.texts, {.file = index_file, .chunk = 256, .progress = [&](int64_t done) {
                                                      if (!progress) {
                                                        progress.emplace("embed", std::ssize(corpus.texts),
                                                                         ProgressOptions{.unit = "texts"});
                                                      }
                                                      progress->update(done);
                                                      throw_if_stopped();
                                                    }});
    if (progress) progress->finish();
    const auto answer = [&](const std::string& query) {
      fmt::print("{}\n", query);
      for (const auto& hit : index.search(encoder.encode(query), top_k)) {
        const auto at = static_cast<size_t>(hit.text);
        fmt::print("  {:.4f}  {}{}{}\n", hit.score, corpus.labels[at], labels ? "  " : "", corpus.texts[at]);
      }
    };
    for (const auto& query : queries) answer(query);
    for (std::string line; queries.empty() && std::getline(std::cin, line);) {
      throw_if_stopped();
      if (!trim(line).empty()) answer(line);
    }
    return 0;
  });
}

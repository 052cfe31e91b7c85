// Sentence vectors of MiniLM (6 layers of 384) beside transformers (SDPA) with the same files, texts and batches of 32,
// text to vector, tokenization included. Wanted: no slower (1.0). The floor is the matrix products of the tokens that
// are there; the goal of both sides is the GEMM peak printed beside it. Needs ./dev data minilm and ./dev data kjv.
#include <ATen/Functions.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "bench.h"
#include "peer.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"
#include "winnow/models/sentence_encoder.h"

namespace {

using namespace winnow;  // NOLINT: a program

// Every 97th verse, without its reference: short and long ones of all books.
std::vector<std::string> verses(const std::string& file, size_t count) {
  std::vector<std::string> texts;
  const auto content = read_file(file);
  const auto lines = split(content, '\n');
  for (size_t i = 0; i < lines.size() && texts.size() < count; i += 97) {
    const auto line = trim(lines[i]);
    if (const auto gap = line.find(' '); gap != std::string_view::npos) texts.emplace_back(trim(line.substr(gap)));
  }
  return texts;
}

// Multiply-adds of the weights for one token, in G.
double per_token(const models::BertConfig& c) {
  const auto D = static_cast<double>(c.hidden_size);
  return 1e-9 * static_cast<double>(c.num_hidden_layers) *
         (4 * D * D + 2 * D * static_cast<double>(c.intermediate_size));
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("sentence_encoder", argc, argv, [](bench::Report& report) {
    const std::string model = "data/minilm", corpus = "data/kjv/kjv.txt";
    WINNOW_CHECK_KIND(
        std::filesystem::exists(model) && std::filesystem::exists(corpus), ErrorKind::file,
        "sentence_encoder_bench: {} and {} must be there; ./dev data minilm and ./dev data kjv fetch them", model,
        corpus);
    const int64_t batch = 32;
    const auto texts = verses(corpus, report.smoke() ? 8 : 96);
    const auto encoder = models::SentenceEncoder::load(model);
    const auto folder = std::filesystem::temp_directory_path() / fmt::format("winnow_sentences_{}", getpid());
    std::filesystem::create_directories(folder);
    io::write_json(folder / "texts.json", texts);
    bench::Peer peer("embed_texts.py", {"transformers==5.23.0", "safetensors==0.8.0"},
                     {"serve", model, (folder / "texts.json").string(), std::to_string(batch)});
    peer.ask("vectors " + (folder / "peer.safetensors").string());
    const auto theirs = io::load_safetensors(folder / "peer.safetensors").at("embeddings");
    const double apart = (encoder.encode(texts, {.batch_size = batch}) - theirs).abs().max().item<double>();
    report.note("largest difference of a vector's entry", apart);
    WINNOW_CHECK(apart <= 1e-4, "sentence_encoder_bench: the vectors must be equal to 1e-4, got {}", apart);

    const auto work = [&] { bench::keep(encoder.encode(texts, {.batch_size = batch})); };
    const auto result = report.compare(fmt::format("{} verses to vectors, batch {}", texts.size(), batch),
                                       {.label = "winnow", .work = work},
                                       {.label = "transformers",
                                        .timed = [&](int64_t calls) { return peer.run(calls); },
                                        .set_threads = [&](int64_t threads) { peer.set_threads(threads); }},
                                       {.target = 1.0, .rounds = 9});
    int64_t tokens = 0;
    for (const auto& encoding : encoder.tokenizer().encode_batch(texts)) tokens += std::ssize(encoding.ids);
    const double seconds = 1e-3 * result.our_ms,
                 giga = 2 * static_cast<double>(tokens) * per_token(encoder.model()->config);
    report.note("tokens", static_cast<double>(tokens));
    report.note("texts per second, winnow", static_cast<double>(texts.size()) / seconds);
    report.note("texts per second, transformers", 1e3 * static_cast<double>(texts.size()) / result.other_ms);
    report.note("GFLOP/s of the weights' products, winnow", giga / seconds);
    report.note("GEMM peak, GFLOP/s", bench::gemm_peak());
    const auto tokenize = [&] { bench::keep(encoder.tokenizer().encode_batch(texts)); };
    report.note("share of tokenization", report.time_ms(tokenize) / result.our_ms);
    std::filesystem::remove_all(folder);
  });
}

// Encoding of English prose (Jane Austen, by paragraphs) beside the tokenizers library of Hugging Face on the same
// tokenizer.json, one thread and two: byte-level BPE with 49,152 tokens (SmolLM2's, out of its GGUF file) and WordPiece
// with 30,522 (MiniLM's). The ids of both sides are compared first. Wanted: 3 times its speed, at least its speed.
// Data: ./dev data austen smollm2 minilm.
#include <fmt/core.h>
#include <torch/types.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bench.h"
#include "peer.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/io/gguf_tokenizer.h"
#include "winnow/io/json.h"
#include "winnow/io/tokenizer.h"

namespace {

using namespace winnow;
namespace fs = std::filesystem;

fs::path data_file(const std::string& folder, const std::string& file) {
  const std::string root = std::getenv("WINNOW_DATA") != nullptr ? std::getenv("WINNOW_DATA") : "data";
  const auto path = fs::path(root) / folder / file;
  WINNOW_CHECK_KIND(fs::is_regular_file(path), ErrorKind::file, "{}: there is no such file; run: ./dev data {}",
                    path.string(), folder);
  return path;
}

std::vector<std::string> paragraphs(bool smoke) {
  const auto text = read_file(data_file("austen", "austen.txt").string());
  std::vector<std::string> texts;
  for (size_t begin = 0; begin < text.size() && (!smoke || texts.size() < 50);) {
    const auto end = std::min(text.find("\n\n", begin), text.size());
    if (end > begin) texts.push_back(text.substr(begin, end - begin));
    begin = end + 2;
  }
  return texts;
}

void check_ids(const io::Tokenizer& tokenizer, const std::vector<std::string>& texts, bench::Peer& peer,
               const fs::path& file) {
  std::vector<int64_t> ids;
  for (const auto& text : texts) {
    const auto encoding = tokenizer.encode(text, {.add_special_tokens = false});
    ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
  }
  WINNOW_CHECK(peer.ask("save " + file.string()) == "ok", "tokenizer_bench: the peer did not save its ids");
  const auto bytes = read_file(file.string());
  WINNOW_CHECK(bytes.size() == ids.size() * sizeof(int64_t) && std::memcmp(bytes.data(), ids.data(), bytes.size()) == 0,
               "tokenizer_bench: the ids of both sides differ");
}

void compare(bench::Report& report, const std::string& name, const fs::path& file,
             const std::vector<std::string>& texts, const fs::path& scratch) {
  const auto tokenizer = io::load_tokenizer(file);
  io::write_json(scratch / "texts.json", io::Json(texts));
  const std::vector<std::string> packages = {"tokenizers==0.23.3"};
  std::vector<std::unique_ptr<bench::Peer>> peers;
  for (const auto* threads : {"1", "2"}) {
    peers.push_back(std::make_unique<bench::Peer>(
        "hf_tokenizers.py", packages,
        std::vector<std::string>{file.string(), (scratch / "texts.json").string(), threads}));
  }
  check_ids(*tokenizer, texts, *peers[0], scratch / "ids.bin");
  size_t peer = 0;
  const auto pass = [&] { bench::keep(tokenizer->encode_batch(texts, {.add_special_tokens = false})); };
  const auto result = report.compare(name, {.label = "winnow", .work = pass},
                                     {.label = "tokenizers",
                                      .timed = [&](int64_t calls) { return peers[peer]->run(calls); },
                                      .set_threads = [&](int64_t threads) { peer = threads == 1 ? 0 : 1; }},
                                     {.target = 3, .rounds = 9});
  double megabytes = 0;
  for (const auto& text : texts) megabytes += static_cast<double>(text.size()) / 1e6;
  report.note(name + ": MB/s on one thread, winnow", 1000 * megabytes / result.our_ms);
  report.note(name + ": MB/s on one thread, tokenizers", 1000 * megabytes / result.other_ms);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("tokenizer", argc, argv, [](bench::Report& report) {
    const auto scratch = fs::temp_directory_path() / fmt::format("winnow_tokenizer_{}", getpid());
    fs::create_directories(scratch);
    const auto texts = paragraphs(report.smoke());
    const io::GgufFile gguf(data_file("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"));
    io::write_json(scratch / "tokenizer.json", io::gguf_tokenizer_json(gguf));
    compare(report, "byte-level BPE, 49,152 tokens", scratch / "tokenizer.json", texts, scratch);
    compare(report, "WordPiece, 30,522 tokens", fs::absolute(data_file("minilm", "tokenizer.json")), texts, scratch);
    fs::remove_all(scratch);
  });
}

// Trains a byte-level BPE tokenizer on text files and writes tokenizer.json, which Hugging Face's tokenizers reads.
//
//   ./dev data austen
//   build/release/bin/train_tokenizer --file data/austen/austen.txt --vocab-size 8192 --out runs/tokenizer
//
// Seconds for the 4 MB of Austen; the last line says how many bytes a token of the training text has.
#include <fmt/format.h>

#include <chrono>
#include <string>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/program.h"
#include "winnow/core/text.h"
#include "winnow/io/bpe_trainer.h"
#include "winnow/io/tokenizer.h"

namespace {

using namespace winnow;  // NOLINT: a program

// Bytes a token over the lines of the files.
double bytes_per_token(const io::Tokenizer& tokenizer, const std::vector<std::string>& files) {
  int64_t bytes = 0, tokens = 0;
  for (const auto& file : files) {
    for (const auto& line : split(read_file(file), '\n')) {
      bytes += static_cast<int64_t>(line.size()) + 1;
      tokens += static_cast<int64_t>(tokenizer.encode(line + "\n").ids.size());
    }
  }
  return static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(tokens, 1));
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> files, special = {"<|endoftext|>"};
  std::string out;
  io::BpeTrainerOptions options;
  const ProgramInfo info{
      .name = "train_tokenizer",
      .summary = "Trains a byte-level BPE tokenizer on text files.",
      .arguments = {{"--file", &files, "text files, UTF-8", /*required=*/true},
                    {"--out", &out, "folder for tokenizer.json, made if missing", /*required=*/true},
                    {"--vocab-size", &options.vocab_size, "special tokens and the 256 bytes included"},
                    {"--min-frequency", &options.min_frequency, "a pair seen less often is not merged"},
                    {"--special", &special, "special tokens, the first gets id 0"}}};
  return run_program(argc, argv, info, [&](Config&) {
    options.special_tokens = special;
    io::BpeTrainer trainer(options);
    const auto start = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    for (const auto& file : files) trainer.add_file(file);
    const auto counted = seconds();
    const auto json = trainer.train();
    const auto trained = seconds();
    ensure_directory(out);
    io::write_json(out + "/tokenizer.json", json);
    const auto merges = json["model"]["merges"].size();
    fmt::print("{} merges; counted in {:.2f} s, learned in {:.2f} s\n", merges, counted, trained - counted);
    fmt::print("{}/tokenizer.json: {:.3f} bytes a token\n", out,
               bytes_per_token(*io::load_tokenizer(out + "/tokenizer.json"), files));
    return 0;
  });
}

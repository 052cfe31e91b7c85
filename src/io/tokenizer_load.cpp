#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "json_tokenizer.h"
#include "tokenizer_files.h"
#include "winnow/core/error.h"
#include "winnow/io/gguf_tokenizer.h"
#include "winnow/io/sentencepiece.h"
#include "winnow/io/tiktoken.h"

namespace winnow::io {

namespace fs = std::filesystem;

namespace {

std::shared_ptr<const Tokenizer> from_json(const Json& json, const fs::path& file) {
  auto tokenizer = make_json_tokenizer(json, file.string());
  tokenizer->set_special_ids(read_special_ids(file.parent_path(), *tokenizer));
  return tokenizer;
}

std::optional<fs::path> file_ending(const fs::path& folder, const std::string& ending) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename().string().ends_with(ending)) found.push_back(entry.path());
  }
  if (found.empty()) return std::nullopt;
  return *std::min_element(found.begin(), found.end());
}

std::shared_ptr<const Tokenizer> from_file(const fs::path& path) {
  const auto name = path.filename().string();
  if (is_gguf(path)) return load_gguf_tokenizer(GgufFile(path));
  if (name.ends_with(".model")) return load_sentencepiece(path);
  if (name.ends_with(".tiktoken")) return load_tiktoken(path);
  if (name == "vocab.json" || name == "merges.txt") {
    const auto vocab = path.parent_path() / "vocab.json", merges = path.parent_path() / "merges.txt";
    for (const auto& file : {vocab, merges})
      WINNOW_CHECK_KIND(fs::is_regular_file(file), ErrorKind::file, "{}: there is no such file beside {}",
                        file.string(), name);
    return from_json(tokenizer_json_of_merges(vocab, merges), vocab);
  }
  if (name.ends_with(".txt")) return from_json(tokenizer_json_of_vocab_txt(path), path);
  WINNOW_CHECK_KIND(name.ends_with(".json"), ErrorKind::unsupported,
                    "{}: a tokenizer is a .json, .model, .tiktoken, .gguf, vocab.json with merges.txt, or vocab.txt",
                    path.string());
  return from_json(read_json(path), path);
}

}  // namespace

std::shared_ptr<const Tokenizer> load_tokenizer(const fs::path& path) {
  WINNOW_CHECK_KIND(fs::exists(path), ErrorKind::file, "{}: there is no such file or folder", path.string());
  if (!fs::is_directory(path)) return from_file(path);
  for (const auto* name : {"tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"}) {
    if (fs::is_regular_file(path / name)) return from_file(path / name);
  }
  if (fs::is_regular_file(path / "vocab.json") && fs::is_regular_file(path / "merges.txt"))
    return from_file(path / "vocab.json");
  if (fs::is_regular_file(path / "vocab.txt")) return from_file(path / "vocab.txt");
  for (const auto* ending : {".tiktoken", ".gguf"}) {
    if (const auto file = file_ending(path, ending)) return from_file(*file);
  }
  fail(ErrorKind::file,
       "{}: the folder holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json with merges.txt, vocab.txt, "
       "a .tiktoken or a .gguf)",
       path.string());
}

}  // namespace winnow::io

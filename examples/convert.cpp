// Converts a GGUF file of a language model into a folder of Hugging Face: config.json, model.safetensors (dequantised),
// tokenizer.json, tokenizer_config.json with the chat template, generation_config.json. transformers loads the folder.
//
//   ./dev data smollm2
//   build/release/bin/convert --gguf data/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --out runs/smollm2
//
// Seconds for SmolLM2-135M, whose 98 MB become 538 MB in float32 and 269 MB with --dtype bfloat16.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <string>

#include "winnow/core/program.h"
#include "winnow/core/text.h"
#include "winnow/io/gguf.h"
#include "winnow/io/safetensors.h"
#include "winnow/models/gguf.h"

int main(int argc, char** argv) {
  using namespace winnow;
  std::string file, out, dtype = "keep";
  const ProgramInfo info{.name = "convert",
                         .summary = "Converts a GGUF file of a language model into a folder of Hugging Face.",
                         .arguments = {{"--gguf", &file, "the file", /*required=*/true},
                                       {"--out", &out, "the folder, made if missing", /*required=*/true},
                                       {"--dtype", &dtype, "of the weights: keep, float32, float16 or bfloat16"}},
                         .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config&) {
    auto type = at::ScalarType::Undefined;
    if (dtype == "float32") {
      type = at::kFloat;
    } else if (dtype == "float16") {
      type = at::kHalf;
    } else if (dtype == "bfloat16") {
      type = at::kBFloat16;
    } else if (dtype != "keep") {
      throw UsageError(fmt::format("--dtype must be keep, float32, float16 or bfloat16, got {}", dtype));
    }
    models::convert_gguf(io::GgufFile(file), out, type);
    const io::Checkpoint written(out);
    int64_t bytes = 0;
    for (const auto& name : written.names()) {
      const auto& entry = written.entry(name);
      bytes += static_cast<int64_t>(entry.end - entry.begin);
    }
    fmt::print("{}: {} tensors, {}\n", out, written.names().size(), human_bytes(bytes));
    return 0;
  });
}

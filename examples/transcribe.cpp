// Writes down what is said in a WAV file, with a Whisper network of a published folder (config.json, model.safetensors,
// preprocessor_config.json; generation_config.json and tokenizer files where there are some).
//
//   transcribe --model FOLDER --wav speech.wav
//
// Any sample rate and number of channels; the first chunk (30 seconds) is heard. Without tokenizer files the token
// numbers are printed. --features FILE.safetensors also writes the log-mel columns (tensors "samples" and "features"),
// which benchmarks/peers/check_log_mel.py compares with transformers'. A second or two on one core for the tiny model.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/types.h>

#include <filesystem>
#include <string>

#include "winnow/core/config.h"
#include "winnow/core/program.h"
#include "winnow/data/audio.h"
#include "winnow/io/safetensors.h"
#include "winnow/io/tokenizer.h"
#include "winnow/io/wav.h"
#include "winnow/models/generation.h"
#include "winnow/models/generation_config.h"
#include "winnow/models/whisper.h"

namespace {

using namespace winnow;

// The front end of the folder; without a file that describes it, as large as the network's input.
data::LogMelOptions front_end(const std::filesystem::path& folder, const models::WhisperConfig& config) {
  if (std::filesystem::exists(folder / "preprocessor_config.json")) return data::read_log_mel_options(folder);
  data::LogMelOptions options;
  options.feature_size = config.num_mel_bins;
  options.hop_length = options.chunk_length * options.sampling_rate / (2 * config.max_source_positions);
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, wav, features;
  int64_t beams = 1, max_new_tokens = 0;
  const ProgramInfo info{.name = "transcribe",
                         .summary = "Writes down what is said in a WAV file.",
                         .arguments = {{"--model", &folder, "folder of a Whisper network", /*required=*/true},
                                       {"--wav", &wav, "the sound", /*required=*/true},
                                       {"--beams", &beams, "above 1: beam search"},
                                       {"--max-new-tokens", &max_new_tokens, "0: as the folder says"},
                                       {"--features", &features, "file for the log-mel columns; empty: none"}},
                         .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config&) {
    const at::NoGradGuard no_grad;
    auto model = models::load_as<models::Whisper>(folder);
    const data::LogMel front(front_end(folder, model->config));
    const auto sound = io::read_wav(wav);
    const auto samples =
        data::resample_audio(data::to_mono(sound.samples), sound.sample_rate, front.options().sampling_rate);
    const auto heard = front({samples}).features;  // [1, bands, columns]
    if (!features.empty()) io::save_safetensors(features, {{"samples", samples}, {"features", heard}});
    auto options = models::read_generation_config(folder);
    options.beams = beams;
    if (max_new_tokens > 0) options.max_new_tokens = max_new_tokens;
    const bool speaks = std::filesystem::exists(std::filesystem::path(folder) / "tokenizer.json");
    if (speaks) options.tokenizer = io::load_tokenizer(folder);
    const auto states = model->encode(heard).states;
    const auto out =
        models::generate(*model, {.prompts = {{model->decoder_start()}}, .encoder_states = states}, options);
    const auto& spoken = out.rows[0][0];
    fmt::print("{}\n", speaks ? spoken.text : fmt::format("{}", fmt::join(spoken.tokens, " ")));
    return 0;
  });
}

#include "winnow/models/generation_config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

// Keys that parse_generation_config() reads.
constexpr auto kDone = std::to_array<std::string_view>({"begin_suppress_tokens",
                                                        "bad_words_ids",
                                                        "decoder_start_token_id",
                                                        "do_sample",
                                                        "early_stopping",
                                                        "encoder_no_repeat_ngram_size",
                                                        "encoder_repetition_penalty",
                                                        "eos_token_id",
                                                        "epsilon_cutoff",
                                                        "eta_cutoff",
                                                        "exponential_decay_length_penalty",
                                                        "forced_bos_token_id",
                                                        "forced_decoder_ids",
                                                        "forced_eos_token_id",
                                                        "frequency_penalty",
                                                        "guidance_scale",
                                                        "length_penalty",
                                                        "max_length",
                                                        "max_new_tokens",
                                                        "max_time",
                                                        "min_length",
                                                        "min_new_tokens",
                                                        "min_p",
                                                        "no_repeat_ngram_size",
                                                        "num_beams",
                                                        "num_return_sequences",
                                                        "prefill_chunk_size",
                                                        "presence_penalty",
                                                        "remove_invalid_values",
                                                        "renormalize_logits",
                                                        "repetition_penalty",
                                                        "sequence_bias",
                                                        "stop_strings",
                                                        "suppress_tokens",
                                                        "temperature",
                                                        "top_k",
                                                        "top_p",
                                                        "typical_p"});

// Keys that do not change the tokens of a run: caches and compilation, what transformers returns, lossless assistants,
// ids that prompts are made with, and the tables of a speech model's languages.
constexpr auto kPassedOver = std::to_array<std::string_view>({"_commit_hash",
                                                              "_from_model_config",
                                                              "alignment_heads",
                                                              "assistant_confidence_threshold",
                                                              "assistant_early_exit",
                                                              "assistant_lookbehind",
                                                              "bos_token_id",
                                                              "cache_config",
                                                              "compile_config",
                                                              "continuous_batching_config",
                                                              "disable_compile",
                                                              "is_assistant",
                                                              "is_multilingual",
                                                              "lang_to_id",
                                                              "low_memory",
                                                              "max_cache_len",
                                                              "max_initial_timestamp_index",
                                                              "max_matching_ngram_size",
                                                              "no_timestamps_token_id",
                                                              "num_assistant_tokens",
                                                              "num_assistant_tokens_schedule",
                                                              "output_attentions",
                                                              "output_hidden_states",
                                                              "output_logits",
                                                              "output_scores",
                                                              "pad_token_id",
                                                              "prev_sot_token_id",
                                                              "prompt_lookup_num_tokens",
                                                              "return_dict_in_generate",
                                                              "speculation_type",
                                                              "target_lookbehind",
                                                              "task_to_id",
                                                              "transformers_version",
                                                              "use_cache",
                                                              "use_mtp"});

// Keys that are fine while their value switches them off.
struct Switch {
  std::string_view key;
  bool (*off)(const Json&);
};
bool is_off(const Json& v) {
  return v.is_boolean() ? !v.get<bool>() : v.is_number() && v.get<double>() == 0;
}
bool is_empty(const Json& v) {
  return (v.is_array() || v.is_object()) && v.empty();
}
bool is_at_most_one(const Json& v) {
  return v.is_number() && v.get<double>() <= 1;
}
bool is_exact_cache(const Json& v) {
  return v.is_string() && v != "quantized";
}
constexpr auto kSwitches = std::to_array<Switch>({{"assistant_ensemble_weight", is_off},
                                                  {"cache_implementation", is_exact_cache},
                                                  {"constraints", is_empty},
                                                  {"diversity_penalty", is_off},
                                                  {"dola_layers", is_empty},
                                                  {"force_words_ids", is_empty},
                                                  {"num_beam_groups", is_at_most_one},
                                                  {"penalty_alpha", is_off},
                                                  {"return_timestamps", is_off},
                                                  {"token_healing", is_off},
                                                  {"top_h", is_off},
                                                  {"watermarking_config", is_empty}});

void check_key(const JsonObject& config, const std::string& key) {
  const auto& value = config.value().at(key);
  if (value.is_null()) return;
  const auto known = [&](const auto& keys) { return std::find(keys.begin(), keys.end(), key) != keys.end(); };
  if (known(kDone) || known(kPassedOver)) return;
  const auto* found = std::find_if(kSwitches.begin(), kSwitches.end(), [&](const Switch& s) { return s.key == key; });
  if (found != kSwitches.end()) {
    WINNOW_CHECK_KIND(found->off(value), ErrorKind::unsupported, "{}: {} = {} is not supported", config.file(),
                      config.where(key), printable(value.dump(), 60));
    return;
  }
  std::vector<std::string> keys(kDone.begin(), kDone.end());
  for (const auto& s : kSwitches) keys.emplace_back(s.key);
  fail(ErrorKind::unsupported, "{}: {} is no option of generation that is known here{}", config.file(),
       config.where(key), did_you_mean(key, keys));
}

// A number or a list of numbers.
std::vector<int64_t> ids(const JsonObject& config, const std::string& key) {
  if (!config.has(key)) return {};
  if (config.raw(key).is_array()) return config.get<std::vector<int64_t>>(key);
  return {config.get<int64_t>(key)};
}

std::optional<int64_t> id(const JsonObject& config, const std::string& key) {
  return config.has(key) ? std::optional(config.get<int64_t>(key)) : std::nullopt;
}

[[noreturn]] void wrong(const JsonObject& config, const std::string& key, std::string_view wanted) {
  fail(ErrorKind::file, "{}: {} must be {}, got {}", config.file(), config.where(key), wanted,
       printable(config.raw(key).dump(), 80));
}

bool is_id_list(const Json& value) {
  return value.is_array() && !value.empty() &&
         std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_number_integer(); });
}

std::vector<std::vector<int64_t>> sequences(const JsonObject& config, const std::string& key) {
  std::vector<std::vector<int64_t>> result;
  if (!config.has(key)) return result;
  if (!config.raw(key).is_array()) wrong(config, key, "a list of lists of tokens");
  for (const auto& item : config.raw(key)) {
    if (!is_id_list(item)) wrong(config, key, "a list of lists of tokens");
    result.push_back(item.get<std::vector<int64_t>>());
  }
  return result;
}

void read_pairs(const JsonObject& config, GenerationOptions& options) {
  if (const std::string key = "sequence_bias"; config.has(key)) {
    if (!config.raw(key).is_array()) wrong(config, key, "a list of [[tokens], bias]");
    for (const auto& item : config.raw(key)) {
      const bool pair = item.is_array() && item.size() == 2 && is_id_list(item[0]) && item[1].is_number();
      if (!pair) wrong(config, key, "a list of [[tokens], bias]");
      options.sequence_bias.push_back({.tokens = item[0].get<std::vector<int64_t>>(), .bias = item[1].get<double>()});
    }
  }
  if (const std::string key = "forced_decoder_ids"; config.has(key)) {
    if (!config.raw(key).is_array()) wrong(config, key, "a list of [position, token]");
    for (const auto& item : config.raw(key)) {
      if (item.is_array() && item.size() == 2 && item[1].is_null()) continue;  // the place of a language to be found
      if (!is_id_list(item) || item.size() != 2) wrong(config, key, "a list of [position, token]");
      options.forced_tokens.emplace_back(item[0].get<int64_t>(), item[1].get<int64_t>());
    }
  }
  if (const std::string key = "exponential_decay_length_penalty"; config.has(key)) {
    const auto& item = config.raw(key);
    const bool pair = item.is_array() && item.size() == 2 && item[0].is_number_integer() && item[1].is_number();
    if (!pair) wrong(config, key, "[start, factor]");
    options.exponential_decay_length = {item[0].get<int64_t>(), item[1].get<double>()};
  }
}

void read_length(const JsonObject& config, GenerationOptions& o) {
  o.max_new_tokens = id(config, "max_new_tokens");
  o.max_length = id(config, "max_length");
  o.min_new_tokens = id(config, "min_new_tokens");
  if (const auto least = config.get_or<int64_t>("min_length", 0); least > 0) o.min_length = least;
  if (config.has("max_time")) o.max_seconds = config.get<double>("max_time");
  if (config.has("stop_strings")) {
    o.stop_strings = config.raw("stop_strings").is_string() ? std::vector{config.get<std::string>("stop_strings")}
                                                            : config.get<std::vector<std::string>>("stop_strings");
  }
  o.prefill_chunk = config.get_or("prefill_chunk_size", o.prefill_chunk);
}

void read_choice(const JsonObject& config, GenerationOptions& o) {
  o.sample = config.get_or("do_sample", false);
  auto& w = o.warp;
  w.temperature = config.get_or("temperature", w.temperature);
  w.top_k = config.get_or<int64_t>("top_k", 50);
  w.top_p = config.get_or("top_p", w.top_p);
  w.min_p = config.get_or("min_p", w.min_p);
  w.typical_p = config.get_or("typical_p", w.typical_p);
  w.epsilon_cutoff = config.get_or("epsilon_cutoff", w.epsilon_cutoff);
  w.eta_cutoff = config.get_or("eta_cutoff", w.eta_cutoff);
  o.sequences = config.get_or("num_return_sequences", o.sequences);
  o.beams = config.get_or("num_beams", o.beams);
  o.length_penalty = config.get_or("length_penalty", o.length_penalty);
  if (!config.has("early_stopping")) return;
  const auto& early = config.raw("early_stopping");
  if (early == "never") {
    o.early_stopping = EarlyStopping::never;
  } else if (early.is_boolean()) {
    o.early_stopping = early.get<bool>() ? EarlyStopping::first : EarlyStopping::heuristic;
  } else {
    wrong(config, "early_stopping", "true, false or \"never\"");
  }
}

// What config.json of a model may hold too.
void read_forced(const JsonObject& config, GenerationOptions& o) {
  o.eos = ids(config, "eos_token_id");
  o.decoder_start = id(config, "decoder_start_token_id");
  o.forced_bos = id(config, "forced_bos_token_id");
  o.forced_eos = ids(config, "forced_eos_token_id");
  o.suppressed = ids(config, "suppress_tokens");
  o.begin_suppressed = ids(config, "begin_suppress_tokens");
}

void read_rules(const JsonObject& config, GenerationOptions& o) {
  o.guidance_scale = config.get_or("guidance_scale", o.guidance_scale);
  o.encoder_repetition_penalty = config.get_or("encoder_repetition_penalty", o.encoder_repetition_penalty);
  o.repetition_penalty = config.get_or("repetition_penalty", o.repetition_penalty);
  o.presence_penalty = config.get_or("presence_penalty", o.presence_penalty);
  o.frequency_penalty = config.get_or("frequency_penalty", o.frequency_penalty);
  o.no_repeat_ngram = config.get_or("no_repeat_ngram_size", o.no_repeat_ngram);
  o.encoder_no_repeat_ngram = config.get_or("encoder_no_repeat_ngram_size", o.encoder_no_repeat_ngram);
  o.bad_words = sequences(config, "bad_words_ids");
  o.remove_invalid = config.get_or("remove_invalid_values", o.remove_invalid);
  o.renormalize = config.get_or("renormalize_logits", o.renormalize);
  read_forced(config, o);
  read_pairs(config, o);
}

// Names the file in what check() says; stop strings wait for their tokenizer.
void check_values(const JsonObject& config, GenerationOptions options) {
  options.stop_strings.clear();
  try {
    options.check();
  } catch (const Error& error) {
    const auto kind = error.kind() == ErrorKind::argument ? ErrorKind::file : error.kind();
    fail(kind, "{}: {}", config.file(), error.what());
  }
}

}  // namespace

GenerationOptions parse_generation_config(const JsonObject& config) {
  for (const auto& [key, value] : config.value().items()) check_key(config, key);
  GenerationOptions options;
  read_length(config, options);
  read_choice(config, options);
  read_rules(config, options);
  check_values(config, options);
  return options;
}

GenerationOptions read_generation_config(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return parse_generation_config(JsonObject::read(path));
  if (const auto file = path / "generation_config.json"; std::filesystem::exists(file)) {
    return parse_generation_config(JsonObject::read(file));
  }
  const auto config = JsonObject::read(path / "config.json");
  GenerationOptions options;
  read_forced(config, options);
  check_values(config, options);
  return options;
}

}  // namespace winnow::models

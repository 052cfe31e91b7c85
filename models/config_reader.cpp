#include "config_reader.h"

#include <algorithm>
#include <map>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/io/processor_config.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {

using io::Json;
using io::JsonObject;

namespace {

// Keys that every config.json of transformers may carry and that change nothing in an image encoder's forward pass:
// bookkeeping, defaults of text generation, names of classes.
const std::vector<std::string>& neutral_keys() {
  static const std::vector<std::string> keys = {"_attn_implementation",
                                                "_attn_implementation_autoset",
                                                "_commit_hash",
                                                "_name_or_path",
                                                "architectures",
                                                "bad_words_ids",
                                                "begin_suppress_tokens",
                                                "bos_token_id",
                                                "chunk_size_feed_forward",
                                                "cross_attention_hidden_size",
                                                "decoder_start_token_id",
                                                "diversity_penalty",
                                                "do_sample",
                                                "dtype",
                                                "early_stopping",
                                                "encoder_no_repeat_ngram_size",
                                                "eos_token_id",
                                                "exponential_decay_length_penalty",
                                                "finetuning_task",
                                                "forced_bos_token_id",
                                                "forced_eos_token_id",
                                                "gradient_checkpointing",
                                                "id2label",
                                                "is_encoder_decoder",
                                                "label2id",
                                                "length_penalty",
                                                "max_length",
                                                "min_length",
                                                "model_type",
                                                "no_repeat_ngram_size",
                                                "num_beam_groups",
                                                "num_beams",
                                                "num_labels",
                                                "num_return_sequences",
                                                "output_attentions",
                                                "output_hidden_states",
                                                "output_scores",
                                                "pad_token_id",
                                                "prefix",
                                                "problem_type",
                                                "remove_invalid_values",
                                                "repetition_penalty",
                                                "return_dict",
                                                "return_dict_in_generate",
                                                "sep_token_id",
                                                "suppress_tokens",
                                                "task_specific_params",
                                                "temperature",
                                                "tf_legacy_loss",
                                                "tie_encoder_decoder",
                                                "tie_word_embeddings",
                                                "tokenizer_class",
                                                "top_k",
                                                "top_p",
                                                "torch_dtype",
                                                "torchscript",
                                                "transformers_version",
                                                "typical_p",
                                                "use_bfloat16",
                                                "use_cache"};
  return keys;
}

}  // namespace

void check_keys(const JsonObject& json, const std::vector<std::string>& own) {
  auto known = neutral_keys();
  known.insert(known.end(), own.begin(), own.end());
  for (const auto& [key, value] : json.value().items()) {
    if (value.is_null()) continue;
    const bool is_own = std::find(own.begin(), own.end(), key) != own.end();
    if (!is_own && (key == "pruned_heads" || key == "is_decoder" || key == "add_cross_attention")) {
      WINNOW_CHECK_KIND(value.empty() || value == Json(false), ErrorKind::unsupported, "{}: {} = {} is not supported",
                        json.file(), json.where(key), value.dump());
      continue;
    }
    WINNOW_CHECK_KIND(std::find(known.begin(), known.end(), key) != known.end(), ErrorKind::unsupported,
                      "{}: the option {} is not known here{}", json.file(), json.where(key), did_you_mean(key, known));
  }
}

void check_model_type(const JsonObject& json, const std::string& wanted) {
  const auto found = json.get_or<std::string>("model_type", wanted);
  WINNOW_CHECK_KIND(found == wanted, ErrorKind::file, "{}: model_type must be {} for this architecture, got {}",
                    json.file(), wanted, found);
}

int64_t positive(const JsonObject& json, const std::string& key, int64_t fallback) {
  const auto value = json.get_or<int64_t>(key, fallback);
  WINNOW_CHECK_KIND(value >= 1, ErrorKind::file, "{}: {} must be >= 1, got {}", json.file(), json.where(key), value);
  return value;
}

std::pair<int64_t, int64_t> two_sizes(const JsonObject& json, const std::string& key, int64_t fallback) {
  std::vector<int64_t> sizes(2, fallback);
  if (json.has(key)) {
    sizes = json.raw(key).is_array() ? json.get<std::vector<int64_t>>(key)
                                     : std::vector<int64_t>(2, json.get<int64_t>(key));
  }
  WINNOW_CHECK_KIND(sizes.size() == 2 && sizes[0] >= 1 && sizes[1] >= 1, ErrorKind::file,
                    "{}: {} must be a number >= 1 or two of them, got {}", json.file(), json.where(key),
                    json.raw(key).dump());
  return {sizes[0], sizes[1]};
}

std::vector<std::string> read_labels(const JsonObject& json) {
  auto labels = io::read_id2label(json);
  const auto count = json.get_or<int64_t>("num_labels", labels.empty() ? 2 : static_cast<int64_t>(labels.size()));
  WINNOW_CHECK_KIND(count >= 1, ErrorKind::unsupported, "{}: num_labels must be >= 1, got {}", json.file(), count);
  if (labels.empty()) return default_labels(count);
  WINNOW_CHECK_KIND(count == static_cast<int64_t>(labels.size()), ErrorKind::file,
                    "{}: num_labels must be {}, the size of id2label, got {}", json.file(), labels.size(), count);
  return labels;
}

std::string read_problem_type(const JsonObject& json) {
  const auto type = json.get_or<std::string>("problem_type", "");
  static const std::vector<std::string> known = {"regression", "single_label_classification",
                                                 "multi_label_classification"};
  WINNOW_CHECK_KIND(type.empty() || std::find(known.begin(), known.end(), type) != known.end(), ErrorKind::unsupported,
                    "{}: problem_type must be one of {}, got {}", json.file(), join(known), type);
  return type;
}

std::string first_architecture(const JsonObject& json, const std::string& fallback) {
  const auto names = json.get_or<std::vector<std::string>>("architectures", {});
  return names.empty() ? fallback : names.front();
}

Activation activation_of(const std::string& name, const std::string& where) {
  static const std::map<std::string, Activation> names = {{"gelu", Activation::gelu},
                                                          {"gelu_python", Activation::gelu},
                                                          {"gelu_new", Activation::gelu_new},
                                                          {"gelu_accurate", Activation::gelu_new},
                                                          {"gelu_fast", Activation::gelu_new},
                                                          {"gelu_python_tanh", Activation::gelu_new},
                                                          {"gelu_pytorch_tanh", Activation::gelu_new},
                                                          {"quick_gelu", Activation::quick_gelu},
                                                          {"relu", Activation::relu},
                                                          {"silu", Activation::silu},
                                                          {"swish", Activation::silu}};
  const auto found = names.find(name);
  WINNOW_CHECK_KIND(found != names.end(), ErrorKind::unsupported,
                    "{} must be one of gelu, gelu_new, quick_gelu, relu, silu, got {}", where, name);
  return found->second;
}

std::vector<std::string> default_labels(int64_t count) {
  std::vector<std::string> labels;
  for (int64_t i = 0; i < count; ++i) labels.push_back("LABEL_" + std::to_string(i));
  return labels;
}

void write_classes(Json& json, const std::vector<std::string>& labels, const std::string& problem_type) {
  Json names = Json::object(), ids = Json::object();
  for (size_t i = 0; i < labels.size(); ++i) {
    names[std::to_string(i)] = labels[i];
    ids[labels[i]] = i;
  }
  json["id2label"] = std::move(names);
  json["label2id"] = std::move(ids);
  if (!problem_type.empty()) json["problem_type"] = problem_type;
}

}  // namespace winnow::models

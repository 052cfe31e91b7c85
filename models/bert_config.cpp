#include <map>

#include "config_reader.h"
#include "winnow/core/error.h"
#include "winnow/models/bert.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {

using io::Json;
using io::JsonObject;

namespace {

// Own keys; the pooler's are of the multilingual files and describe nothing.
const std::vector<std::string>& bert_keys() {
  static const std::vector<std::string> keys = {"attention_probs_dropout_prob",
                                                "classifier_dropout",
                                                "directionality",
                                                "hidden_act",
                                                "hidden_dropout_prob",
                                                "hidden_size",
                                                "initializer_range",
                                                "intermediate_size",
                                                "layer_norm_eps",
                                                "max_position_embeddings",
                                                "num_attention_heads",
                                                "num_hidden_layers",
                                                "pooler_fc_size",
                                                "pooler_num_attention_heads",
                                                "pooler_num_fc_layers",
                                                "pooler_size_per_head",
                                                "pooler_type",
                                                "position_embedding_type",
                                                "type_vocab_size",
                                                "vocab_size"};
  return keys;
}

double probability(const JsonObject& json, const std::string& key, double fallback) {
  const auto value = json.get_or<double>(key, fallback);
  WINNOW_CHECK_KIND(value >= 0 && value < 1, ErrorKind::file, "{}: {} must be in [0, 1), got {}", json.file(),
                    json.where(key), value);
  return value;
}

}  // namespace

BertConfig read_bert_config(const JsonObject& json) {
  check_keys(json, bert_keys());
  BertConfig c;
  c.head = head_of<BertHead>(json, "BertModel",
                             {{"BertModel", BertHead::pooler},
                              {"BertForMaskedLM", BertHead::masked_lm},
                              {"BertForSequenceClassification", BertHead::classifier}});
  check_model_type(json, "bert");
  c.vocab_size = positive(json, "vocab_size", c.vocab_size);
  c.hidden_size = positive(json, "hidden_size", c.hidden_size);
  c.num_hidden_layers = positive(json, "num_hidden_layers", c.num_hidden_layers);
  c.num_attention_heads = positive(json, "num_attention_heads", c.num_attention_heads);
  WINNOW_CHECK_KIND(c.hidden_size % c.num_attention_heads == 0, ErrorKind::file,
                    "{}: num_attention_heads must divide hidden_size = {}, got {}", json.file(), c.hidden_size,
                    c.num_attention_heads);
  c.intermediate_size = positive(json, "intermediate_size", c.intermediate_size);
  c.hidden_act = json.get_or<std::string>("hidden_act", c.hidden_act);
  activation_of(c.hidden_act, json.file() + ": " + json.where("hidden_act"));
  c.hidden_dropout_prob = probability(json, "hidden_dropout_prob", c.hidden_dropout_prob);
  c.attention_probs_dropout_prob = probability(json, "attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  if (json.has("classifier_dropout")) c.classifier_dropout = probability(json, "classifier_dropout", 0.0);
  c.max_position_embeddings = positive(json, "max_position_embeddings", c.max_position_embeddings);
  c.type_vocab_size = positive(json, "type_vocab_size", c.type_vocab_size);
  c.initializer_range = json.get_or<double>("initializer_range", c.initializer_range);
  c.layer_norm_eps = json.get_or<double>("layer_norm_eps", c.layer_norm_eps);
  WINNOW_CHECK_KIND(c.layer_norm_eps > 0, ErrorKind::file, "{}: layer_norm_eps must be > 0, got {}", json.file(),
                    c.layer_norm_eps);
  const bool no_pad = json.value().contains("pad_token_id") && json.value()["pad_token_id"].is_null();
  c.pad_token_id = no_pad ? -1 : json.get_or<int64_t>("pad_token_id", c.pad_token_id);
  WINNOW_CHECK_KIND(no_pad || (c.pad_token_id >= 0 && c.pad_token_id < c.vocab_size), ErrorKind::file,
                    "{}: pad_token_id must be in [0, vocab_size = {}), got {}", json.file(), c.vocab_size,
                    c.pad_token_id);
  c.tie_word_embeddings = json.get_or<bool>("tie_word_embeddings", c.tie_word_embeddings);
  const auto positions = json.get_or<std::string>("position_embedding_type", "absolute");
  WINNOW_CHECK_KIND(positions == "absolute", ErrorKind::unsupported,
                    "{}: position_embedding_type = {} is not supported, only absolute is", json.file(), positions);
  c.labels = read_labels(json);
  c.problem_type = read_problem_type(json);
  return c;
}

io::Json to_json(const BertConfig& c) {
  const bool model = c.head == BertHead::none || c.head == BertHead::pooler;
  Json json = {{"architectures", Json::array({model                           ? "BertModel"
                                              : c.head == BertHead::masked_lm ? "BertForMaskedLM"
                                                                              : "BertForSequenceClassification"})},
               {"model_type", "bert"},
               {"torch_dtype", "float32"},
               {"vocab_size", c.vocab_size},
               {"hidden_size", c.hidden_size},
               {"num_hidden_layers", c.num_hidden_layers},
               {"num_attention_heads", c.num_attention_heads},
               {"intermediate_size", c.intermediate_size},
               {"hidden_act", c.hidden_act},
               {"hidden_dropout_prob", c.hidden_dropout_prob},
               {"attention_probs_dropout_prob", c.attention_probs_dropout_prob},
               {"max_position_embeddings", c.max_position_embeddings},
               {"type_vocab_size", c.type_vocab_size},
               {"initializer_range", c.initializer_range},
               {"layer_norm_eps", c.layer_norm_eps},
               {"pad_token_id", c.pad_token_id < 0 ? Json() : Json(c.pad_token_id)},
               {"tie_word_embeddings", c.tie_word_embeddings}};
  if (c.classifier_dropout >= 0) json["classifier_dropout"] = c.classifier_dropout;
  if (c.head == BertHead::classifier) write_classes(json, c.labels, c.problem_type);
  return json;
}

}  // namespace winnow::models

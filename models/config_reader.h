// What readers and writers of config.json share: keys that every file may carry, classes, activations, typed values in
// range. All errors name the file and the key.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/io/json.h"

namespace winnow::models {

// Refuses, by name, every key that is neither among `own` nor one of those that every config.json may carry and that
// change nothing in a forward pass (bookkeeping, defaults of generation, names of classes); also the general options
// that would change the result (is_decoder, add_cross_attention, pruned_heads) unless they stand in `own`.
void check_keys(const io::JsonObject& json, const std::vector<std::string>& own);

// Error(file) if model_type is there and is another.
void check_model_type(const io::JsonObject& json, const std::string& wanted);

int64_t positive(const io::JsonObject& json, const std::string& key, int64_t fallback);

// One number, or [height, width].
std::pair<int64_t, int64_t> two_sizes(const io::JsonObject& json, const std::string& key, int64_t fallback);

// Classes: id2label, else num_labels, else the two of transformers' default.
std::vector<std::string> read_labels(const io::JsonObject& json);
std::string read_problem_type(const io::JsonObject& json);
// id2label, label2id and, unless empty, problem_type.
void write_classes(io::Json& json, const std::vector<std::string>& labels, const std::string& problem_type);

// The decoder of a masked autoencoder (ViT-MAE, VideoMAE): the members decoder_* of a configuration, under their names.
template <typename Config>
void read_decoder(const io::JsonObject& json, Config& c) {
  c.decoder_hidden_size = positive(json, "decoder_hidden_size", c.decoder_hidden_size);
  c.decoder_num_hidden_layers = positive(json, "decoder_num_hidden_layers", c.decoder_num_hidden_layers);
  c.decoder_num_attention_heads = positive(json, "decoder_num_attention_heads", c.decoder_num_attention_heads);
  c.decoder_intermediate_size = positive(json, "decoder_intermediate_size", c.decoder_intermediate_size);
  WINNOW_CHECK_KIND(c.decoder_hidden_size % c.decoder_num_attention_heads == 0, ErrorKind::file,
                    "{}: decoder_num_attention_heads must divide decoder_hidden_size = {}, got {}", json.file(),
                    c.decoder_hidden_size, c.decoder_num_attention_heads);
}
template <typename Config>
void write_decoder(io::Json& json, const Config& c) {
  json["decoder_hidden_size"] = c.decoder_hidden_size;
  json["decoder_num_hidden_layers"] = c.decoder_num_hidden_layers;
  json["decoder_num_attention_heads"] = c.decoder_num_attention_heads;
  json["decoder_intermediate_size"] = c.decoder_intermediate_size;
}

std::string first_architecture(const io::JsonObject& json, const std::string& fallback);

// The head that an architecture's name stands for.
template <typename Head>
Head head_of(const io::JsonObject& json, const std::string& fallback, const std::map<std::string, Head>& heads) {
  const auto name = first_architecture(json, fallback);
  const auto found = heads.find(name);
  WINNOW_CHECK_KIND(found != heads.end(), ErrorKind::unsupported, "{}: the architecture {} is not of this family",
                    json.file(), name);
  return found->second;
}

}  // namespace winnow::models

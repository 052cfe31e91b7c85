// Rotary options of config.json: the keys of published files and those of transformers 5.
#include <algorithm>

#include "causal_lm_family.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

JsonObject rope_object(const JsonObject& json) {
  // A published rope_scaling stands before rope_parameters, as in transformers.
  for (const auto* key : {"rope_scaling", "rope_parameters"}) {
    if (json.has(key) && !(json.raw(key).is_object() && json.raw(key).empty())) return json.object(key);
  }
  return JsonObject(Json::object(), json.file(), "rope_parameters");
}

void check_rope_keys(const JsonObject& rope) {
  static const std::vector<std::string> known = {"attention_factor",
                                                 "beta_fast",
                                                 "beta_slow",
                                                 "factor",
                                                 "high_freq_factor",
                                                 "low_freq_factor",
                                                 "mscale",
                                                 "mscale_all_dim",
                                                 "original_max_position_embeddings",
                                                 "partial_rotary_factor",
                                                 "rope_theta",
                                                 "rope_type",
                                                 "truncate",
                                                 "type"};
  for (const auto& [key, value] : rope.value().items()) {
    WINNOW_CHECK_KIND(value.is_null() || std::find(known.begin(), known.end(), key) != known.end(),
                      ErrorKind::unsupported, "{}: the option {} is not known here{}", rope.file(), rope.where(key),
                      did_you_mean(key, known));
  }
}

RotaryScaling scaling_of(const JsonObject& rope) {
  const auto type = rope.get_or<std::string>("rope_type", rope.get_or<std::string>("type", "default"));
  if (type == "default") return RotaryScaling::none;
  if (type == "linear") return RotaryScaling::linear;
  if (type == "llama3") return RotaryScaling::llama3;
  WINNOW_CHECK_KIND(type == "yarn", ErrorKind::unsupported,
                    "{}: {} must be one of default, linear, llama3, yarn, got {}", rope.file(), rope.where("rope_type"),
                    type);
  return RotaryScaling::yarn;
}

double in_open_range(const JsonObject& rope, const std::string& key, double value) {
  WINNOW_CHECK_KIND(value > 0 && value < 1e15, ErrorKind::file, "{}: {} must be above 0, got {}", rope.file(),
                    rope.where(key), value);
  return value;
}

void read_scaling(const JsonObject& json, const JsonObject& rope, RotaryOptions& o) {
  o.original_max_positions =
      rope.get_or<int64_t>("original_max_position_embeddings", json.get<int64_t>("max_position_embeddings"));
  WINNOW_CHECK_KIND(o.original_max_positions >= 1, ErrorKind::file, "{}: {} must be >= 1, got {}", rope.file(),
                    rope.where("original_max_position_embeddings"), o.original_max_positions);
  const auto positive = [&](const std::string& key, double fallback) {
    return in_open_range(rope, key, rope.get_or<double>(key, fallback));
  };
  if (o.scaling == RotaryScaling::yarn && !rope.has("factor")) {
    o.factor = static_cast<double>(json.get<int64_t>("max_position_embeddings")) /
               static_cast<double>(o.original_max_positions);
  } else {
    o.factor = in_open_range(rope, "factor", rope.get<double>("factor"));
  }
  if (o.scaling == RotaryScaling::llama3) {
    o.low_freq_factor = in_open_range(rope, "low_freq_factor", rope.get<double>("low_freq_factor"));
    o.high_freq_factor = in_open_range(rope, "high_freq_factor", rope.get<double>("high_freq_factor"));
    WINNOW_CHECK_KIND(o.low_freq_factor < o.high_freq_factor, ErrorKind::file,
                      "{}: {} must be below high_freq_factor = {}, got {}", rope.file(), rope.where("low_freq_factor"),
                      o.high_freq_factor, o.low_freq_factor);
  }
  if (o.scaling != RotaryScaling::yarn) return;
  o.beta_fast = positive("beta_fast", o.beta_fast);
  o.beta_slow = positive("beta_slow", o.beta_slow);
  o.truncate = rope.get_or<bool>("truncate", true);
  if (rope.has("attention_factor")) o.attention_factor = positive("attention_factor", 1.0);
  if (rope.has("mscale")) o.mscale = rope.get<double>("mscale");
  if (rope.has("mscale_all_dim")) o.mscale_all_dim = rope.get<double>("mscale_all_dim");
}

}  // namespace

RotaryOptions rotary_of(const JsonObject& json, int64_t head_dim, double partial) {
  const auto rope = rope_object(json);
  check_rope_keys(rope);
  RotaryOptions o;
  const std::string outer = json.has("rotary_emb_base") ? "rotary_emb_base" : "rope_theta";
  o.theta = rope.get_or<double>("rope_theta", json.get_or<double>(outer, o.theta));
  WINNOW_CHECK_KIND(o.theta > 1 && o.theta < 1e15, ErrorKind::file, "{}: rope_theta must be above 1, got {}",
                    json.file(), o.theta);
  const auto share = rope.get_or<double>("partial_rotary_factor", json.get_or<double>("rotary_pct", 1.0));
  WINNOW_CHECK_KIND(partial < 1 || share == 1, ErrorKind::unsupported,
                    "{}: partial_rotary_factor = {} is not supported for this architecture", json.file(), share);
  WINNOW_CHECK_KIND(share > 0 && share <= 1, ErrorKind::file, "{}: rotary_pct must be in (0, 1], got {}", json.file(),
                    share);
  o.dim = static_cast<int64_t>(static_cast<double>(head_dim) * share);
  WINNOW_CHECK_KIND(o.dim >= 2 && o.dim % 2 == 0, ErrorKind::file,
                    "{}: the elements of a head that rotate must be an even number, got {} of {}", json.file(), o.dim,
                    head_dim);
  o.scaling = scaling_of(rope);
  if (o.scaling != RotaryScaling::none) read_scaling(json, rope, o);
  return o;
}

}  // namespace winnow::models

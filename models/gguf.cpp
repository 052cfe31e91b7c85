#include "winnow/models/gguf.h"

#include <array>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/io/gguf_tokenizer.h"

namespace winnow::models {
namespace {

struct Family {
  const char* model_type;
  const char* architecture;
  bool interleaved;  // rows of q and k stand in the order of rotating neighbours
};

const std::map<std::string, Family>& families() {
  static const std::map<std::string, Family> table = {
      {"llama", {"llama", "LlamaForCausalLM", true}},
      {"qwen2", {"qwen2", "Qwen2ForCausalLM", false}},
      {"qwen3", {"qwen3", "Qwen3ForCausalLM", false}},
  };
  return table;
}

// The metadata of one file: "llama.block_count" is number("block_count").
class Facts {
 public:
  explicit Facts(const io::GgufFile& file)
      : data_(file.metadata()), architecture_(data_.get<std::string>("general.architecture")) {
    WINNOW_CHECK_KIND(families().contains(architecture_), ErrorKind::unsupported,
                      "{}: the architecture {} is not read from GGUF files; llama, qwen2 and qwen3 are", file.name(),
                      printable(architecture_, 60));
    layers = size("block_count");
    width = size("embedding_length");
    heads = size("attention.head_count");
    kv_heads = has("attention.head_count_kv") ? size("attention.head_count_kv") : heads;
    head_dim = has("attention.key_length") ? size("attention.key_length") : width / heads;
    WINNOW_CHECK_KIND(heads % kv_heads == 0 && head_dim >= 2 && head_dim % 2 == 0, ErrorKind::file,
                      "{}: {} heads of {}, {} of them for keys and values, do not fit each other", file.name(), heads,
                      head_dim, kv_heads);
  }

  [[nodiscard]] bool has(const std::string& key) const { return data_.has(architecture_ + "." + key); }
  [[nodiscard]] int64_t number(const std::string& key) const { return data_.get<int64_t>(architecture_ + "." + key); }
  [[nodiscard]] int64_t size(const std::string& key) const {
    const auto value = number(key);
    WINNOW_CHECK_KIND(value >= 1 && value <= (int64_t{1} << 31), ErrorKind::file, "{}: {}.{} must be >= 1, got {}",
                      data_.file(), architecture_, key, value);
    return value;
  }
  // Files keep float32; the shortest decimal that reads back as it is what was meant (1e-05, not 9.99999975e-06).
  [[nodiscard]] double real(const std::string& key, double otherwise) const {
    if (!has(key)) return otherwise;
    const auto value = data_.get<double>(architecture_ + "." + key);
    return std::strtod(fmt::format("{}", static_cast<float>(value)).c_str(), nullptr);
  }
  [[nodiscard]] std::string text(const std::string& key) const {
    return data_.get_or<std::string>(architecture_ + "." + key, "");
  }
  [[nodiscard]] const Family& family() const { return families().at(architecture_); }
  [[nodiscard]] const std::string& architecture() const { return architecture_; }

  int64_t layers = 0, width = 0, heads = 0, kv_heads = 0, head_dim = 0;

 private:
  const io::JsonObject& data_;
  std::string architecture_;
};

void refuse_unsupported(const io::GgufFile& file, const Facts& facts) {
  WINNOW_CHECK_KIND(!facts.has("expert_count") || facts.number("expert_count") == 0, ErrorKind::unsupported,
                    "{}: {}.expert_count: experts are not read from GGUF files", file.name(), facts.architecture());
  for (const auto* name : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}) {
    WINNOW_CHECK_KIND(!file.has(name), ErrorKind::unsupported,
                      "{}: tensor {}: RoPE scaled by a table is not read from GGUF files", file.name(), name);
  }
  const auto scaling = facts.text("rope.scaling.type");
  WINNOW_CHECK_KIND(scaling.empty() || scaling == "none" || scaling == "linear", ErrorKind::unsupported,
                    "{}: {}.rope.scaling.type: {} is not read from GGUF files", file.name(), facts.architecture(),
                    json_quote(printable(scaling, 40)));
  WINNOW_CHECK_KIND(!facts.has("rope.dimension_count") || facts.number("rope.dimension_count") == facts.head_dim,
                    ErrorKind::unsupported, "{}: {}.rope.dimension_count must be the width of a head ({}), got {}",
                    file.name(), facts.architecture(), facts.head_dim, facts.number("rope.dimension_count"));
}

// The name of a tensor in Hugging Face's files, or nothing.
std::optional<std::string> published_name(const std::string& name) {
  static const std::map<std::string, std::string> outside = {{"token_embd.weight", "model.embed_tokens.weight"},
                                                             {"output_norm.weight", "model.norm.weight"},
                                                             {"output.weight", "lm_head.weight"}};
  static const std::map<std::string, std::string> inside = {
      {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
      {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}};
  if (const auto found = outside.find(name); found != outside.end()) return found->second;
  const auto parts = split(name, '.');  // blk.0.attn_q.weight
  if (parts.size() != 4 || parts[0] != "blk" || (parts[3] != "weight" && parts[3] != "bias")) return std::nullopt;
  const auto found = inside.find(parts[2]);
  if (found == inside.end()) return std::nullopt;
  return fmt::format("model.layers.{}.{}.{}", parts[1], found->second, parts[3]);
}

// Rows 2i and 2i + 1 of a head, which GGUF's RoPE rotates against each other, become rows i and i + head_dim / 2.
at::Tensor undo_interleaving(const at::Tensor& weight, int64_t heads, const std::string& where) {
  WINNOW_CHECK_KIND(weight.dim() >= 1 && weight.size(0) % (2 * heads) == 0, ErrorKind::file,
                    "{}: its first size must be a multiple of twice the {} heads", where, heads);
  std::vector<int64_t> split_shape = {heads, weight.size(0) / heads / 2, 2};
  for (int64_t d = 1; d < weight.dim(); ++d) split_shape.push_back(weight.size(d));
  return weight.reshape(split_shape).transpose(1, 2).reshape(weight.sizes()).contiguous();
}

io::Json generation_config(const io::GgufFile& file) {
  const auto ids = io::gguf_special_ids(file);
  auto config = io::Json::object();
  if (ids.bos) config["bos_token_id"] = *ids.bos;
  if (ids.eos) config["eos_token_id"] = *ids.eos;
  if (ids.pad) config["pad_token_id"] = *ids.pad;
  const auto turn = file.metadata().get_or<int64_t>("tokenizer.ggml.eot_token_id", -1);
  if (turn >= 0 && ids.eos && turn != *ids.eos) config["eos_token_id"] = {*ids.eos, turn};
  return config;
}

}  // namespace

io::Json gguf_config(const io::GgufFile& file) {
  const Facts facts(file);
  refuse_unsupported(file, facts);
  const auto embedding = file.entries().find("token_embd.weight");
  WINNOW_CHECK_KIND(embedding != file.entries().end() && embedding->second.shape.size() == 2 &&
                        embedding->second.shape[1] == facts.width,
                    ErrorKind::file, "{}: token_embd.weight must have rows of {}.embedding_length = {}", file.name(),
                    facts.architecture(), facts.width);
  io::Json config = {{"architectures", io::Json::array({facts.family().architecture})},
                     {"model_type", facts.family().model_type},
                     {"vocab_size", embedding->second.shape[0]},
                     {"hidden_size", facts.width},
                     {"intermediate_size", facts.size("feed_forward_length")},
                     {"num_hidden_layers", facts.layers},
                     {"num_attention_heads", facts.heads},
                     {"num_key_value_heads", facts.kv_heads},
                     {"head_dim", facts.head_dim},
                     {"hidden_act", "silu"},
                     {"max_position_embeddings", facts.size("context_length")},
                     {"rms_norm_eps", facts.real("attention.layer_norm_rms_epsilon", 1e-6)},
                     {"rope_theta", facts.real("rope.freq_base", 10000.0)},
                     {"tie_word_embeddings", !file.has("output.weight")},
                     {"torch_dtype", "float32"}};
  if (facts.text("rope.scaling.type") == "linear") {
    config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", facts.real("rope.scaling.factor", 1.0)}};
  }
  if (facts.family().model_type == std::string_view("llama")) {
    config["attention_bias"] = file.has("blk.0.attn_q.bias");
    config["mlp_bias"] = file.has("blk.0.ffn_up.bias");
  }
  const auto generation = generation_config(file);
  for (const auto& [key, id] : generation.items()) config[key] = id;
  return config;
}

io::TensorMap gguf_weights(const io::GgufFile& file) {
  const Facts facts(file);
  refuse_unsupported(file, facts);
  io::TensorMap weights;
  for (const auto& name : file.names()) {
    const auto published = published_name(name);
    WINNOW_CHECK_KIND(published.has_value(), ErrorKind::file, "{}: tensor {} has no place in a {} model", file.name(),
                      printable(name, 120), facts.architecture());
    auto weight = file.tensor(name);
    const bool q = name.find(".attn_q.") != std::string::npos, k = name.find(".attn_k.") != std::string::npos;
    if (facts.family().interleaved && (q || k)) {
      weight = undo_interleaving(weight, q ? facts.heads : facts.kv_heads, file.name() + ": tensor " + name);
    }
    weights.emplace(*published, std::move(weight));
  }
  return weights;
}

std::shared_ptr<Pretrained> load_gguf(const io::GgufFile& file, const LoadOptions& options) {
  const io::JsonObject config(gguf_config(file), file.name());
  const auto held = std::make_shared<io::SafetensorsFile>(io::to_safetensors(gguf_weights(file)), file.name());
  return load(config, io::Checkpoint(held), options);
}

void convert_gguf(const io::GgufFile& file, const std::filesystem::path& folder, at::ScalarType dtype) {
  const bool keep = dtype == at::ScalarType::Undefined;
  WINNOW_CHECK(keep || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16,
               "convert_gguf: dtype must be float32, float16 or bfloat16");
  auto config = gguf_config(file);
  auto tokenizer = io::gguf_tokenizer_json(file);  // all that may be refused comes before anything is written
  const auto tokenizer_config = io::gguf_tokenizer_config(file);
  auto weights = gguf_weights(file);
  if (!keep) {
    for (auto& [name, weight] : weights) weight = weight.to(dtype);
    config["torch_dtype"] = dtype == at::kHalf ? "float16" : dtype == at::kBFloat16 ? "bfloat16" : "float32";
  }
  winnow::ensure_directory(folder.string());
  io::save_checkpoint(folder, weights, {{"format", "pt"}});
  io::write_json(folder / "tokenizer.json", tokenizer);
  io::write_json(folder / "tokenizer_config.json", tokenizer_config);
  io::write_json(folder / "generation_config.json", generation_config(file));
  io::write_json(folder / "config.json", config);
}

}  // namespace winnow::models

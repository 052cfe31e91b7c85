#include "language.h"

#include <ATen/ATen.h>

#include <utility>

#include "winnow/core/error.h"
#include "winnow/io/bpe_trainer.h"

namespace winnow::examples {

EnumNames<Family> enum_names(Family) {
  return {{"gpt2", Family::gpt2}, {"llama", Family::llama}};
}

Fields<LanguageModelOptions> LanguageModelOptions::fields() {
  using O = LanguageModelOptions;
  return Fields<O>("Model")
      .add("family", &O::family, "the architecture")
      .add("dim", &O::dim, "width", at_least(1))
      .add("depth", &O::depth, "blocks", at_least(1))
      .add("heads", &O::heads, "query heads", at_least(1))
      .add("kv_heads", &O::kv_heads, "key and value heads (llama); 0: heads", at_least(0))
      .add("hidden", &O::hidden, "width inside the MLP; 0: the family's rule", at_least(0))
      .add("context", &O::context, "tokens that it can read", at_least(2))
      .add("dropout", &O::dropout, "of embeddings, attention and branches (gpt2)", in_range(0, 1, Ends::right_open))
      .add("tied", &O::tied, "whether the head is the embedding")
      .add("seed", &O::seed, "of the first weights");
}

models::CausalLM make_language_model(const LanguageModelOptions& options, int64_t vocab_size) {
  const models::CausalLMSizes sizes{.vocab_size = vocab_size,
                                    .context_length = options.context,
                                    .dim = options.dim,
                                    .depth = options.depth,
                                    .heads = options.heads,
                                    .kv_heads = options.kv_heads,
                                    .hidden = options.hidden,
                                    .dropout = options.dropout,
                                    .tied = options.tied};
  return models::CausalLM(options.family == Family::gpt2 ? models::gpt2_config(sizes) : models::llama_config(sizes),
                          options.seed);
}

Fields<TokenizerOptions> TokenizerOptions::fields() {
  return Fields<TokenizerOptions>("Tokenizer")
      .add("path", &TokenizerOptions::path, "folder or file of a tokenizer; empty: trained on the text")
      .add("vocab_size", &TokenizerOptions::vocab_size, "of the trained one; 256: bytes", at_least(256));
}

TrainedTokenizer open_tokenizer(const TokenizerOptions& options, std::string_view text) {
  if (!options.path.empty()) return {.tokenizer = io::load_tokenizer(options.path)};
  io::BpeTrainerOptions wanted{.vocab_size = options.vocab_size};
  if (options.vocab_size == 256) wanted.special_tokens.clear();
  io::BpeTrainer trainer(wanted);
  trainer.add_text(text);
  auto json = trainer.train();
  io::SpecialIds special;
  if (options.vocab_size > 256) special.bos = special.eos = 0;
  return {.tokenizer = io::parse_tokenizer_json(json, "the trained tokenizer", special), .json = json};
}

void save_tokenizer(const TrainedTokenizer& trained, const TokenizerOptions& options, int64_t context,
                    const std::filesystem::path& folder) {
  if (trained.json.is_null()) {
    const std::filesystem::path from(options.path);
    for (const auto* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model",
                             "vocab.json", "merges.txt", "vocab.txt"}) {
      const auto file = std::filesystem::is_directory(from) ? from / name : from;
      if (std::filesystem::is_directory(from) ? std::filesystem::exists(file) : file.filename() == name) {
        std::filesystem::copy_file(file, folder / name, std::filesystem::copy_options::overwrite_existing);
      }
    }
    return;
  }
  io::write_json(folder / "tokenizer.json", trained.json);
  io::Json config{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"model_max_length", context}};
  const auto& special = trained.tokenizer->special_ids();
  if (special.eos) config["eos_token"] = config["bos_token"] = trained.tokenizer->token(*special.eos);
  io::write_json(folder / "tokenizer_config.json", config);
}

Fields<LanguageDataOptions> LanguageDataOptions::fields() {
  using O = LanguageDataOptions;
  return Fields<O>("Data")
      .add("file", &O::file, "a text file in UTF-8")
      .add("cut", &O::cut, "what a document is")
      .add("separate", &O::separate, "whether documents do not see each other")
      .add("held_out", &O::held_out, "share of the text that is only judged", in_range(0, 1, Ends::open))
      .add("batch_size", &O::batch_size, "rows of a step and process", at_least(1))
      .add("context", &O::context, "tokens of a row; 0: the model's context", at_least(0))
      .add("seed", &O::seed, "of the order")
      .add("device", &O::device, "where the network runs", one_of({"cpu", "cuda"}));
}

Fields<LanguageOptimizerOptions> LanguageOptimizerOptions::fields() {
  using O = LanguageOptimizerOptions;
  return Fields<O>("Optimizer")
      .add("weight_decay", &O::weight_decay, "of tensors with more than one dimension", at_least(0))
      .add("beta2", &O::beta2, "memory of the squared gradient", in_range(0, 1, Ends::right_open))
      .add("label_smoothing", &O::label_smoothing, "of the loss", in_range(0, 1, Ends::right_open))
      .add("z_loss", &O::z_loss, "factor of the squared log partition function", at_least(0));
}

at::Tensor batch_loss(models::CausalLM& model, const data::TextBatch& batch, const TokenLossOptions& options,
                      at::Device device) {
  LmInput input{.ids = batch.ids.to(device), .hidden_states = true, .logits = false};
  if (batch.several_documents) {
    input.positions = batch.positions.to(device);
    input.mask = batch.document_mask();
    input.mask.allowed = input.mask.allowed.to(device);
  }
  const auto hidden = model->run(input).hidden_states.back();
  return linear_cross_entropy(hidden, model->head->weight, batch.targets.to(device), options);
}

JudgedText judged_text(const data::TokenDocuments& text, const io::Tokenizer& tokenizer, int64_t limit,
                       at::Device device) {
  const auto count = limit == 0 ? text.tokens() : std::min(limit, text.tokens());
  const auto ids = text.ids.slice(0, 0, count).to(at::kLong).contiguous();
  const std::span<const int64_t> view(ids.const_data_ptr<int64_t>(), static_cast<size_t>(count));
  const auto bytes = static_cast<int64_t>(tokenizer.decode(view).size());
  return {.ids = ids.to(device), .bytes = bytes};
}

}  // namespace winnow::examples

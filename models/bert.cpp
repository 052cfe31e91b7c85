#include "winnow/models/bert.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <utility>

#include "registry.h"
#include "text_parts.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/models/vit.h"
#include "winnow/nn/activation.h"
#include "winnow/tensor/check.h"

namespace winnow::models {
namespace {

TransformerBlockOptions block_options(const BertConfig& c, int64_t index) {
  TransformerBlockOptions block;
  block.dim = c.hidden_size;
  block.order = ResidualOrder::post_norm;
  block.eps = c.layer_norm_eps;
  block.attention.heads = c.num_attention_heads;
  block.attention.dropout = c.attention_probs_dropout_prob;
  block.attention.seed = derive_seed(c.seed, 2 * index + 1);
  block.mlp.hidden = c.intermediate_size;
  block.mlp.activation = activation_of(c.hidden_act, "BertConfig: hidden_act");
  block.dropout = c.hidden_dropout_prob;
  block.seed = derive_seed(c.seed, 2 * index + 2);
  return block;
}

// The styles of names: files from TensorFlow call the weights of a norm gamma and beta.
const std::vector<std::string> kStyles = {"published", "older"};

void add_norm(WeightMap& map, const Norm& norm, const std::string& name) {
  map.add(norm->weight, {name + ".weight", name + ".gamma"});
  map.add(norm->bias, {name + ".bias", name + ".beta"});
}

void add_linear(WeightMap& map, const Linear& linear, const std::string& name) {
  map.add(linear->weight, {name + ".weight"});
  if (linear->bias.defined()) map.add(linear->bias, {name + ".bias"});
}

void add_block(WeightMap& map, const TransformerBlock& block, const std::string& place) {
  for (const auto& [fused, suffix] :
       {std::pair{block->attn->qkv->weight, ".weight"}, std::pair{block->attn->qkv->bias, ".bias"}}) {
    const auto width = fused.size(0) / 3;
    int64_t begin = 0;
    for (const auto* name : {"query", "key", "value"}) {
      map.add_forms({{{.name = place + "attention.self." + name + suffix, .parts = {rows(fused, begin, width)}}}});
      begin += width;
    }
  }
  add_linear(map, block->attn->proj, place + "attention.output.dense");
  add_norm(map, block->norm1, place + "attention.output.LayerNorm");
  add_linear(map, block->mlp->fc1, place + "intermediate.dense");
  add_linear(map, block->mlp->fc2, place + "output.dense");
  add_norm(map, block->norm2, place + "output.LayerNorm");
}

}  // namespace

BertImpl::BertImpl(BertConfig c) : config(std::move(c)) {
  const auto D = config.hidden_size;
  const auto table = [&](int64_t rows) { return torch::nn::Embedding(rows, D); };
  word_embeddings = register_module("word_embeddings", table(config.vocab_size));
  position_embeddings =
      register_module("position_embeddings",
                      LearnedPositions(LearnedPositionsOptions{.length = config.max_position_embeddings, .dim = D}));
  token_type_embeddings = register_module("token_type_embeddings", table(config.type_vocab_size));
  const NormOptions norm{.dim = D, .eps = config.layer_norm_eps};
  embeddings_norm = register_module("embeddings_norm", Norm(norm));
  const auto drop = [&](const char* name, double p, uint64_t stream) {
    return register_module(name, Dropout(DropOptions{.p = p, .seed = derive_seed(config.seed, stream)}));
  };
  if (config.hidden_dropout_prob > 0) embeddings_drop = drop("embeddings_drop", config.hidden_dropout_prob, 1001);
  blocks = register_module("blocks", Stack<TransformerBlock>(config.num_hidden_layers, [&](int64_t i) {
                             return TransformerBlock(block_options(config, i));
                           }));
  if (config.head == BertHead::pooler || config.head == BertHead::classifier) {
    pooler = register_module("pooler", Linear(D, D));
  }
  if (config.head == BertHead::masked_lm) {
    transform = register_module("transform", Linear(D, D));
    transform_norm = register_module("transform_norm", Norm(norm));
    if (!config.tie_word_embeddings) {
      decoder_weight = register_parameter("decoder_weight", at::zeros({config.vocab_size, D}));
      spare_bias = at::zeros({config.vocab_size});
    }
    decoder_bias = register_parameter("decoder_bias", at::zeros({config.vocab_size}));
  }
  if (config.head == BertHead::classifier) {
    WINNOW_CHECK(!config.labels.empty(), "Bert: labels must not be empty where there is a classifier");
    const auto p = config.classifier_dropout < 0 ? config.hidden_dropout_prob : config.classifier_dropout;
    if (p > 0) classifier_drop = drop("classifier_drop", p, 1002);
    classifier = register_module("classifier", Linear(D, static_cast<int64_t>(config.labels.size())));
  }
  init_normal_weights(*this, config.seed, config.initializer_range);
}

void BertImpl::check_input(const BertInput& input) const {
  check_token_ids("Bert", input.ids, config.vocab_size, config.max_position_embeddings);
  if (!input.type_ids.defined()) return;
  check_shape("Bert: type_ids", input.type_ids, input.ids.sizes());
  check_dtype("Bert: type_ids", input.type_ids, at::kLong);
  check_indices("Bert: type_ids", input.type_ids, config.type_vocab_size);
}

at::Tensor BertImpl::embed(const BertInput& input) {
  const auto words = at::embedding(word_embeddings->weight, input.ids, config.pad_token_id);  // [B, L, D]
  const auto types = input.type_ids.defined() ? token_type_embeddings->forward(input.type_ids)
                                              : token_type_embeddings->weight.slice(0, 0, 1);
  const auto places = position_rows("Bert", position_embeddings, input.positions, input.ids.size(1));
  const auto x = embeddings_norm->forward(words + types + places);
  return embeddings_drop ? embeddings_drop->forward(x) : x;
}

BertOutput BertImpl::forward(const BertInput& input) {
  check_input(input);
  BlockArgs args;
  args.self.mask = keep_mask("Bert", input.keep, input.ids);
  BertOutput out;
  auto x = embed(input);  // [B, L, D]
  if (input.hidden_states) out.hidden_states.push_back(x);
  for (auto& block : *blocks) {
    x = block->forward(x, args);
    if (input.hidden_states) out.hidden_states.push_back(x);
  }
  out.last_hidden_state = x;
  if (input.head) run_head(input, out);
  return out;
}

void BertImpl::run_head(const BertInput& input, BertOutput& out) {
  if (pooler) out.pooler_output = pooler->forward(out.last_hidden_state.select(1, 0)).tanh();
  if (transform) {
    const auto activation = activation_of(config.hidden_act, "BertConfig: hidden_act");
    const auto x = transform_norm->forward(activate(transform->forward(out.last_hidden_state), activation));
    const auto& table = decoder_weight.defined() ? decoder_weight : word_embeddings->weight;
    out.logits = at::linear(x, table, decoder_bias);  // [B, L, vocab_size]
    if (input.labels.defined()) {
      check_shape("Bert: labels", input.labels, input.ids.sizes());
      check_dtype("Bert: labels", input.labels, at::kLong);
      out.loss = at::cross_entropy_loss(out.logits.flatten(0, 1), input.labels.flatten(), {}, at::Reduction::Mean,
                                        /*ignore_index=*/-100);
    }
  }
  if (classifier) {
    const auto pooled = classifier_drop ? classifier_drop->forward(out.pooler_output) : out.pooler_output;
    out.logits = classifier->forward(pooled);
    if (input.labels.defined()) out.loss = classification_loss(out.logits, input.labels, config.problem_type);
  }
}

std::string BertImpl::architecture() const {
  return to_json(config)["architectures"][0].get<std::string>();
}

io::Json BertImpl::config_json() const {
  return to_json(config);
}

std::vector<std::string> BertImpl::labels() const {
  return classifier ? config.labels : std::vector<std::string>();
}

WeightMap BertImpl::weight_map() const {
  WeightMap map(kStyles);
  map.accept_prefix("bert.");  // first: the ignored names below are then known with and without it
  const std::string base = transform || classifier ? "bert." : "";
  map.add(word_embeddings->weight, {base + "embeddings.word_embeddings.weight"});
  map.add(position_embeddings->weight, {base + "embeddings.position_embeddings.weight"});
  map.add(token_type_embeddings->weight, {base + "embeddings.token_type_embeddings.weight"});
  add_norm(map, embeddings_norm, base + "embeddings.LayerNorm");
  auto layers = blocks;  // the same blocks; access to them is not const
  for (int64_t i = 0; i < layers->size(); ++i) {
    add_block(map, layers[i], fmt::format("{}encoder.layer.{}.", base, i));
  }
  if (pooler) add_linear(map, pooler, base + "pooler.dense");
  const std::string head = "cls.predictions.";
  if (transform) {
    add_linear(map, transform, head + "transform.dense");
    add_norm(map, transform_norm, head + "transform.LayerNorm");
    if (spare_bias.defined()) {
      map.add(decoder_bias, {head + "decoder.bias"});
      map.add(spare_bias, {head + "bias"}, WeightNeed::optional);
    } else {
      map.add(decoder_bias, {head + "bias"});
      map.tie(head + "decoder.bias", head + "bias");
    }
    if (decoder_weight.defined()) {
      map.add(decoder_weight, {head + "decoder.weight"});
    } else {
      map.tie(head + "decoder.weight", base + "embeddings.word_embeddings.weight");
    }
  } else {
    map.ignore({"cls.predictions.*"});
  }
  if (classifier) add_linear(map, classifier, "classifier");
  // Published files carry all heads of pre-training, whichever class they name.
  if (!pooler) map.ignore({base + "pooler.dense.weight", base + "pooler.dense.bias"});
  map.ignore({"cls.seq_relationship.weight", "cls.seq_relationship.bias", base + "embeddings.position_ids"});
  return map;
}

Makers bert_makers() {
  // Files of a base model may lack its pooler; the model has none then.
  const Maker make = [](const io::JsonObject& json, const io::Checkpoint& weights) -> std::shared_ptr<Pretrained> {
    auto config = read_bert_config(json);
    if (config.head == BertHead::pooler && !weights.has("pooler.dense.weight") &&
        !weights.has("bert.pooler.dense.weight")) {
      config.head = BertHead::none;
    }
    auto model = std::make_shared<BertImpl>(std::move(config));
    if (!weights.has("cls.predictions.decoder.bias"))
      model->spare_bias.reset();  // older untied files: one bias, in use
    return model;
  };
  return {{"BertForMaskedLM", make}, {"BertForSequenceClassification", make}, {"BertModel", make}};
}

Bert fine_tune(const Bert& pretrained, const BertFineTuneOptions& options) {
  auto config = pretrained->config;
  config.head = BertHead::classifier;
  config.labels = options.labels;
  config.problem_type = options.problem_type;
  config.seed = options.seed;
  Bert model(std::move(config));
  const auto& like = pretrained->word_embeddings->weight;
  model->to(like.device(), like.scalar_type());
  const at::NoGradGuard no_grad;
  auto target = model->named_parameters();
  for (const auto& item : pretrained->named_parameters()) {
    if (auto* parameter = target.find(item.key()); parameter != nullptr && !item.key().starts_with("classifier.")) {
      parameter->copy_(item.value());
    }
  }
  return model;
}

}  // namespace winnow::models

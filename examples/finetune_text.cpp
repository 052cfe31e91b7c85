// Fine-tunes a language model as a classifier of short texts: which book a line is from. A causal model (GPT-2, Llama,
// ...) gets a linear head on its last token, BERT its own classifier; whole or through low-rank adapters.
//   ./dev data austen && ./dev data kjv && build/release/bin/finetune_text --model runs/gpt_char
//       --texts austen=data/austen/austen.txt kjv=data/kjv/kjv.txt --set train.out=runs/which_book
// The folder that is written is read by transformers (GPT2ForSequenceClassification and so on).

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>

#include "language.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/program.h"
#include "winnow/core/random.h"
#include "winnow/core/text.h"
#include "winnow/io/safetensors.h"
#include "winnow/models/bert.h"
#include "winnow/nn/init.h"
#include "winnow/nn/lora.h"
#include "winnow/tensor/generator.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/trainer.h"

namespace {

using namespace winnow;  // NOLINT: a program

struct FineTuneOptions {
  int64_t rank = 8;  // of adapters; 0: all weights learn
  double alpha = 16.0;
  int64_t max_tokens = 96;  // of a text; the rest is cut off
  int64_t texts = 3000;     // of each class at most
  double held_out = 0.1;
  int64_t batch_size = 16;
  uint64_t seed = 0;
  static Fields<FineTuneOptions> fields() {
    using O = FineTuneOptions;
    return Fields<O>("FineTune")
        .add("rank", &O::rank, "of the adapters; 0: all weights learn", at_least(0))
        .add("alpha", &O::alpha, "of the adapters")
        .add("max_tokens", &O::max_tokens, "of a text; the rest is cut off", at_least(1))
        .add("texts", &O::texts, "of each class at most", at_least(2))
        .add("held_out", &O::held_out, "share of the texts that is only judged", in_range(0, 1, Ends::open))
        .add("batch_size", &O::batch_size, "texts of a step", at_least(1))
        .add("seed", &O::seed, "of the order, the head and the adapters");
  }
};

struct LabelledTexts {
  at::Tensor ids, keep, labels;  // int64 [N, L], bool [N, L], int64 [N]
  [[nodiscard]] int64_t size() const { return labels.size(0); }
  [[nodiscard]] LabelledTexts rows(const at::Tensor& which) const {
    const auto mask = keep.index_select(0, which);
    const auto length = std::max<int64_t>(1, mask.sum(1).max().item<int64_t>());
    return {ids.index_select(0, which).slice(1, 0, length), mask.slice(1, 0, length), labels.index_select(0, which)};
  }
};

// Lines with some words, without what tells the book at once: a verse's number ("Ge1:1").
std::vector<std::string> lines_of(const std::string& file, int64_t limit, uint64_t seed) {
  const auto text = read_file(file);
  std::vector<std::string> lines;
  for (auto line : data::cut_documents(text, data::DocumentCut::lines)) {
    const auto blank = line.find(' ');
    if (blank != std::string_view::npos && line.substr(0, blank).find(':') != std::string_view::npos) {
      line.remove_prefix(blank + 1);
    }
    if (line.size() >= 24) lines.emplace_back(trim(line));
  }
  Random random(seed);
  random.shuffle(std::span(lines));
  lines.resize(std::min(lines.size(), static_cast<size_t>(limit)));
  WINNOW_CHECK(lines.size() >= 2, "finetune_text: {} must hold at least two lines of 24 bytes", file);
  return lines;
}

LabelledTexts encode(const std::vector<std::vector<std::string>>& classes, const io::Tokenizer& tokenizer,
                     int64_t max_tokens) {
  std::vector<std::string> texts;
  std::vector<int64_t> labels;
  for (size_t c = 0; c < classes.size(); ++c) {
    for (const auto& line : classes[c]) {
      texts.push_back(line);
      labels.push_back(static_cast<int64_t>(c));
    }
  }
  const auto encodings = tokenizer.encode_batch(texts);
  const auto N = static_cast<int64_t>(texts.size());
  const auto ids = at::full({N, max_tokens}, tokenizer.special_ids().pad.value_or(0), at::kLong);
  const auto keep = at::zeros({N, max_tokens}, at::kBool);
  for (int64_t i = 0; i < N; ++i) {
    const auto& row = encodings[static_cast<size_t>(i)].ids;
    const auto length = std::min<int64_t>(max_tokens, static_cast<int64_t>(row.size()));
    ids[i].narrow(0, 0, length).copy_(at::tensor(row, at::kLong).narrow(0, 0, length));
    keep[i].narrow(0, 0, length).fill_(true);
  }
  return {.ids = ids, .keep = keep, .labels = at::tensor(labels, at::kLong)};
}

// Random batches; batch t depends on the seed and t alone.
struct TextBatches {
  LabelledTexts texts;
  int64_t batch_size;
  uint64_t seed;
  int64_t ticket = 0;
  [[nodiscard]] int64_t batches_per_epoch() const { return texts.size() / batch_size; }
  LabelledTexts next() {
    const auto epoch = ticket / batches_per_epoch(), step = ticket % batches_per_epoch();
    ++ticket;
    const auto order = Random(derive_seed(seed, epoch)).permutation(texts.size());
    return texts.rows(at::tensor(order, at::kLong).narrow(0, step * batch_size, batch_size));
  }
  [[nodiscard]] nlohmann::json state() const { return {{"ticket", ticket}}; }
  void load_state(const nlohmann::json& state) { ticket = state.at("ticket").get<int64_t>(); }
};

// The network under its head.
struct ClassifierImpl : torch::nn::Module {
  ClassifierImpl(const std::shared_ptr<models::Pretrained>& network, const std::vector<std::string>& names,
                 const FineTuneOptions& options)
      : labels(names) {
    causal = models::CausalLM(std::dynamic_pointer_cast<models::CausalLMImpl>(network));
    if (causal) {
      register_module("model", causal);
      score = register_module("score", Linear(causal->config.hidden_size, static_cast<int64_t>(names.size()), false));
      normal_(score->weight, make_generator(options.seed), 0.02);
    } else {
      const auto pretrained = std::dynamic_pointer_cast<models::BertImpl>(network);
      WINNOW_CHECK(pretrained, "finetune_text: --model must be a causal language model or BERT, got {}",
                   network->architecture());
      bert = register_module("model", models::fine_tune(models::Bert(pretrained), {.labels = names}));
    }
    if (options.rank == 0) return;
    auto& body = causal ? static_cast<torch::nn::Module&>(*causal) : *bert;
    add_lora(body, {"attn.qkv", "attn.proj", "mlp.*"},
             {.rank = options.rank, .alpha = options.alpha, .seed = options.seed});
    for (auto& linear : {score, bert ? bert->classifier : score, bert ? bert->pooler : score}) {
      if (linear) linear->weight.requires_grad_(true);
      if (linear && linear->bias.defined()) linear->bias.requires_grad_(true);
    }
  }
  at::Tensor forward(const LabelledTexts& texts) {
    if (bert) return bert->forward({.ids = texts.ids, .keep = texts.keep}).logits;
    const auto hidden = causal->run({.ids = texts.ids, .keep = texts.keep, .hidden_states = true, .logits = false})
                            .hidden_states.back();  // [B, L, D]
    const auto last = (texts.keep.sum(1) - 1).view({-1, 1, 1}).expand({-1, 1, hidden.size(2)});
    return score->forward(hidden.gather(1, last).squeeze(1));
  }
  // A folder in the layout of transformers' ...ForSequenceClassification.
  void write(const std::filesystem::path& folder, int64_t pad) {
    fold_lora(*this);
    if (bert) return models::save(*bert, folder);
    auto tensors = causal->weight_map().tensors();
    for (const auto* head : {"lm_head.weight", "embed_out.weight"}) tensors.erase(head);
    tensors["score.weight"] = score->weight.detach();
    auto json = causal->config_json();
    const auto name = causal->architecture();
    const auto stem = name.substr(0, name.find(name.ends_with("LMHeadModel") ? "LMHeadModel" : "ForCausalLM"));
    json["architectures"] = {stem + "ForSequenceClassification"};
    json["pad_token_id"] = pad;
    for (size_t i = 0; i < labels.size(); ++i) {
      json["id2label"][std::to_string(i)] = labels[i];
      json["label2id"][labels[i]] = i;
    }
    std::filesystem::create_directories(folder);
    io::save_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
    io::write_json(folder / "config.json", json);
  }
  std::vector<std::string> labels;
  models::CausalLM causal{nullptr};
  models::Bert bert{nullptr};
  Linear score{nullptr};
};
TORCH_MODULE(Classifier);

double accuracy(Classifier& model, const LabelledTexts& texts) {
  const at::NoGradGuard no_grad;
  int64_t right = 0;
  for (const auto& part : at::arange(texts.size(), at::kLong).split(64)) {
    const auto rows = texts.rows(part);
    right += (model->forward(rows).argmax(1) == rows.labels).sum().item<int64_t>();
  }
  return static_cast<double>(right) / static_cast<double>(texts.size());
}

int finetune_text(Config& config, const std::string& folder, const std::vector<std::string>& sources) {
  const auto options = config.read<FineTuneOptions>("finetune");
  const auto adamw = config.read<examples::LanguageOptimizerOptions>("optimizer");
  auto training = config.read<train::TrainerOptions>("train");
  config.finish();
  training.final_weights = false;  // saved below, under the published names
  if (training.steps == 0 && training.epochs == 0) training.epochs = 1;
  std::vector<std::string> names;
  std::vector<std::vector<std::string>> classes;
  for (const auto& source : sources) {
    const auto at = source.find('=');
    if (at == std::string::npos) throw UsageError("--texts: NAME=FILE wanted, got " + source);
    names.push_back(source.substr(0, at));
    classes.push_back(lines_of(source.substr(at + 1), options.texts, derive_seed(options.seed, names.size())));
  }
  const auto tokenizer = io::load_tokenizer(folder);
  const auto all = encode(classes, *tokenizer, options.max_tokens);
  const auto order = at::tensor(Random(derive_seed(options.seed, 0)).permutation(all.size()), at::kLong);
  const auto judged = std::max<int64_t>(1, static_cast<int64_t>(options.held_out * static_cast<double>(all.size())));
  const auto test = all.rows(order.slice(0, 0, judged));
  TextBatches batches{
      .texts = all.rows(order.slice(0, judged)), .batch_size = options.batch_size, .seed = options.seed};
  WINNOW_CHECK(batches.batches_per_epoch() >= 1, "finetune_text: batch_size must be at most {}, got {}",
               batches.texts.size(), options.batch_size);

  Classifier model(models::load(folder), names, options);
  train::FusedAdamW optimizer(train::weight_decay_groups(*model, adamw.weight_decay), {.beta2 = adamw.beta2});
  train::Trainer trainer(*model, optimizer, training);
  trainer.callbacks.evaluate = [&] { return train::Metrics{{"test_accuracy", accuracy(model, test)}}; };
  const auto result = trainer.fit(batches, [&](const LabelledTexts& texts, train::StepContext&) {
    return train::StepResult{.loss = token_cross_entropy(model->forward(texts), texts.labels, adamw.loss()),
                             .metrics = {}};
  });
  if (result.signal != 0) return result.exit_code();
  model->eval();
  fmt::print("after {} steps: {:.4f} of {} held-out texts right\n", result.step, accuracy(model, test), test.size());
  if (training.out.empty()) return 0;
  model->write(training.out, tokenizer->special_ids().pad.value_or(0));
  examples::save_tokenizer({.tokenizer = tokenizer}, {.path = folder}, options.max_tokens, training.out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder;
  std::vector<std::string> sources;
  const ProgramInfo info{.name = "finetune_text",
                         .summary = "Fine-tunes a language model as a classifier of lines of text.",
                         .options_table = help<FineTuneOptions>("finetune") +
                                          help<examples::LanguageOptimizerOptions>("optimizer") +
                                          help<train::TrainerOptions>("train"),
                         .config = "",
                         .arguments = {{"--model", &folder, "folder of a causal language model or of BERT", true},
                                       {"--texts", &sources, "a class and its file of lines each: NAME=FILE", true}},
                         .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config& config) { return finetune_text(config, folder, sources); });
}

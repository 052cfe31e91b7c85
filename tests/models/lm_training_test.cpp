// Training of language models: packed documents, the loss on hidden states, overfitting, resuming, and folders that
// other packages read.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <cstdlib>

#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/data/text.h"
#include "winnow/models/bert.h"
#include "winnow/models/causal_lm.h"
#include "winnow/nn/lora.h"
#include "winnow/tensor/cross_entropy.h"
#include "winnow/tensor/generator.h"
#include "winnow/train/language_model.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/trainer.h"

namespace winnow::models {
namespace {

CausalLM small(bool llama, double dropout = 0.0) {
  const CausalLMSizes sizes{
      .vocab_size = 256, .context_length = 64, .dim = 32, .depth = 2, .heads = 4, .dropout = dropout};
  return CausalLM(llama ? llama_config(sizes) : gpt2_config(sizes), /*seed=*/7);
}

const std::string kText =
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood.";

LmInput input_of(const data::TextBatch& batch) {
  LmInput input{.ids = batch.ids, .hidden_states = true, .logits = false};
  if (batch.several_documents) {
    input.positions = batch.positions;
    input.mask = batch.document_mask();
  }
  return input;
}

at::Tensor loss_of(CausalLM& model, const data::TextBatch& batch) {
  return linear_cross_entropy(model->run(input_of(batch)).hidden_states.back(), model->head->weight, batch.targets);
}

TEST(LmTraining, PackedDocumentsCostWhatTheyCostAlone) {
  for (const bool llama : {false, true}) {
    auto model = small(llama);
    const std::vector<std::string_view> documents = {"one document", "and a longer second one", "a third"};
    const auto packed = data::encode_bytes(documents);
    data::TextLoader loader(packed, {.batch_size = 1, .context = packed.tokens(), .shuffle = false});
    const auto batch = loader.next();
    ASSERT_TRUE(batch.several_documents);
    double sum = 0;
    int64_t counted = 0;
    std::vector<at::Tensor> logits;
    for (const auto document : documents) {
      const auto ids = data::encode_bytes({document}).ids.to(at::kLong).unsqueeze(0);
      logits.push_back(model->forward(ids));
      sum += token_nll(logits.back(), next_tokens(ids)).sum().item<double>();
      counted += ids.size(1) - 1;
    }
    EXPECT_NEAR(loss_of(model, batch).item<double>(), sum / static_cast<double>(counted), 1e-5);
    auto input = input_of(batch);
    input.logits = true;
    EXPECT_TENSOR_NEAR(model->run(input).logits, at::cat(logits, 1), 1e-5);
  }
}

TEST(LmTraining, TheLossOnHiddenStatesHasTheGradientsOfTheModelsOwn) {
  for (const bool llama : {false, true}) {
    auto model = small(llama);
    const auto ids = at::randint(0, 256, {2, 20}, make_generator(1), at::kLong);
    model->run({.ids = ids, .labels = ids}).loss.backward();
    std::vector<at::Tensor> wanted;
    for (auto& p : model->parameters()) {
      wanted.push_back(p.grad().clone());
      p.mutable_grad() = at::Tensor();
    }
    const auto hidden = model->run({.ids = ids, .hidden_states = true, .logits = false}).hidden_states.back();
    linear_cross_entropy(hidden, model->head->weight, next_tokens(ids)).backward();
    const auto parameters = model->named_parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_TENSOR_NEAR(parameters[i].value().grad(), wanted[i], 2e-6) << parameters[i].key();
    }
  }
}

train::TrainResult fit(CausalLM& model, int64_t steps, train::TrainerOptions options) {
  options.progress = options.tensorboard = options.final_weights = false;
  options.steps = steps;
  options.log_every = 0;
  options.schedule = {.kind = train::ScheduleKind::constant, .lr = 3e-3};
  data::TextLoader loader(data::encode_bytes({kText}), {.batch_size = 2, .context = 48, .seed = 3});
  train::FusedAdamW optimizer(train::weight_decay_groups(*model, 0.0), {.beta2 = 0.99});
  train::Trainer trainer(*model, optimizer, options);
  return trainer.fit(loader, [&](const data::TextBatch& batch, train::StepContext&) {
    return train::StepResult{.loss = loss_of(model, batch), .metrics = {}};
  });
}

TEST(LmTraining, OverfitsAShortText) {
  for (const bool llama : {false, true}) {
    auto model = small(llama);
    data::TextLoader loader(data::encode_bytes({kText}), {.batch_size = 2, .context = 48, .shuffle = false});
    const auto batch = loader.next();
    EXPECT_NEAR(loss_of(model, batch).item<double>(), std::log(256.0), 0.5);
    train::FusedAdamW optimizer(train::weight_decay_groups(*model, 0.0), {.beta2 = 0.99});
    for (int step = 0; step < 120; ++step) {
      optimizer.zero_grad();
      loss_of(model, batch).backward();
      optimizer.step(5e-3);
    }
    EXPECT_LT(loss_of(model, batch).item<double>(), 0.1) << llama;
  }
}

at::Tensor flat(CausalLM& model) {
  std::vector<at::Tensor> parts;
  for (const auto& p : model->parameters()) parts.push_back(p.detach().flatten());
  return at::cat(parts);
}

TEST(LmTraining, ARunThatWasCutGoesOnToTheBit) {
  const testing::TemporaryFolder folder;
  auto whole = small(false, /*dropout=*/0.1);
  fit(whole, 12, {});
  {
    auto first = small(false, /*dropout=*/0.1);
    fit(first, 7, {.checkpoint_every = 7, .out = folder.path() / "run"});
  }
  auto second = small(false, /*dropout=*/0.1);
  fit(second, 12, {.checkpoint_every = 7, .out = folder.path() / "run", .resume = train::Resume::latest});
  EXPECT_TENSOR_EQ(flat(second), flat(whole));
}

TEST(LmTraining, AdaptersLearnWithoutMovingTheModel) {
  auto model = small(true);
  const auto before = model->embed->weight.detach().clone();
  add_lora(*model, {"attn.qkv", "mlp.fc1"}, {.rank = 4});
  const auto ids = data::encode_bytes({kText}).ids.to(at::kLong);
  const auto start = train::strided_loss(*model, ids, {.window = 48, .stride = 24}).mean();
  fit(model, 60, {});
  EXPECT_LT(train::strided_loss(*model, ids, {.window = 48, .stride = 24}).mean(), start - 0.08);
  EXPECT_TENSOR_EQ(model->embed->weight.detach(), before);
}

TEST(LmTraining, AMaskedModelLearnsToFillIn) {
  BertConfig config;
  config.head = BertHead::masked_lm;
  config.vocab_size = 257;
  config.hidden_size = 32;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.intermediate_size = 64;
  config.max_position_embeddings = 64;
  config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0;
  Bert bert(config);
  train::FusedAdamW optimizer(train::weight_decay_groups(*bert, 0.0), {});
  data::TextLoader loader(data::encode_bytes({kText}), {.batch_size = 3, .context = 48, .seed = 3});
  auto generator = make_generator(9);
  double first = 0, last = 0;
  for (int step = 0; step < 200; ++step) {
    const auto masked = data::mask_tokens(loader.next().ids, {}, /*mask_id=*/256, /*vocab_size=*/257, generator);
    optimizer.zero_grad();
    const auto loss = bert->forward({.ids = masked.ids, .labels = masked.labels}).loss;
    loss.backward();
    optimizer.step(2e-3);
    (step < 20 ? first : last) += step < 20 || step >= 180 ? loss.item<double>() / 20 : 0.0;
  }
  EXPECT_LT(last, first - 1.0);
}

// Trained networks with their logits, for benchmarks/peers/check_lm_roundtrip.py, which compares transformers' logits,
// trains on and saves ("back") what is read here again: folders kept where WINNOW_PEER_FOLDERS says.
TEST(LmTraining, FoldersWithInputAndOutputReproduceThemselves) {
  const testing::TemporaryFolder temporary;
  const auto* kept = std::getenv("WINNOW_PEER_FOLDERS");
  const auto root = kept != nullptr ? std::filesystem::path(kept) : temporary.path();
  const at::NoGradGuard no_grad;
  for (const bool llama : {false, true}) {
    auto model = small(llama);
    {
      const at::AutoGradMode grad(true);
      fit(model, 30, {});
    }
    model->eval();
    const auto folder = root / (llama ? "lm_llama" : "lm_gpt2");
    save(*model, folder);
    const auto ids = at::randint(0, 256, {2, 40}, make_generator(2), at::kLong);
    io::save_safetensors(folder / "check.safetensors", {{"input_ids", ids}, {"output", model->forward(ids)}});
    EXPECT_TENSOR_EQ(load_as<CausalLM>(folder)->forward(ids), model->forward(ids));
    if (!std::filesystem::exists(folder / "back")) continue;
    const auto theirs = io::load_safetensors(folder / "back_check.safetensors");
    EXPECT_TENSOR_NEAR(load_as<CausalLM>(folder / "back")->forward(theirs.at("input_ids")), theirs.at("output"), 1e-5);
  }
}

}  // namespace
}  // namespace winnow::models

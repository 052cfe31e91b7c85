// Facts about BERT: what pads, positions and segments do, its heads, its errors.
#include "winnow/models/bert.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "hf_golden.h"
#include "reference.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"
#include "winnow/tensor/generator.h"
#include "winnow/train/optimizer.h"
#include "winnow/train/param_groups.h"

namespace winnow::models {
namespace {

BertConfig small(BertHead head = BertHead::pooler) {
  return {.head = head,
          .vocab_size = 23,
          .hidden_size = 12,
          .num_hidden_layers = 2,
          .num_attention_heads = 3,
          .intermediate_size = 20,
          .max_position_embeddings = 9,
          .layer_norm_eps = 1e-6,
          .labels = {"no", "yes", "perhaps"}};
}

// In float64, every parameter random and none near its neutral value, in evaluation mode.
Bert prepared(BertConfig config) {
  Bert model(std::move(config));
  testing::draw_parameters(*model);
  return model;
}

at::Tensor some_ids() {
  return at::tensor({5, 1, 22, 0, 7, 3, 3, 9, 11, 2}, at::kLong).view({2, 5});
}

// A plain implementation on the saved tensors, with elementary operations only.
class Reference {
 public:
  explicit Reference(const Bert& model) : plain_(model->weight_map().tensors(), model->config_json()), model_(model) {}

  at::Tensor norm(const std::string& name, const at::Tensor& x) const {
    const auto centred = x - x.mean(-1, true);
    return centred / (centred.square().mean(-1, true) + model_->config.layer_norm_eps).sqrt() *
               plain_.tensor(name + ".weight") +
           plain_.tensor(name + ".bias");
  }
  at::Tensor encode(const std::string& base, const at::Tensor& ids, const at::Tensor& keep,
                    const at::Tensor& types) const {
    const auto row = [&](const char* table, const at::Tensor& which) {
      return plain_.tensor(base + "embeddings." + table + "_embeddings.weight").index({which});
    };
    auto x = norm(base + "embeddings.LayerNorm",
                  row("word", ids) + row("position", at::arange(ids.size(1), at::kLong)) + row("token_type", types));
    const auto heads = model_->config.num_attention_heads, d = model_->config.hidden_size / heads;
    for (int64_t i = 0; i < model_->config.num_hidden_layers; ++i) {
      const auto place = base + "encoder.layer." + std::to_string(i) + ".";
      std::vector<at::Tensor> joined;
      for (int64_t h = 0; h < heads; ++h) {
        const auto part = [&](const char* name) {
          return plain_.dense(place + "attention.self." + name, x).slice(2, h * d, (h + 1) * d);
        };
        auto scores = at::matmul(part("query"), part("key").transpose(1, 2)) / std::sqrt(static_cast<double>(d));
        scores = scores.masked_fill((keep == 0).unsqueeze(1), -1e300);
        joined.push_back(at::matmul(scores.softmax(-1), part("value")));
      }
      x = norm(place + "attention.output.LayerNorm",
               x + plain_.dense(place + "attention.output.dense", at::cat(joined, 2)));
      const auto inside = plain_.activation(model_->config.hidden_act, plain_.dense(place + "intermediate.dense", x));
      x = norm(place + "output.LayerNorm", x + plain_.dense(place + "output.dense", inside));
    }
    return x;
  }
  const winnow::testing::ReferenceViT& plain() const { return plain_; }

 private:
  winnow::testing::ReferenceViT plain_;
  Bert model_;
};

TEST(Bert, EveryActivationAgainstElementaryOperations) {
  const at::NoGradGuard no_grad;
  const auto keep = at::tensor({1, 1, 1, 1, 0, 0, 1, 1, 1, 1}, at::kLong).view({2, 5});
  const auto types = at::tensor({0, 0, 1, 1, 1, 0, 1, 0, 1, 0}, at::kLong).view({2, 5});
  for (const std::string activation : {"gelu", "gelu_new", "quick_gelu", "relu", "silu"}) {
    for (const auto head : {BertHead::pooler, BertHead::masked_lm, BertHead::classifier}) {
      auto config = small(head);
      config.hidden_act = activation;
      auto model = prepared(config);
      const Reference reference(model);
      const auto out = model->forward({.ids = some_ids(), .keep = keep, .type_ids = types});
      const std::string base = head == BertHead::pooler ? "" : "bert.";
      const auto states = reference.encode(base, some_ids(), keep, types);
      EXPECT_TENSOR_NEAR(out.last_hidden_state, states, 1e-10);
      const auto& plain = reference.plain();
      if (head == BertHead::masked_lm) {
        const auto hidden =
            reference.norm("cls.predictions.transform.LayerNorm",
                           plain.activation(activation, plain.dense("cls.predictions.transform.dense", states)));
        const auto words = plain.tensor("bert.embeddings.word_embeddings.weight");
        EXPECT_TENSOR_NEAR(out.logits, at::matmul(hidden, words.t()) + plain.tensor("cls.predictions.bias"), 1e-9);
        continue;
      }
      const auto pooled = plain.dense(base + "pooler.dense", states.select(1, 0)).tanh();
      EXPECT_TENSOR_NEAR(out.pooler_output, pooled, 1e-10);
      if (head == BertHead::classifier) EXPECT_TENSOR_NEAR(out.logits, plain.dense("classifier", pooled), 1e-10);
    }
  }
}

TEST(Bert, MiniLmHasTheParametersOfItsFile) {
  Bert model(
      BertConfig{.hidden_size = 384, .num_hidden_layers = 6, .num_attention_heads = 12, .intermediate_size = 1536});
  int64_t count = 0;
  for (const auto& parameter : model->parameters()) count += parameter.numel();
  EXPECT_EQ(count, 22'713'216);  // 22,713,728 numbers in the published file, 512 of them position numbers
  EXPECT_EQ(model->weight_map().names().size(), 103U);
}

TEST(Bert, PadsChangeNothingButTheirOwnRows) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  const auto ids = some_ids().slice(0, 0, 1);  // [1, 5]
  const auto alone = model->forward({.ids = ids}).last_hidden_state;
  const auto padded = at::cat({ids, at::full({1, 3}, 4, at::kLong)}, 1);
  const auto keep = at::tensor({1, 1, 1, 1, 1, 0, 0, 0}, at::kLong).view({1, 8});
  EXPECT_TENSOR_NEAR(model->forward({.ids = padded, .keep = keep}).last_hidden_state.slice(1, 0, 5), alone, 1e-12);
  // A mask of ones is no mask.
  EXPECT_TENSOR_EQ(model->forward({.ids = ids, .keep = at::ones_like(ids)}).last_hidden_state, alone);
}

TEST(Bert, PositionsCountFromTheLeftEdgeWhateverIsMasked) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  const auto ids = some_ids();
  const auto keep = at::tensor({0, 0, 1, 1, 1, 1, 1, 1, 1, 1}, at::kLong).view({2, 5});
  const auto out = model->forward({.ids = ids, .keep = keep}).last_hidden_state;
  EXPECT_TENSOR_EQ(model->forward({.ids = ids, .keep = keep, .positions = at::arange(5, at::kLong)}).last_hidden_state,
                   out);
  // The same tokens without the pads stand at other positions, unless these are given.
  const auto cut = ids.slice(0, 0, 1).slice(1, 2);
  EXPECT_GT(
      (model->forward({.ids = cut}).last_hidden_state - out.slice(0, 0, 1).slice(1, 2)).abs().max().item<double>(),
      1e-3);
  EXPECT_TENSOR_NEAR(model->forward({.ids = cut, .positions = at::arange(2, 5, at::kLong)}).last_hidden_state,
                     out.slice(0, 0, 1).slice(1, 2), 1e-12);
}

TEST(Bert, MaskedLossCountsLabelledTokensOnly) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small(BertHead::masked_lm));
  auto labels = at::full({2, 5}, -100, at::kLong);
  labels[0][2] = 17;
  labels[1][4] = 0;
  const auto out = model->forward({.ids = some_ids(), .labels = labels});
  const auto log_p = out.logits.log_softmax(-1);
  EXPECT_NEAR(out.loss.item<double>(), -(log_p[0][2][17] + log_p[1][4][0]).item<double>() / 2, 1e-12);
}

TEST(Bert, TiedHeadAddsItsGradientToTheWordEmbeddings) {
  auto tied = prepared(small(BertHead::masked_lm));
  auto config = small(BertHead::masked_lm);
  config.tie_word_embeddings = false;
  auto own = prepared(config);
  {
    const at::NoGradGuard no_grad;
    auto targets = own->named_parameters();
    for (const auto& item : tied->named_parameters()) targets[item.key()].copy_(item.value());
    own->decoder_weight.copy_(tied->word_embeddings->weight);
  }
  const auto labels = some_ids().flip(1);
  tied->forward({.ids = some_ids(), .labels = labels}).loss.backward();
  own->forward({.ids = some_ids(), .labels = labels}).loss.backward();
  EXPECT_TENSOR_NEAR(tied->word_embeddings->weight.grad(),
                     own->word_embeddings->weight.grad() + own->decoder_weight.grad(), 1e-12);
}

TEST(Bert, LookingUpThePadTeachesItNothing) {
  const auto gradient = [](int64_t pad) {
    auto config = small();
    config.pad_token_id = pad;
    auto model = prepared(config);
    model->forward({.ids = some_ids()}).pooler_output.sum().backward();
    return model->word_embeddings->weight.grad();
  };
  const auto with = gradient(7), without = gradient(-1);
  EXPECT_EQ(with[7].abs().max().item<double>(), 0.0);
  EXPECT_GT(without[7].abs().max().item<double>(), 0.0);
  EXPECT_TENSOR_EQ(with[5], without[5]);
}

TEST(Bert, DropoutIsDrawnInTrainingAndFromTheSeed) {
  auto config = small(BertHead::classifier);
  config.seed = 4;
  const auto run = [&](bool training) {
    Bert model(config);
    model->train(training);
    return model->forward({.ids = some_ids()}).logits.detach();
  };
  EXPECT_TENSOR_EQ(run(true), run(true));
  EXPECT_TENSOR_EQ(run(false), run(false));
  EXPECT_FALSE(at::equal(run(true), run(false)));
}

TEST(Bert, FineTuningLearnsWhichOfTwoWordsComesFirst) {
  Bert pretrained(small(BertHead::masked_lm));
  auto model = fine_tune(pretrained, {.labels = {"first", "second"}, .seed = 3});
  EXPECT_TENSOR_EQ(model->word_embeddings->weight, pretrained->word_embeddings->weight);
  EXPECT_TENSOR_EQ(model->blocks[1]->attn->qkv->weight, pretrained->blocks[1]->attn->qkv->weight);
  EXPECT_EQ(model->labels(), (std::vector<std::string>{"first", "second"}));
  model->train();
  train::FusedAdamW optimizer(train::weight_decay_groups(*model, 0.0));
  const auto ids = at::tensor({1, 7, 8, 1, 8, 7, 1, 8, 7, 1, 7, 8}, at::kLong).view({4, 3});
  const auto labels = at::tensor({0, 1, 1, 0}, at::kLong);
  for (int step = 0; step < 150; ++step) {
    optimizer.zero_grad();
    model->forward({.ids = ids, .labels = labels}).loss.backward();
    optimizer.step(3e-3);
  }
  model->eval();
  const at::NoGradGuard no_grad;
  const auto out = model->forward({.ids = ids, .labels = labels});
  EXPECT_TENSOR_EQ(out.logits.argmax(1), labels);
  EXPECT_LT(out.loss.item<double>(), 0.1);
}

TEST(Bert, WrongInputsAreTold) {
  auto model = prepared(small(BertHead::masked_lm));
  const auto zeros = [](int64_t length) { return at::zeros({1, length}, at::kLong); };
  EXPECT_ERROR(model->forward({.ids = zeros(0)}), "Bert: ids must hold at least one token, got an empty sequence");
  EXPECT_ERROR(model->forward({.ids = zeros(10)}),
               "Bert: ids must hold at most 9 tokens, the positions that there are, got 10");
  EXPECT_ERROR(model->forward({.ids = at::full({1, 2}, 23, at::kLong)}), "Bert: ids must");
  EXPECT_ERROR(model->forward({.ids = at::full({1, 2}, -1, at::kLong)}), "Bert: ids must");
  EXPECT_ERROR(model->forward({.ids = at::zeros({1, 2})}), "Bert: ids must");
  EXPECT_ERROR(model->forward({.ids = zeros(2), .keep = zeros(3)}), "Bert: keep must");
  EXPECT_ERROR(model->forward({.ids = zeros(2), .type_ids = at::full({1, 2}, 2, at::kLong)}), "Bert: type_ids must");
  EXPECT_ERROR(model->forward({.ids = zeros(2), .positions = at::arange(3, at::kLong)}), "Bert: positions must");
  EXPECT_ERROR(model->forward({.ids = zeros(2), .positions = at::full({2}, 9, at::kLong)}), "LearnedPositions");
  EXPECT_ERROR(model->forward({.ids = zeros(2), .labels = zeros(3)}), "Bert: labels must");
}

TEST(Bert, WhatIsNotDoneIsRefusedByName) {
  const auto read = [](const std::string& key, const io::Json& value) {
    io::Json json = {{"architectures", {"BertModel"}}, {"model_type", "bert"}};
    json[key] = value;
    return read_bert_config(io::JsonObject(json, "config.json"));
  };
  EXPECT_ERROR_KIND(read("position_embedding_type", "relative_key"), ErrorKind::unsupported,
                    "config.json: position_embedding_type = relative_key is not supported");
  EXPECT_ERROR_KIND(read("is_decoder", true), ErrorKind::unsupported, "is_decoder");
  EXPECT_ERROR_KIND(read("hidden_act", "mish"), ErrorKind::unsupported, "hidden_act");
  EXPECT_ERROR_KIND(read("hidden_sise", 3), ErrorKind::unsupported, "did you mean hidden_size?");
  EXPECT_ERROR_KIND(read("num_attention_heads", 7), ErrorKind::file, "num_attention_heads must divide hidden_size");
  EXPECT_ERROR_KIND(read("hidden_dropout_prob", 1.0), ErrorKind::file, "hidden_dropout_prob must be in [0, 1)");
  EXPECT_ERROR_KIND(read("pad_token_id", 30522), ErrorKind::file, "pad_token_id must be in [0, vocab_size = 30522)");
  EXPECT_EQ(read("pad_token_id", io::Json()).pad_token_id, -1);
  EXPECT_ERROR_KIND(read("architectures", {"BertForTokenClassification"}), ErrorKind::unsupported,
                    "BertForTokenClassification");
  const auto defaults = read("torch_dtype", "float32");
  EXPECT_EQ(defaults.hidden_size, 768);
  EXPECT_EQ(defaults.layer_norm_eps, 1e-12);
}

}  // namespace
}  // namespace winnow::models

// What holds for T5, Whisper and Mamba of any weights: padding, states, saving, errors.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/models/generation.h"
#include "winnow/models/mamba.h"
#include "winnow/models/t5.h"
#include "winnow/models/whisper.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

using testing::TemporaryFolder;

T5 small_t5(T5Config c = {}) {
  c.vocab_size = 40;
  c.d_model = 24;
  c.d_kv = 5;
  c.d_ff = 30;
  c.num_layers = 2;
  c.num_heads = 4;
  c.relative_attention_num_buckets = 8;
  c.relative_attention_max_distance = 12;
  T5 model(c, 3);
  model->eval();
  return model;
}

Whisper small_whisper() {
  Whisper model(WhisperConfig{.vocab_size = 40,
                              .num_mel_bins = 6,
                              .d_model = 24,
                              .encoder_layers = 2,
                              .encoder_attention_heads = 3,
                              .encoder_ffn_dim = 30,
                              .decoder_layers = 2,
                              .decoder_attention_heads = 4,
                              .decoder_ffn_dim = 20,
                              .max_source_positions = 9,
                              .max_target_positions = 16,
                              .init_std = 0.3,
                              .decoder_start_token_id = 3},
                5);
  model->eval();
  return model;
}

Mamba small_mamba(bool bias = true) {
  Mamba model(MambaConfig{.vocab_size = 40,
                          .hidden_size = 20,
                          .num_hidden_layers = 2,
                          .state_size = 5,
                          .use_bias = bias,
                          .initializer_range = 1.0},
              7);
  const at::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.key().ends_with("_proj.bias") && !item.key().ends_with("dt_proj.bias")) item.value().fill_(0.1);
  }
  model->eval();
  return model;
}

at::Tensor tokens(int64_t rows, int64_t length, uint64_t seed) {
  return at::randint(4, 40, {rows, length}, make_generator(seed), at::kLong);
}

at::Tensor features(int64_t rows) {
  return at::randn({rows, 6, 18}, make_generator(11));
}

TEST(T5Facts, PaddingOfTheEncoderChangesNothing) {
  const at::NoGradGuard no_grad;
  auto model = small_t5();
  const auto ids = tokens(1, 9, 1), dec = tokens(1, 4, 2);
  const auto alone = model->encode(ids);
  const auto wanted = model->run({.ids = dec, .encoder_states = alone.states}).logits;
  const auto padded = at::cat({ids, tokens(1, 5, 3)}, 1);
  const auto keep = at::cat({at::ones({1, 9}), at::zeros({1, 5})}, 1);
  const auto encoded = model->encode(padded, keep);
  EXPECT_TENSOR_NEAR(encoded.states.slice(1, 0, 9), alone.states, 1e-5);
  EXPECT_TENSOR_NEAR(model->run({.ids = dec, .encoder_states = encoded.states, .encoder_keep = keep}).logits, wanted,
                     2e-5);
}

// Positions are relative: what stands to the left and is hidden does not matter either.
TEST(T5Facts, PaddingOnTheLeftChangesNothing) {
  const at::NoGradGuard no_grad;
  auto model = small_t5();
  const auto ids = tokens(1, 6, 1);
  const auto keep = at::cat({at::zeros({1, 3}), at::ones({1, 6})}, 1);
  EXPECT_TENSOR_NEAR(model->encode(at::cat({tokens(1, 3, 9), ids}, 1), keep).states.slice(1, 3),
                     model->encode(ids).states, 1e-5);
}

TEST(T5Facts, LabelsAloneFeedTheShiftedDecoder) {
  const at::NoGradGuard no_grad;
  auto model = small_t5();
  const auto states = model->encode(tokens(2, 5, 1)).states;
  auto labels = tokens(2, 4, 2);
  labels[1][2] = labels[1][3] = -100;
  auto ids = at::zeros_like(labels);  // starts with decoder_start_token_id = 0
  ids.slice(1, 1).copy_(labels.slice(1, 0, 3));
  ids = ids.masked_fill(ids == -100, 0);
  const auto shifted = model->run({.labels = labels, .encoder_states = states});
  EXPECT_TENSOR_EQ(shifted.logits, model->run({.ids = ids, .encoder_states = states}).logits);
  const auto nll = -shifted.logits.log_softmax(2).gather(2, labels.clamp_min(0).unsqueeze(2)).squeeze(2);
  EXPECT_TENSOR_NEAR(shifted.loss, (nll * (labels != -100)).sum() / 6, 1e-5);
}

TEST(T5Facts, AnEncoderAloneIsThatOfTheWholeModel) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  auto whole = small_t5();
  auto alone = small_t5({.encoder_only = true});
  EXPECT_TENSOR_EQ(alone->encode(tokens(1, 4, 1)).states, alone->encode(tokens(1, 4, 1), at::ones({1, 4})).states);
  save(*alone, folder.path());
  EXPECT_EQ(load_as<T5>(folder.path())->architecture(), "T5EncoderModel");
  EXPECT_ERROR_KIND(alone->run({.ids = tokens(1, 1, 1)}), ErrorKind::unsupported, "T5: this is an encoder alone");
  EXPECT_ERROR((void)alone->make_state(1, 1), "T5: this is an encoder alone");
  // 2 blocks of q, k, v, o [20, 24], wi, wo [30, 24] and 2 norms; embedding, buckets, final norm.
  int64_t count = 0;
  for (const auto& p : alone->parameters()) count += p.numel();
  EXPECT_EQ(count, 2 * (4 * 20 * 24 + 2 * 30 * 24 + 2 * 24) + 40 * 24 + 8 * 4 + 24);
  EXPECT_EQ(whole->architecture(), "T5ForConditionalGeneration");
}

// In pieces with a state as at once; rows may be reordered and doubled on the way.
template <typename Model>
void check_states(Model& model, const at::Tensor& states, const at::Tensor& keep) {
  const at::NoGradGuard no_grad;
  const auto ids = tokens(2, 9, 21);
  const auto whole = model->run({.ids = ids, .encoder_states = states, .encoder_keep = keep}).logits;
  const auto state = model->make_state(2, 4);
  const auto piece = [&](const at::Tensor& rows, int64_t begin, int64_t count, bool first) {
    return model
        ->run({.ids = rows.narrow(1, begin, count),
               .state = state.get(),
               .encoder_states = first ? states : at::Tensor(),
               .encoder_keep = first ? keep : at::Tensor()})
        .logits;
  };
  EXPECT_TENSOR_NEAR(piece(ids, 0, 3, true), whole.narrow(1, 0, 3), 2e-5);
  EXPECT_TENSOR_NEAR(piece(ids, 3, 1, false), whole.narrow(1, 3, 1), 2e-5);
  EXPECT_TENSOR_NEAR(piece(ids, 4, 3, false), whole.narrow(1, 4, 3), 2e-5);
  EXPECT_EQ(state->length(), 7);
  const auto order = at::tensor({1, 0, 1}, at::kLong);
  state->select(order);
  EXPECT_TENSOR_NEAR(piece(ids.index_select(0, order), 7, 2, false), whole.narrow(1, 7, 2).index_select(0, order),
                     2e-5);
}

TEST(SequenceStates, T5InPiecesIsT5AtOnce) {
  const at::NoGradGuard no_grad;
  auto model = small_t5();
  const auto keep = at::tensor({1, 1, 1, 1, 1, 1, 1, 0, 0, 0}, at::kLong).view({2, 5});
  check_states(model, model->encode(tokens(2, 5, 1), keep).states, keep);
}

TEST(SequenceStates, WhisperInPiecesIsWhisperAtOnce) {
  const at::NoGradGuard no_grad;
  auto model = small_whisper();
  check_states(model, model->encode(features(2)).states, {});
}

TEST(SequenceStates, MambaInPiecesIsMambaAtOnce) {
  auto model = small_mamba();
  check_states(model, {}, {});
}

TEST(MambaFacts, PaddingOnTheLeftChangesNothing) {
  const at::NoGradGuard no_grad;
  auto model = small_mamba();
  const auto ids = tokens(1, 7, 1);
  const auto wanted = model->run({.ids = ids}).logits;
  const auto keep = at::cat({at::zeros({1, 4}), at::ones({1, 7})}, 1);
  const auto padded = at::cat({tokens(1, 4, 2), ids}, 1);
  EXPECT_TENSOR_NEAR(model->run({.ids = padded, .keep = keep}).logits.slice(1, 4), wanted, 1e-5);
  const auto state = model->make_state(1, 0);
  model->run({.ids = padded.narrow(1, 0, 6), .keep = keep.narrow(1, 0, 6), .state = state.get()});
  const auto rest = model->run({.ids = padded.narrow(1, 6, 5), .keep = keep, .state = state.get()}).logits;
  EXPECT_TENSOR_NEAR(rest, wanted.slice(1, 2), 1e-5);
}

TEST(MambaFacts, WhatARecurrentStateCannotDoIsAnError) {
  const at::NoGradGuard no_grad;
  auto model = small_mamba();
  const auto state = model->make_state(1, 0);
  const auto ids = tokens(1, 4, 1);
  const auto first = model->run({.ids = ids, .state = state.get()}).logits;
  EXPECT_ERROR_KIND(state->truncate(2), ErrorKind::unsupported, "MambaState: truncate to 2 of 4 tokens");
  EXPECT_ERROR_KIND(state->compact(1, {3}), ErrorKind::unsupported, "MambaState: compact to 2 of 4 tokens");
  state->compact(2, {2, 3});  // everything stays
  EXPECT_EQ(state->length(), 4);
  state->truncate(0);
  EXPECT_TENSOR_EQ(model->run({.ids = ids, .state = state.get()}).logits, first);
}

TEST(MambaFacts, ResidualsOfHalfWeightsAreWideOnDemand) {
  const at::NoGradGuard no_grad;
  for (const bool wide : {false, true}) {
    Mamba model(MambaConfig{
        .vocab_size = 40, .hidden_size = 16, .num_hidden_layers = 1, .state_size = 2, .residual_in_fp32 = wide});
    model->to(at::kBFloat16);
    const auto out = model->run({.ids = tokens(1, 3, 1), .hidden_states = true});
    EXPECT_EQ(out.hidden_states[0].scalar_type(), wide ? at::kFloat : at::kBFloat16);
    EXPECT_EQ(out.logits.scalar_type(), at::kBFloat16);
  }
}

TEST(WhisperFacts, FixedPositionsAreTheSinusoidsOfTheSource) {
  auto model = small_whisper();
  const auto table = model->encoder->positions->weight;  // [9, 24]
  EXPECT_FALSE(table.requires_grad());
  EXPECT_TENSOR_EQ(table[0], at::cat({at::zeros({12}), at::ones({12})}));
  EXPECT_NEAR(table[2][0].item<double>(), std::sin(2.0), 1e-6);
  EXPECT_NEAR(table[2][11].item<double>(), std::sin(2e-4), 1e-8);  // the longest wavelength is 2 pi 10,000
  EXPECT_NEAR(table[2][12].item<double>(), std::cos(2.0), 1e-6);
}

// Greedy generation is one token after the other; beam search finds no worse a sequence.
template <typename Model>
void check_generation(Model& model, const GenerationInput& input) {
  const at::NoGradGuard no_grad;
  const auto greedy = generate(*model, input, {.max_new_tokens = 6});
  const auto beams = generate(*model, input, {.max_new_tokens = 6, .beams = 4});
  for (size_t row = 0; row < input.prompts.size(); ++row) {
    auto ids = at::tensor(input.prompts[row]).unsqueeze(0);
    const auto at_row = [&](const at::Tensor& x) {
      return x.defined() ? x.narrow(0, static_cast<int64_t>(row), 1) : x;
    };
    double log_prob = 0;
    for (const auto token : greedy.rows[row][0].tokens) {
      const auto logits = model
                              ->run({.ids = ids,
                                     .encoder_states = at_row(input.encoder_states),
                                     .encoder_keep = at_row(input.encoder_keep)})
                              .logits[0][-1];
      EXPECT_EQ(logits.argmax().template item<int64_t>(), token);
      log_prob += logits.log_softmax(0)[token].template item<double>();
      ids = at::cat({ids, at::tensor({token}).unsqueeze(0)}, 1);
    }
    double best = 0;
    for (const auto one : beams.rows[row][0].log_probs) best += one;
    EXPECT_GE(best, log_prob - 1e-4);
  }
}

TEST(SequenceGeneration, T5) {
  const at::NoGradGuard no_grad;
  auto model = small_t5();
  const auto keep = at::tensor({1, 1, 1, 1, 1, 1, 1, 0, 0, 0}, at::kLong).view({2, 5});
  const auto states = model->encode(tokens(2, 5, 1), keep).states;
  check_generation(model, {.prompts = {{0}, {0}}, .encoder_states = states, .encoder_keep = keep});
}

TEST(SequenceGeneration, Whisper) {
  const at::NoGradGuard no_grad;
  auto model = small_whisper();
  check_generation(model, {.prompts = {{3, 7}, {3, 9}}, .encoder_states = model->encode(features(2)).states});
}

TEST(SequenceGeneration, MambaWithRaggedPrompts) {
  auto model = small_mamba();
  check_generation(model, {.prompts = {{5, 6, 7, 8}, {9}}});
}

TEST(SequenceFolders, SavedModelsAreReadBackToTheBit) {
  const at::NoGradGuard no_grad;
  for (const bool own_head : {false, true}) {
    const TemporaryFolder folder;
    auto model =
        small_t5({.feed_forward_proj = "gated-gelu", .scale_decoder_outputs = !own_head, .own_head = own_head});
    save(*model, folder.path());
    auto back = load_as<T5>(folder.path());
    EXPECT_EQ(back->config.own_head, own_head);
    EXPECT_EQ(back->config.scale_decoder_outputs, !own_head);
    const auto states = model->encode(tokens(1, 5, 1)).states;
    EXPECT_TENSOR_EQ(back->encode(tokens(1, 5, 1)).states, states);
    const LmInput call{.ids = tokens(1, 3, 2), .encoder_states = states};
    EXPECT_TENSOR_EQ(back->run(call).logits, model->run(call).logits);
  }
  const TemporaryFolder folder;
  auto whisper = small_whisper();
  save(*whisper, folder.path());
  EXPECT_TENSOR_EQ(load_as<Whisper>(folder.path())->encode(features(1)).states, whisper->encode(features(1)).states);
  auto mamba = small_mamba();
  save(*mamba, folder.path());
  EXPECT_TENSOR_EQ(load_as<Mamba>(folder.path())->run({.ids = tokens(1, 5, 1)}).logits,
                   mamba->run({.ids = tokens(1, 5, 1)}).logits);
}

TEST(SequenceFolders, WeightsKeptInHalfPrecisionComputeInFloat32) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  auto mamba = small_mamba();
  save(*mamba, folder.path());
  auto half = load_as<Mamba>(folder.path(), {.storage = WeightStorage::bfloat16});
  EXPECT_EQ(half->blocks[0]->mixer->in_proj->weight.scalar_type(), at::kBFloat16);
  const auto wanted = mamba->run({.ids = tokens(1, 5, 1)}).logits, got = half->run({.ids = tokens(1, 5, 1)}).logits;
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  EXPECT_LT((got - wanted).norm().item<double>(), 0.05 * wanted.norm().item<double>());
}

TEST(SequenceErrors, AreOneLineThatNamesTheArgument) {
  auto t5 = small_t5();
  auto whisper = small_whisper();
  auto mamba = small_mamba();
  const auto ids = tokens(2, 3, 1), states = at::zeros({2, 5, 24});
  EXPECT_ERROR(t5->run({.ids = ids}), "T5: encoder_states must be given in the first call");
  EXPECT_ERROR(t5->run({.ids = ids, .encoder_states = at::zeros({2, 5, 23})}),
               "T5: encoder_states must have shape [2, *, 24], got [2, 5, 23]");
  EXPECT_ERROR(t5->run({.ids = ids, .encoder_states = states, .encoder_keep = at::ones({2, 4})}),
               "T5: encoder_keep must have shape [2, 5], got [2, 4]");
  EXPECT_ERROR(t5->run({.ids = ids + 40, .encoder_states = states}), "T5: ids (the vocabulary)");
  EXPECT_ERROR(t5->run({.ids = ids, .positions = ids, .encoder_states = states}), "T5: positions must be undefined");
  EXPECT_ERROR(t5->encode(at::zeros({1, 0}, at::kLong)), "T5: ids must hold at least one token");
  EXPECT_ERROR(whisper->encode(at::zeros({1, 6, 17})), "Whisper: features must have shape [*, 6, 18], got [1, 6, 17]");
  EXPECT_ERROR(whisper->encode(features(1), at::ones({1, 18})), "Whisper: keep must be undefined");
  EXPECT_ERROR(whisper->run({.ids = tokens(1, 17, 1), .encoder_states = at::zeros({1, 9, 24})}),
               "Whisper: the context length must be at most 16 tokens, got 17");
  EXPECT_ERROR(mamba->run({.ids = ids, .mask = causal_mask()}), "Mamba: mask must be undefined");
  EXPECT_ERROR(mamba->run({.ids = ids, .keep = at::ones({2, 2})}), "Mamba: keep must have shape [2, 3], got [2, 2]");
  const auto foreign = mamba->make_state(2, 1);
  EXPECT_ERROR(t5->run({.ids = ids, .state = foreign.get(), .encoder_states = states}),
               "T5: state must be one that make_state of this model made");
}

TEST(SequenceErrors, ConfigsNameTheKey) {
  const auto json = [](const char* text) { return io::JsonObject(io::parse_json(text), "config.json"); };
  EXPECT_ERROR(read_t5_config(json(R"({"feed_forward_proj": "gated-swiglu"})")), "config.json: feed_forward_proj");
  EXPECT_ERROR(read_t5_config(json(R"({"d_modle": 3})")), "d_modle");
  EXPECT_ERROR(read_t5_config(json(R"({"d_kv": 0})")), "config.json: d_kv must be in [1, 16777216], got 0");
  EXPECT_ERROR(read_whisper_config(json(R"({"encoder_layerdrop": 0.1})")),
               "config.json: encoder_layerdrop must be 0, got 0.1");
  EXPECT_ERROR(read_whisper_config(json(R"({"decoder_attention_heads": 7})")),
               "config.json: decoder_attention_heads must divide d_model = 384, got 7");
  EXPECT_ERROR(read_mamba_config(json(R"({"time_step_rank": "most"})")),
               "config.json: time_step_rank must be a number or \"auto\", got most");
  EXPECT_ERROR(read_mamba_config(json(R"({"intermediate_size": 7})")),
               "config.json: intermediate_size must be expand * hidden_size = 1536, got 7");
}

}  // namespace
}  // namespace winnow::models

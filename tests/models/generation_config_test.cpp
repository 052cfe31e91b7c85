#include "winnow/models/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "support/error.h"

namespace winnow::models {
namespace {

using ::testing::ElementsAre;

GenerationOptions parse(const std::string& text) {
  return parse_generation_config({io::parse_json(text), "generation_config.json"});
}

TEST(GenerationConfig, EveryKeyArrives) {
  const auto o = parse(R"({
    "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9,
    "epsilon_cutoff": 0.0003, "eta_cutoff": 0.002, "repetition_penalty": 1.1, "presence_penalty": 0.5,
    "frequency_penalty": 0.25, "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 4,
    "encoder_repetition_penalty": 1.2, "bad_words_ids": [[5], [6, 7]], "sequence_bias": [[[1, 2], -2.5]],
    "max_new_tokens": 50, "max_length": 60, "min_new_tokens": 2, "min_length": 3, "eos_token_id": [1, 2],
    "bos_token_id": 0, "pad_token_id": 0, "stop_strings": "END", "max_time": 2.5, "num_return_sequences": 4,
    "length_penalty": 0.8, "early_stopping": "never", "guidance_scale": 1.5,
    "forced_bos_token_id": 9, "forced_eos_token_id": 10, "suppress_tokens": [11, 12], "begin_suppress_tokens": [13],
    "forced_decoder_ids": [[1, null], [2, 50359]], "exponential_decay_length_penalty": [5, 1.2],
    "decoder_start_token_id": 14, "remove_invalid_values": true, "renormalize_logits": true,
    "prefill_chunk_size": 128, "use_cache": false, "transformers_version": "5.23.0", "top_h": null})");
  EXPECT_TRUE(o.sample && o.remove_invalid && o.renormalize);
  EXPECT_EQ(to_json(o.warp), to_json(WarpOptions{.temperature = 0.6,
                                                 .top_k = 20,
                                                 .top_p = 0.95,
                                                 .min_p = 0.01,
                                                 .typical_p = 0.9,
                                                 .epsilon_cutoff = 0.0003,
                                                 .eta_cutoff = 0.002}));
  EXPECT_EQ(o.repetition_penalty, 1.1);
  EXPECT_EQ(o.presence_penalty, 0.5);
  EXPECT_EQ(o.frequency_penalty, 0.25);
  EXPECT_EQ(o.no_repeat_ngram, 3);
  EXPECT_EQ(o.encoder_no_repeat_ngram, 4);
  EXPECT_EQ(o.encoder_repetition_penalty, 1.2);
  EXPECT_THAT(o.bad_words, ElementsAre(ElementsAre(5), ElementsAre(6, 7)));
  ASSERT_EQ(o.sequence_bias.size(), 1U);
  EXPECT_THAT(o.sequence_bias[0].tokens, ElementsAre(1, 2));
  EXPECT_EQ(o.sequence_bias[0].bias, -2.5);
  EXPECT_EQ(o.max_new_tokens, 50);
  EXPECT_EQ(o.max_length, 60);
  EXPECT_EQ(o.min_new_tokens, 2);
  EXPECT_EQ(o.min_length, 3);
  EXPECT_THAT(o.eos, ElementsAre(1, 2));
  EXPECT_THAT(o.stop_strings, ElementsAre("END"));
  EXPECT_EQ(o.max_seconds, 2.5);
  EXPECT_EQ(o.sequences, 4);
  EXPECT_EQ(o.length_penalty, 0.8);
  EXPECT_EQ(o.early_stopping, EarlyStopping::never);
  EXPECT_EQ(o.guidance_scale, 1.5);
  EXPECT_EQ(o.forced_bos, 9);
  EXPECT_THAT(o.forced_eos, ElementsAre(10));
  EXPECT_THAT(o.suppressed, ElementsAre(11, 12));
  EXPECT_THAT(o.begin_suppressed, ElementsAre(13));
  EXPECT_THAT(o.forced_tokens, ElementsAre(std::pair<int64_t, int64_t>{2, 50359}));
  EXPECT_EQ(o.exponential_decay_length, (std::pair<int64_t, double>{5, 1.2}));
  EXPECT_EQ(o.decoder_start, 14);
  EXPECT_EQ(o.prefill_chunk, 128);
}

TEST(GenerationConfig, DefaultsAreThoseOfTransformers) {
  const auto o = parse("{}");
  EXPECT_FALSE(o.sample);
  EXPECT_EQ(o.warp.top_k, 50);
  EXPECT_EQ(o.warp.temperature, 1);
  EXPECT_TRUE(o.eos.empty());
  EXPECT_FALSE(o.max_length || o.min_length);
  EXPECT_EQ(parse(R"({"early_stopping": true})").early_stopping, EarlyStopping::first);
  EXPECT_EQ(parse(R"({"min_length": 0, "num_beams": 3})").beams, 3);
}

TEST(GenerationConfig, WhatIsNotDoneIsRefusedByName) {
  const auto kind = ErrorKind::unsupported;
  EXPECT_ERROR_KIND(parse(R"({"top_h": 0.4})"), kind, "generation_config.json: top_h = 0.4 is not supported");
  EXPECT_ERROR_KIND(parse(R"({"penalty_alpha": 0.6})"), kind, "penalty_alpha = 0.6 is not supported");
  EXPECT_ERROR_KIND(parse(R"({"num_beam_groups": 2})"), kind, "num_beam_groups = 2 is not supported");
  EXPECT_ERROR_KIND(parse(R"({"watermarking_config": {"bias": 2}})"), kind, "watermarking_config");
  EXPECT_ERROR_KIND(parse(R"({"cache_implementation": "quantized"})"), kind, "cache_implementation");
  EXPECT_ERROR_KIND(parse(R"({"temprature": 1})"), kind,
                    "generation_config.json: temprature is no option of generation that is known here; did you mean "
                    "temperature?");
  EXPECT_ERROR_KIND(parse(R"({"do_sample": true, "num_beams": 2})"), kind,
                    "generation_config.json: generate: beam search with sampling is not supported");
  EXPECT_EQ(parse(R"({"num_beam_groups": 1, "diversity_penalty": 0.0, "cache_implementation": "static"})").beams, 1);
}

TEST(GenerationConfig, WrongValuesNameFileAndKey) {
  const auto kind = ErrorKind::file;
  EXPECT_ERROR_KIND(parse(R"({"temperature": "hot"})"), kind, "generation_config.json: temperature must be a number");
  EXPECT_ERROR_KIND(parse(R"({"top_p": 1.5})"), kind, "generation_config.json: Warp: top_p must be in [0, 1], got 1.5");
  EXPECT_ERROR_KIND(parse(R"({"bad_words_ids": [1, 2]})"), kind, "bad_words_ids must be a list of lists of tokens");
  EXPECT_ERROR_KIND(parse(R"({"early_stopping": "later"})"), kind, "early_stopping must be true, false or \"never\"");
  EXPECT_ERROR_KIND(parse(R"({"sequence_bias": {"1": 2}})"), kind, "sequence_bias must be a list of [[tokens], bias]");
  EXPECT_ERROR_KIND(parse(R"({"forced_decoder_ids": [[1]]})"), kind, "forced_decoder_ids must be a list of");
  EXPECT_ERROR_KIND(parse(R"({"exponential_decay_length_penalty": 3})"), kind, "must be [start, factor], got 3");
  EXPECT_ERROR_KIND(parse(R"({"max_new_tokens": 0})"), kind, "max_new_tokens must be >= 1, got 0");
}

}  // namespace
}  // namespace winnow::models

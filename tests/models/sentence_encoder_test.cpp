// Vectors of sentences: pooling by hand, batches, limits, folders, and a published network where its files are there.
#include "winnow/models/sentence_encoder.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/models/text_index.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

using winnow::testing::TemporaryFolder;

const std::vector<std::string> kWords = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a",     "man",   "eats",
                                         "food",  "bread", "stock", "falls", "##ing",  "query", "rises", "water"};

std::string vocabulary(size_t words = kWords.size()) {
  return join(std::vector<std::string>(kWords.begin(), kWords.begin() + static_cast<int64_t>(words)), "\n") + "\n";
}

Bert network() {
  Bert model(BertConfig{.head = BertHead::none,
                        .vocab_size = 16,
                        .hidden_size = 12,
                        .num_hidden_layers = 2,
                        .num_attention_heads = 3,
                        .intermediate_size = 20,
                        .max_position_embeddings = 10,
                        .initializer_range = 0.5});
  return model;
}

// A folder as sentence-transformers writes it; `pooling` and `modules` are what a test wants to be special.
struct Folder {
  TemporaryFolder root = {};
  io::Json pooling = {{"word_embedding_dimension", 12}, {"pooling_mode_mean_tokens", true}};
  io::Json modules = io::Json::array(
      {{{"idx", 0}, {"name", "0"}, {"path", ""}, {"type", "sentence_transformers.models.Transformer"}},
       {{"idx", 1}, {"name", "1"}, {"path", "1_Pooling"}, {"type", "sentence_transformers.models.Pooling"}},
       {{"idx", 2}, {"name", "2"}, {"path", "2_Normalize"}, {"type", "sentence_transformers.models.Normalize"}}});
  io::Json limits = {{"max_seq_length", 6}, {"do_lower_case", false}};
  io::Json prompts = io::Json::object();
  size_t words = kWords.size();

  SentenceEncoder load() const {
    save(*network(), root.path());
    root.write("vocab.txt", vocabulary(words));
    root.write("modules.json", modules.dump());
    root.write("1_Pooling/config.json", pooling.dump());
    root.write("sentence_bert_config.json", limits.dump());
    root.write("config_sentence_transformers.json", prompts.dump());
    return SentenceEncoder::load(root.path());
  }
};

TEST(PoolTokens, EveryWayByHand) {
  const auto states =
      at::tensor({1.0, -1.0, 3.0, -5.0, 8.0, 9.0, 2.0, 4.0, -7.0, -7.0, -7.0, -7.0}, at::kDouble).view({2, 3, 2});
  const auto keep = at::tensor({1, 1, 0, 1, 0, 0}, at::kLong).view({2, 3});
  const auto expect = [&](SentencePooling pooling, std::vector<double> wanted) {
    EXPECT_TENSOR_NEAR(pool_tokens(states, keep, pooling), at::tensor(wanted, at::kDouble).view({2, 2}), 1e-12);
  };
  expect(SentencePooling::cls, {1, -1, 2, 4});
  expect(SentencePooling::mean, {2, -3, 2, 4});
  expect(SentencePooling::mean_sqrt_len, {4 / std::sqrt(2.0), -6 / std::sqrt(2.0), 2, 4});
  expect(SentencePooling::max, {3, -1, 2, 4});
  expect(SentencePooling::last, {3, -5, 2, 4});
  EXPECT_ERROR(pool_tokens(states, keep[0], SentencePooling::mean), "pool_tokens: keep must");
}

TEST(SentenceEncoder, AFolderIsReadAndAVectorIsTheNormedMeanOfItsTokens) {
  const at::NoGradGuard no_grad;
  const auto encoder = Folder().load();
  EXPECT_EQ(encoder.dim(), 12);
  EXPECT_EQ(encoder.options().max_tokens, 6);
  const auto vectors = encoder.encode(std::vector<std::string>{"a man eats", "stock falls"});
  auto model = encoder.model();
  const auto states = model->forward({.ids = at::tensor({2, 10, 11, 3}, at::kLong).view({1, 4})}).last_hidden_state[0];
  const auto mean = states.mean(0);
  EXPECT_TENSOR_NEAR(vectors[1], mean / mean.norm(), 1e-6);
  EXPECT_TENSOR_NEAR(vectors.norm(2, 1), at::ones({2}), 1e-6);
}

TEST(SentenceEncoder, VectorsDoNotDependOnBatchOrOrder) {
  const auto encoder = Folder().load();
  const std::vector<std::string> texts = {"food", "a man eats bread", "a man", "stock", "man eats food", "water rises"};
  const auto all = encoder.encode(texts, {.batch_size = 4});
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_TENSOR_NEAR(encoder.encode(texts[i]), all[static_cast<int64_t>(i)], 1e-6);
  }
  EXPECT_TENSOR_NEAR(encoder.encode(texts, {.batch_size = 1}), all, 1e-6);
  EXPECT_EQ(encoder.encode(std::vector<std::string>{}).sizes(), (std::vector<int64_t>{0, 12}));
}

TEST(SentenceEncoder, LongTextsLoseTheirEndOrAreAnError) {
  const auto encoder = Folder().load();
  const std::string text = "a man eats bread food water";  // 8 tokens with [CLS] and [SEP], 6 are allowed
  EXPECT_TENSOR_NEAR(encoder.encode(text), encoder.encode("a man eats bread"), 1e-6);
  EXPECT_ERROR((void)encoder.encode(std::vector<std::string>{"a", text}, {.truncate = false}),
               "SentenceEncoder: text 1 must have at most 6 tokens, got 8");
}

TEST(SentenceEncoder, AnEmptyTextIsAnError) {
  const auto encoder = Folder().load();
  EXPECT_ERROR((void)encoder.encode(std::vector<std::string>{"a", " \n"}),
               "SentenceEncoder: text 1 must hold at least one token, got \" \\\\n\"");
  EXPECT_ERROR((void)encoder.encode(""), "SentenceEncoder: text 0 must hold at least one token");
  EXPECT_ERROR((void)encoder.encode("a", {.batch_size = 0}), "SentenceEncoder: batch_size must be >= 1, got 0");
}

TEST(SentenceEncoder, PromptsStandInFrontOfTheText) {
  Folder folder;
  folder.prompts = {{"prompts", {{"query", "query "}, {"plain", ""}}}, {"default_prompt_name", "query"}};
  const auto with = folder.load();
  const auto without = Folder().load();
  EXPECT_TENSOR_NEAR(with.encode("food"), without.encode("query food"), 1e-6);
  EXPECT_TENSOR_NEAR(with.encode("food", {.prompt = "plain"}), without.encode("food"), 1e-6);
  EXPECT_ERROR((void)with.encode("food", {.prompt = "passage"}), "SentenceEncoder: there is no prompt named passage");
}

TEST(SentenceEncoder, NewAndOldPoolingFiles) {
  for (const auto& [config, pooling] : std::vector<std::pair<io::Json, SentencePooling>>{
           {{{"pooling_mode_cls_token", true}, {"pooling_mode_mean_tokens", false}}, SentencePooling::cls},
           {{{"pooling_mode_max_tokens", true}}, SentencePooling::max},
           {{{"pooling_mode", "lasttoken"}, {"embedding_dimension", 12}}, SentencePooling::last},
           {io::Json::object(), SentencePooling::mean}}) {
    Folder folder;
    folder.pooling = config;
    EXPECT_EQ(folder.load().options().pooling, pooling) << config.dump();
  }
}

TEST(SentenceEncoder, WhatIsNotDoneIsRefusedByName) {
  const auto expect = [](const std::function<void(Folder&)>& change, ErrorKind kind, const std::string& message) {
    Folder folder;
    change(folder);
    EXPECT_ERROR_KIND(folder.load(), kind, message);
  };
  expect([](Folder& f) { f.pooling["pooling_mode_max_tokens"] = true; }, ErrorKind::unsupported,
         "the pooling mean + max is not supported");
  expect([](Folder& f) { f.pooling = {{"pooling_mode_weightedmean_tokens", true}}; }, ErrorKind::unsupported,
         "the pooling weightedmean is not supported");
  expect([](Folder& f) { f.pooling["word_embedding_dimension"] = 13; }, ErrorKind::file,
         "word_embedding_dimension must be 12");
  expect([](Folder& f) { f.modules[2]["type"] = "sentence_transformers.models.Dense"; }, ErrorKind::unsupported,
         "module 2 is a Dense, but only Transformer, Pooling and Normalize in this order are supported");
  expect([](Folder& f) { f.limits["do_lower_case"] = true; }, ErrorKind::unsupported, "do_lower_case");
  expect([](Folder& f) { f.prompts = {{"default_prompt_name", "query"}}; }, ErrorKind::file,
         "default_prompt_name must name one of the prompts, got query");
}

TEST(SentenceEncoder, AVocabularyLargerThanTheEmbeddingsIsAnError) {
  const TemporaryFolder root;
  save(*network(), root.path());
  root.write("vocab.txt", vocabulary() + "more\n");
  EXPECT_ERROR_KIND(SentenceEncoder::load(root.path()), ErrorKind::file,
                    "the tokenizer must have at most 16 ids, the rows of the word embeddings, got 17");
}

TEST(TextIndex, FindsTheNearestAndKeepsItsFile) {
  const auto encoder = Folder().load();
  const std::vector<std::string> texts = {"a man eats food", "stock falls", "water rises"};
  const TemporaryFolder root;
  int64_t computed = 0;
  const IndexOptions options{
      .file = root / "index.safetensors", .chunk = 2, .progress = [&](int64_t done) { computed = done; }};
  const auto index = index_texts(encoder, texts, options);
  EXPECT_EQ(computed, 3);
  const auto hits = index.search(encoder.encode("stock falls"), 2);
  ASSERT_EQ(hits.size(), 2U);
  EXPECT_EQ(hits[0].text, 1);
  EXPECT_NEAR(hits[0].score, 1.0, 1e-6);
  EXPECT_GT(hits[0].score, hits[1].score);
  EXPECT_EQ(index.search(encoder.encode("a"), 9).size(), 3U);
  EXPECT_ERROR((void)index.search(at::zeros({3}), 1), "TextIndex: query must have shape [12]");
  // The file is used as it is, until the texts change.
  computed = 0;
  EXPECT_TENSOR_EQ(index_texts(encoder, texts, options).vectors, index.vectors);
  EXPECT_EQ(computed, 0);
  index_texts(encoder, std::vector<std::string>{"a man eats food", "stock falls", "water falls"}, options);
  EXPECT_EQ(computed, 3);
  root.write("index.safetensors", "short");
  EXPECT_ERROR(index_texts(encoder, texts, options), "index.safetensors");
}

// ---- The published network, where ./dev data minilm has fetched it ----

class MiniLm : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder() / "model.safetensors")) GTEST_SKIP() << "./dev data minilm fetches the files";
  }
  static std::filesystem::path folder() { return std::filesystem::path(WINNOW_SOURCE_DIR) / "data/minilm"; }
};

TEST_F(MiniLm, CosinesOfSentencesAreThePublishedOnes) {
  const auto encoder = SentenceEncoder::load(folder());
  const auto vectors =
      encoder.encode(std::vector<std::string>{"A man is eating food.", "A man is eating a meal.", "Someone has lunch.",
                                              "The stock market fell sharply today."});
  EXPECT_TENSOR_NEAR(at::mv(vectors.slice(0, 1), vectors[0]), at::tensor({0.9262, 0.5116, 0.0037}), 1e-3);
}

TEST_F(MiniLm, VectorsAreThoseOfTransformers) {
  const auto golden = std::filesystem::path(WINNOW_SOURCE_DIR) / "tests/golden/sentences/minilm";
  const auto texts = io::read_json(golden / "texts.json").get<std::vector<std::string>>();
  const auto wanted = io::load_safetensors(golden / "embeddings.safetensors").at("embeddings");
  const auto encoder = SentenceEncoder::load(folder());
  EXPECT_TENSOR_NEAR(encoder.encode(texts), wanted, 1e-4);
  EXPECT_TENSOR_NEAR(encoder.encode(texts, {.batch_size = 3}), wanted, 1e-4);
}

}  // namespace
}  // namespace winnow::models

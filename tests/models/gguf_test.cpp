#include "winnow/models/gguf.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>

#include "io/gguf_bytes.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/attention/language_model.h"
#include "winnow/io/chat_template.h"
#include "winnow/io/gguf_tokenizer.h"
#include "winnow/io/safetensors.h"
#include "winnow/io/tokenizer.h"

namespace winnow::testing {
namespace {

std::filesystem::path golden_folder(const char* name) {
  return std::filesystem::path(WINNOW_SOURCE_DIR) / "tests/golden/hf" / name;
}

// Row by row as llama.cpp wants them: 2i and 2i + 1 of a head are rows i and i + half.
at::Tensor interleave(const at::Tensor& weight, int64_t heads) {
  const auto head = weight.size(0) / heads;
  std::vector<at::Tensor> rows;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < head; ++i) rows.push_back(weight[h * head + i / 2 + (i % 2) * (head / 2)]);
  }
  return at::stack(rows);
}

std::string file_name(const std::string& name) {
  static const std::map<std::string, std::string> names = {{"model.embed_tokens.weight", "token_embd.weight"},
                                                           {"model.norm.weight", "output_norm.weight"},
                                                           {"lm_head.weight", "output.weight"},
                                                           {"input_layernorm", "attn_norm"},
                                                           {"self_attn.q_proj", "attn_q"},
                                                           {"self_attn.k_proj", "attn_k"},
                                                           {"self_attn.v_proj", "attn_v"},
                                                           {"self_attn.o_proj", "attn_output"},
                                                           {"post_attention_layernorm", "ffn_norm"},
                                                           {"mlp.gate_proj", "ffn_gate"},
                                                           {"mlp.up_proj", "ffn_up"},
                                                           {"mlp.down_proj", "ffn_down"}};
  if (names.contains(name)) return names.at(name);
  const std::string prefix = "model.layers.";  // model.layers.0.self_attn.q_proj.weight
  const auto layer = name.substr(prefix.size(), name.find('.', prefix.size()) - prefix.size());
  const auto rest = name.substr(prefix.size() + layer.size() + 1);
  const auto end = rest.rfind('.');
  return "blk." + layer + "." + names.at(rest.substr(0, end)) + rest.substr(end);
}

// The model of a folder as a GGUF file, float32.
GgufBytes as_gguf(const std::filesystem::path& folder, const std::string& architecture) {
  const auto config = io::JsonObject::read(folder / "config.json");
  const auto size = [&](const char* key) { return static_cast<uint32_t>(config.get<int64_t>(key)); };
  const auto key = [&](const char* name) { return architecture + "." + name; };
  GgufBytes bytes;
  bytes.string("general.architecture", architecture)
      .u32(key("block_count"), size("num_hidden_layers"))
      .u32(key("context_length"), size("max_position_embeddings"))
      .u32(key("embedding_length"), size("hidden_size"))
      .u32(key("feed_forward_length"), size("intermediate_size"))
      .u32(key("attention.head_count"), size("num_attention_heads"))
      .u32(key("attention.head_count_kv"), size("num_key_value_heads"))
      .f32(key("attention.layer_norm_rms_epsilon"), static_cast<float>(config.get<double>("rms_norm_eps")))
      .f32(key("rope.freq_base"), static_cast<float>(config.object("rope_parameters").get<double>("rope_theta")));
  if (config.has("head_dim")) bytes.u32(key("attention.key_length"), size("head_dim"));
  const io::Checkpoint weights(folder);
  for (const auto& name : weights.names()) {
    auto weight = weights.tensor(name).contiguous();
    const bool q = name.find("q_proj") != std::string::npos, k = name.find("k_proj") != std::string::npos;
    if (architecture == "llama" && (q || k))
      weight = interleave(weight, size(q ? "num_attention_heads" : "num_key_value_heads"));
    std::vector<uint64_t> shape(weight.sizes().begin(), weight.sizes().end());
    std::reverse(shape.begin(), shape.end());
    bytes.tensor(file_name(name), shape, 0, {static_cast<const char*>(weight.const_data_ptr()), weight.nbytes()});
  }
  return bytes;
}

std::string write(const TemporaryFolder& folder, const GgufBytes& bytes) {
  const auto content = bytes.bytes();
  std::ofstream(folder / "x.gguf", std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  return folder / "x.gguf";
}

at::Tensor logits(models::Pretrained& model) {
  const auto ids = at::arange(3, 20, at::kLong).view({1, -1});
  return dynamic_cast<LanguageModel&>(model).run({.ids = ids}).logits;
}

TEST(GgufModel, GivesTheLogitsOfTheFolderThatItWasMadeOf) {
  for (const auto& [name, architecture] : {std::pair("llama/untied_gqa", "llama"), std::pair("qwen2", "qwen2")}) {
    auto folder = golden_folder(name);
    if (!std::filesystem::exists(folder / "config.json")) folder = std::filesystem::directory_iterator(folder)->path();
    const TemporaryFolder temporary;
    const auto file = write(temporary, as_gguf(folder, architecture));
    EXPECT_TENSOR_EQ(logits(*models::load(file)), logits(*models::load(folder))) << folder;
  }
}

TEST(GgufModel, WhatHasNoPlaceIsNamed) {
  const auto folder = golden_folder("llama/untied_gqa");
  const auto refused = [&](GgufBytes bytes, const char* text) {
    const io::GgufFile file(bytes.bytes(), "x.gguf");
    EXPECT_ERROR((models::gguf_config(file), models::gguf_weights(file)), text);
  };
  const std::string one(4, '\0');
  refused(as_gguf(folder, "llama").u32("llama.expert_count", 8), "x.gguf: llama.expert_count: experts are not read");
  refused(as_gguf(folder, "llama").string("llama.rope.scaling.type", "yarn"), "llama.rope.scaling.type: \"yarn\"");
  refused(as_gguf(folder, "llama").tensor("rope_freqs.weight", {1}, 0, one), "RoPE scaled by a table is not read");
  refused(as_gguf(folder, "llama").tensor("blk.0.attn_sinks.weight", {1}, 0, one),
          "tensor blk.0.attn_sinks.weight has no place in a llama model");
  refused(as_gguf(folder, "llama").u32("llama.rope.dimension_count", 2),
          "llama.rope.dimension_count must be the width");
  refused(GgufBytes().string("general.architecture", "mamba"), "the architecture mamba is not read from GGUF files");
  refused(GgufBytes(), "x.gguf: general.architecture is missing");
}

// A byte-level vocabulary of the 256 bytes, "he" and "llo", with two control tokens and one that is user-defined.
GgufBytes with_tokenizer(GgufBytes bytes, const char* pre) {
  std::vector<std::string> tokens = {"<|a|>", "<|b|>", "[own]"};
  std::vector<int32_t> types = {3, 3, 4};
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    const int code = printable ? byte : next++;
    tokens.push_back(code < 128
                         ? std::string(1, static_cast<char>(code))
                         : std::string{static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))});
    types.push_back(1);
  }
  for (const auto* token : {"he", "ll", "llo", "12"}) {
    tokens.emplace_back(token);
    types.push_back(1);
  }
  return bytes.string("tokenizer.ggml.model", "gpt2")
      .string("tokenizer.ggml.pre", pre)
      .strings("tokenizer.ggml.tokens", tokens)
      .numbers("tokenizer.ggml.token_type", 5, types)
      .strings("tokenizer.ggml.merges", {"h e", "l l", "ll o", "1 2"})
      .u32("tokenizer.ggml.bos_token_id", 0)
      .u32("tokenizer.ggml.eos_token_id", 1)
      .string("tokenizer.chat_template", "{{ eos_token }}{{ messages[0].content }}");
}

TEST(GgufModel, ConvertedFoldersHoldModelTokenizerAndTemplate) {
  const auto folder = golden_folder("llama/untied_gqa");
  const TemporaryFolder temporary;
  const auto out = temporary.path() / "out";
  const io::GgufFile file(with_tokenizer(as_gguf(folder, "llama"), "smollm").bytes(), "x.gguf");
  models::convert_gguf(file, out);
  EXPECT_TENSOR_EQ(logits(*models::load(out)), logits(*models::load(folder)));
  const auto tokenizer = io::load_tokenizer(out), direct = io::load_gguf_tokenizer(file);
  for (const auto* text : {"hello <|b|> 12[own]", "he he 1212 \xc3\xa9", ""}) {
    EXPECT_EQ(tokenizer->encode(text).ids, direct->encode(text).ids);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text).ids), text);
  }
  EXPECT_EQ(direct->encode("hello<|b|>").ids, (std::vector<int64_t>{259, 261, 1}));
  EXPECT_EQ(direct->encode("12").ids.size(), 2U) << "digits stand alone";
  EXPECT_EQ(direct->decode(std::vector<int64_t>{1, 2, 259}, /*skip_special=*/true), "[own]he");
  EXPECT_EQ(*direct->special_ids().eos, 1);
  EXPECT_EQ(*tokenizer->special_ids().eos, 1);
  EXPECT_EQ(io::ChatTemplate::from_folder(out).render({{.role = "user", .content = "x"}}), "<|b|>x");
  EXPECT_EQ(io::JsonObject::read(out / "generation_config.json").get<int64_t>("eos_token_id"), 1);

  models::convert_gguf(file, out, at::kBFloat16);
  EXPECT_EQ(io::Checkpoint(out).tensor("model.norm.weight").scalar_type(), at::kBFloat16);
}

TEST(GgufModel, SentencePieceVocabulariesBecomeMerges) {
  const auto file =
      io::GgufFile(GgufBytes()
                       .string("tokenizer.ggml.model", "llama")
                       .strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "b", "ab",
                                                          "\xe2\x96\x81"
                                                          "ab"})
                       .numbers<float>("tokenizer.ggml.scores", 6, {0, 0, 0, -5, -6, -7, -1, -2})
                       .numbers<int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 3, 1, 1, 1, 1, 1})
                       .u32("tokenizer.ggml.bos_token_id", 1)
                       .u32("tokenizer.ggml.unknown_token_id", 0)
                       .bytes());
  const auto tokenizer = io::load_gguf_tokenizer(file);
  EXPECT_EQ(tokenizer->encode("ab b").ids, (std::vector<int64_t>{1, 7, 3, 5}));
  EXPECT_EQ(tokenizer->decode(std::vector<int64_t>{7, 3, 5}), "ab b");
}

TEST(GgufModel, WrongTokenizersAreNamed) {
  const auto refused = [](GgufBytes bytes, const char* text) {
    EXPECT_ERROR(io::load_gguf_tokenizer(io::GgufFile(bytes.bytes(), "x.gguf")), text);
  };
  refused(GgufBytes(), "x.gguf: tokenizer.ggml.model is missing");
  refused(GgufBytes().string("tokenizer.ggml.model", "bert"), "tokenizer.ggml.model: \"bert\" is not known");
  refused(with_tokenizer({}, "tekken"), "tokenizer.ggml.pre: the pre-split \"tekken\" is not known");
  refused(with_tokenizer({}, "smollm").u32("tokenizer.ggml.unknown_token_id", 9999),
          "tokenizer.ggml.unknown_token_id must be below 263, got 9999");
  refused(GgufBytes()
              .string("tokenizer.ggml.model", "gpt2")
              .strings("tokenizer.ggml.tokens", {"a", "a"})
              .strings("tokenizer.ggml.merges", {}),
          "the token \"a\" stands twice");
  refused(GgufBytes()
              .string("tokenizer.ggml.model", "gpt2")
              .strings("tokenizer.ggml.tokens", {"a"})
              .strings("tokenizer.ggml.merges", {"ab"}),
          "tokenizer.ggml.merges: \"ab\" is no pair of tokens");
}

}  // namespace
}  // namespace winnow::testing

// VideoMAE: masked autoencoding of video clips, and the classifier on its encoder (Hugging Face's
// VideoMAEForPreTraining, VideoMAEForVideoClassification and VideoMAEModel).
// Source: Tong et al. 2022, arXiv 2203.12602.
#pragma once

#include <torch/nn/pimpl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/attention/transformer_block.h"
#include "winnow/attention/vit_encoder.h"
#include "winnow/models/pretrained.h"
#include "winnow/models/vit_config.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/stack.h"

namespace winnow::models {

enum class VideoMaeHead {
  none,          // VideoMAEModel
  pre_training,  // VideoMAEForPreTraining
  classifier,    // VideoMAEForVideoClassification
};

struct VideoMaeConfig {
  VitTrunkConfig trunk = {};  // its qkv_bias is called qv_bias here: keys have none
  VideoMaeHead head = VideoMaeHead::pre_training;
  int64_t num_frames = 16;       // T, of every clip
  int64_t tubelet_size = 2;      // frames of one token
  bool use_mean_pooling = true;  // no norm at the end of the encoder; the classifier norms the mean of the tokens
  int64_t decoder_hidden_size = 384;
  int64_t decoder_num_hidden_layers = 4;
  int64_t decoder_num_attention_heads = 6;
  int64_t decoder_intermediate_size = 1536;
  bool norm_pix_loss = true;
  std::vector<std::string> labels = {"LABEL_0", "LABEL_1"};
  std::string problem_type = {};
};

VideoMaeConfig read_videomae_config(const io::JsonObject& json);
io::Json to_json(const VideoMaeConfig& config);

struct VideoMaeForward {
  at::Tensor masked = {};  // [B, N] bool or 0/1, 1 = hidden, as many in each row; pre-training needs it
  at::Tensor labels = {};  // classifier: fill loss
  bool hidden_states = false;
};

// N = T / tubelet * H / p * W / p tokens, of which V are visible and M = N - V masked.
struct VideoMaeOutput {
  at::Tensor last_hidden_state;           // [B, V, D], of the encoder
  at::Tensor logits;                      // [B, M, tubelet * p * p * C], of the masked tokens; or [B, classes]
  at::Tensor loss;                        // scalar
  std::vector<at::Tensor> hidden_states;  // depth + 1 of [B, V, D], before the final norm
};

// What pre-training compares with, for all tokens: [B, N, tubelet * p * p * C], values in the order (frame, row,
// column, channel). videos [B, T, C, H, W] of three channels are taken back to [0, 1] by ImageNet's mean and deviation
// first; of another number of channels they are used as they are, and norm_pix must be on. norm_pix: minus the mean of
// each channel over the token's pixels, over (deviation + 1e-6), variance divided by n - 1.
at::Tensor videomae_targets(const at::Tensor& videos, int64_t tubelet, int64_t patch, bool norm_pix);

// Children: encoder; for pre-training encoder_to_decoder, mask_token [1, 1, D'], decoder_blocks.N, decoder_norm,
// decoder_head; for classification classifier and, with mean pooling, fc_norm. Both position tables are fixed and not
// part of a file.
struct VideoMaeImpl : Pretrained {
  explicit VideoMaeImpl(VideoMaeConfig config);  // throws winnow::Error on sizes that do not divide

  // videos [B, T, C, H, W] of the config's size, normalised as the network was trained.
  VideoMaeOutput forward(const at::Tensor& videos, const VideoMaeForward& how = {});

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] std::vector<std::string> labels() const override;

  VideoMaeConfig config;
  VitEncoder encoder{nullptr};
  Linear encoder_to_decoder{nullptr}, decoder_head{nullptr}, classifier{nullptr};
  at::Tensor mask_token;
  at::Tensor decoder_positions;  // [1, N, D'], fixed
  Stack<TransformerBlock> decoder_blocks{nullptr};
  Norm decoder_norm{nullptr}, fc_norm{nullptr};

 private:
  void make_decoder();
  at::Tensor decode(const at::Tensor& visible, const at::Tensor& visible_ids, const at::Tensor& masked_ids);
};
TORCH_MODULE(VideoMae);

}  // namespace winnow::models

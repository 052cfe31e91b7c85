#include "config_reader.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"
#include "winnow/models/videomae.h"

namespace winnow::models {

using io::Json;

VideoMaeConfig read_videomae_config(const io::JsonObject& json) {
  check_trunk_keys(json, {"decoder_hidden_size", "decoder_intermediate_size", "decoder_num_attention_heads",
                          "decoder_num_hidden_layers", "intermediate_size", "norm_pix_loss", "num_frames", "qv_bias",
                          "tubelet_size", "use_mean_pooling"});
  VideoMaeConfig c;
  c.head = head_of<VideoMaeHead>(json, "VideoMAEForPreTraining",
                                 {{"VideoMAEModel", VideoMaeHead::none},
                                  {"VideoMAEForPreTraining", VideoMaeHead::pre_training},
                                  {"VideoMAEForVideoClassification", VideoMaeHead::classifier}});
  check_model_type(json, "videomae");
  c.trunk.qkv_bias = json.get_or<bool>("qv_bias", c.trunk.qkv_bias);  // older files: qkv_bias, which wins
  c.trunk = read_trunk(json, c.trunk);
  c.num_frames = positive(json, "num_frames", c.num_frames);
  c.tubelet_size = positive(json, "tubelet_size", c.tubelet_size);
  WINNOW_CHECK_KIND(c.num_frames % c.tubelet_size == 0, ErrorKind::file,
                    "{}: tubelet_size must divide num_frames = {}, got {}", json.file(), c.num_frames, c.tubelet_size);
  c.use_mean_pooling = json.get_or<bool>("use_mean_pooling", c.use_mean_pooling);
  read_decoder(json, c);
  c.norm_pix_loss = json.get_or<bool>("norm_pix_loss", c.norm_pix_loss);
  c.labels = read_labels(json);
  c.problem_type = read_problem_type(json);
  return c;
}

io::Json to_json(const VideoMaeConfig& c) {
  auto json = write_trunk(c.trunk);
  json["architectures"] = Json::array({c.head == VideoMaeHead::none           ? "VideoMAEModel"
                                       : c.head == VideoMaeHead::pre_training ? "VideoMAEForPreTraining"
                                                                              : "VideoMAEForVideoClassification"});
  json["model_type"] = "videomae";
  json["intermediate_size"] = c.trunk.intermediate_size;
  json["num_frames"] = c.num_frames;
  json["tubelet_size"] = c.tubelet_size;
  json["use_mean_pooling"] = c.use_mean_pooling;
  write_decoder(json, c);
  json["norm_pix_loss"] = c.norm_pix_loss;
  if (c.head == VideoMaeHead::classifier) write_classes(json, c.labels, c.problem_type);
  return json;
}

}  // namespace winnow::models

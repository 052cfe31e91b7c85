#include "winnow/io/processor_config.h"

#include <gtest/gtest.h>

#include "support/error.h"
#include "support/temporary_folder.h"

namespace winnow::testing {
namespace {

io::ProcessorConfig parse(const std::string& text) {
  return io::parse_processor_config(io::JsonObject(io::parse_json(text), "p.json"));
}

TEST(ProcessorConfig, AnEmptyFileGivesTheDefaultsOfViT) {
  const auto config = parse("{}");
  EXPECT_EQ(config.size.height, 224);
  EXPECT_EQ(config.resample, io::Resample::bilinear);
  EXPECT_DOUBLE_EQ(config.rescale_factor, 1.0 / 255.0);
  EXPECT_EQ(config.image_mean, (std::vector<double>{0.5, 0.5, 0.5}));
  EXPECT_FALSE(config.do_center_crop);
}

TEST(ProcessorConfig, EveryFormOfSizeIsUnderstood) {
  const auto both = parse(R"({"size":{"height":192,"width":256}})").size;
  EXPECT_EQ(both.height, 192);
  EXPECT_EQ(both.width, 256);
  EXPECT_FALSE(both.shortest_edge);
  const auto number = parse(R"({"size":384})").size;
  EXPECT_EQ(number.height, 384);
  EXPECT_EQ(number.width, 384);
  const auto edge = parse(R"({"size":{"shortest_edge":256}})").size;
  EXPECT_EQ(edge.shortest_edge, 256);
  EXPECT_FALSE(edge.height);
  const auto bounded = parse(R"({"size":{"shortest_edge":256,"longest_edge":1000}})").size;
  EXPECT_EQ(bounded.longest_edge, 1000);
  const auto old = parse(R"({"size":256,"do_center_crop":true,"crop_size":224})");
  EXPECT_EQ(old.size.shortest_edge, 256);
  EXPECT_EQ(old.crop_height, 224);
  EXPECT_EQ(parse(R"({"crop_size":{"height":96,"width":64}})").crop_width, 64);
}

TEST(ProcessorConfig, AWholePublishedFileIsRead) {
  const TemporaryFolder folder;
  io::write_json(
      folder / "preprocessor_config.json",
      io::parse_json(
          R"({"crop_size":{"height":224,"width":224},"do_center_crop":true,"do_convert_rgb":true,"do_normalize":true,
                   "do_rescale":true,"do_resize":true,"image_mean":[0.485,0.456,0.406],"image_processor_type":"BitImageProcessor",
                   "image_std":[0.229,0.224,0.225],"resample":3,"rescale_factor":0.00392156862745098,"size":{"shortest_edge":256}})"));
  const auto config = io::read_processor_config(folder.path());
  EXPECT_TRUE(config.do_center_crop);
  EXPECT_TRUE(config.do_convert_rgb);
  EXPECT_EQ(config.resample, io::Resample::bicubic);
  EXPECT_EQ(config.size.shortest_edge, 256);
  EXPECT_EQ(config.image_std[2], 0.225);
  EXPECT_ERROR_KIND(io::read_processor_config(folder / "none.json"), ErrorKind::file, "none.json");
}

TEST(ProcessorConfig, WrongValuesNameFileAndKey) {
  EXPECT_ERROR_KIND(parse(R"({"size":0})"), ErrorKind::file, "p.json: size must be >= 1, got 0");
  EXPECT_ERROR(parse(R"({"size":{"height":-1,"width":4}})"), "p.json: size.height must be >= 1, got -1");
  EXPECT_ERROR(parse(R"({"size":{"longest_edge":4}})"),
               "p.json: size must be a number, {\"height\", \"width\"} or {\"shortest_edge\"}, got");
  EXPECT_ERROR(parse(R"({"size":{"height":4}})"), "p.json: size must be a number");
  EXPECT_ERROR(parse(R"({"size":"big"})"), "p.json: size must be an integer, got \"big\"");
  EXPECT_ERROR(parse(R"({"crop_size":{"shortest_edge":4}})"), "p.json: crop_size must give height and width");
  EXPECT_ERROR(parse(R"({"resample":9})"), "p.json: resample must be in [0, 5], got 9");
  EXPECT_ERROR(parse(R"({"image_mean":[0.5]})"),
               "p.json: image_mean and image_std must have one value per channel each, got 1 and 3");
  EXPECT_ERROR(parse(R"({"image_std":[1,0,1]})"), "p.json: image_std must be > 0, got 1, 0, 1");
  EXPECT_ERROR(parse(R"({"do_resize":1})"), "p.json: do_resize must be true or false, got 1");
}

TEST(Id2Label, NamesStandAtTheirIndex) {
  const auto labels = [](const std::string& text) {
    return io::read_id2label(io::JsonObject(io::parse_json(text), "c.json"));
  };
  EXPECT_EQ(
      labels(
          R"({"id2label":{"0":"cat","10":"k","2":"c","1":"dog","3":"d","4":"e","5":"f","6":"g","7":"h","8":"i","9":"j"}})")
          [10],
      "k");
  EXPECT_EQ(labels(R"({"id2label":{"1":"dog","0":"cat"}})"), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_TRUE(labels("{}").empty());
  EXPECT_ERROR_KIND(labels(R"({"id2label":{"1":"a","2":"b"}})"), ErrorKind::file,
                    "c.json: id2label must have the keys 0 to 1, got \"2\"");
  EXPECT_ERROR(labels(R"({"id2label":{"00":"a","0":"b"}})"), "got \"00\"");
  EXPECT_ERROR(labels(R"({"id2label":{"x":"a"}})"), "got \"x\"");
  EXPECT_ERROR(labels(R"({"id2label":{"0":3}})"), "c.json: id2label.0 must be a string, got 3");
}

}  // namespace
}  // namespace winnow::testing

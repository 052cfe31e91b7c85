#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/random.h"
#include "winnow/data/datasets.h"
#include "winnow/io/jpeg.h"
#include "winnow/io/png.h"

namespace winnow::data {
namespace {

namespace fs = std::filesystem;

at::Tensor noise_picture(int64_t height, int64_t width, uint64_t seed, int64_t channels = 3) {
  auto image = at::empty({height, width, channels}, at::kByte);
  Random random(seed);
  auto* bytes = image.mutable_data_ptr<uint8_t>();
  for (int64_t i = 0; i < image.numel(); ++i) bytes[i] = static_cast<uint8_t>(random.integer(256));
  return image;
}

// zebra/{1.png, deep/er/2.JPG}, ant/{a.jpeg, b.png}, .hidden/x.png, notes.txt, ant/readme.txt, ant/.c.png
void fill(const testing::TemporaryFolder& folder) {
  for (const auto* sub : {"zebra/deep/er", "ant", ".hidden"}) fs::create_directories(folder / sub);
  io::write_png(folder / "zebra/1.png", noise_picture(20, 30, 1));
  io::write_jpeg(folder / "zebra/deep/er/2.JPG", noise_picture(64, 80, 2));
  io::write_jpeg(folder / "ant/a.jpeg", noise_picture(40, 50, 3));
  io::write_png(folder / "ant/b.png", noise_picture(10, 12, 4));
  io::write_png(folder / "ant/.c.png", noise_picture(10, 12, 4));
  io::write_png(folder / ".hidden/x.png", noise_picture(10, 12, 4));
  folder.write("notes.txt", "not a picture");
  folder.write("ant/readme.txt", "not a picture");
}

TEST(ImageFolder, ClassesAndFilesAreSorted) {
  const testing::TemporaryFolder folder;
  fill(folder);
  const ImageFolder data(folder.string());
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"ant", "zebra"}));
  ASSERT_EQ(data.size(), 4);
  EXPECT_EQ(data.origin(0), folder / "ant/a.jpeg");
  EXPECT_EQ(data.origin(1), folder / "ant/b.png");
  EXPECT_EQ(data.origin(2), folder / "zebra/1.png");
  EXPECT_EQ(data.origin(3), folder / "zebra/deep/er/2.JPG");
  EXPECT_EQ(data.label(1), 0);
  EXPECT_EQ(data.label(2), 1);
  EXPECT_TENSOR_EQ(data.get(2, 0).image, noise_picture(20, 30, 1));
}

TEST(ImageFolder, APartiallyDecodedPictureEqualsTheWhole) {
  const testing::TemporaryFolder folder;
  fill(folder);
  const ImageFolder data(folder.string());
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto whole = data.get(i, 0).image;
    for (const auto& box :
         {Box{0, 0, 5, 7}, Box{3, 2, 7, 9}, Box{9, 11, 1, 1}, Box{0, 0, whole.size(0), whole.size(1)}}) {
      const auto part = data.read(i, 0, [&](int64_t, int64_t) { return box; });
      const auto pixels = part.pixels.narrow(0, box.top - part.window.top, box.height)
                              .narrow(1, box.left - part.window.left, box.width);
      EXPECT_TENSOR_EQ(pixels, whole.narrow(0, box.top, box.height).narrow(1, box.left, box.width));
    }
  }
}

TEST(ImageFolder, GreyPicturesOnRequest) {
  const testing::TemporaryFolder folder;
  fill(folder);
  EXPECT_EQ(ImageFolder(folder.string(), {.channels = 1}).get(0, 0).image.size(2), 1);
}

TEST(ImageFolder, TransparentPartsAreWhite) {
  const testing::TemporaryFolder folder;
  fs::create_directories(folder / "a");
  auto image = noise_picture(4, 4, 1, 4);
  image.select(2, 3).fill_(0);
  io::write_png(folder / "a/clear.png", image);
  EXPECT_TENSOR_EQ(ImageFolder(folder.string()).get(0, 0).image, at::full({4, 4, 3}, 255, at::kByte));
}

TEST(ImageFolder, ABrokenFileIsAnErrorThatNamesIt) {
  const testing::TemporaryFolder folder;
  fill(folder);
  const auto bad = folder.write("ant/aa.png", "no picture at all");
  const ImageFolder data(folder.string());  // not opened yet
  EXPECT_ERROR_KIND(data.get(1, 0), ErrorKind::file, bad);
  EXPECT_ERROR_KIND(data.read(1, 0, [](int64_t, int64_t) { return Box{0, 0, 1, 1}; }), ErrorKind::file, bad);
}

TEST(ImageFolder, BrokenAndHugeFilesAreCountedOnRequest) {
  const testing::TemporaryFolder folder;
  fill(folder);
  const auto bad = folder.write("ant/aa.png", "no picture at all");
  for (const int64_t threads : {1, 3}) {
    const ImageFolder data(folder.string(), {.broken = BrokenFiles::skip, .max_pixels = 2000, .threads = threads});
    EXPECT_EQ(data.size(), 3);  // 64 x 80 is too large
    ASSERT_EQ(data.skipped().size(), 2U);
    EXPECT_EQ(data.skipped()[0].path, bad);
    EXPECT_NE(data.skipped()[0].reason.find("neither a PNG nor a JPEG"), std::string::npos);
    EXPECT_NE(data.skipped()[1].reason.find("2.JPG: 80 x 64 pixels are more than 2000"), std::string::npos);
  }
}

TEST(ImageFolder, DamagedPixelsAreFoundByDecoding) {
  const testing::TemporaryFolder folder;
  fill(folder);
  auto bytes = io::encode_jpeg(noise_picture(64, 64, 9));
  folder.write("ant/cut.jpg", std::string(bytes.begin(), bytes.begin() + static_cast<int64_t>(bytes.size() / 2)));
  EXPECT_EQ(ImageFolder(folder.string(), {.broken = BrokenFiles::skip}).size(), 5);  // its header is whole
  const ImageFolder data(folder.string(), {.broken = BrokenFiles::skip, .decode_to_check = true});
  EXPECT_EQ(data.size(), 4);
  EXPECT_EQ(data.skipped().at(0).path, folder / "ant/cut.jpg");
}

TEST(ImageFolder, SmallClassesAreLeftOut) {
  const testing::TemporaryFolder folder;
  fill(folder);
  fs::create_directories(folder / "empty");
  io::write_png(folder / "ant/d.png", noise_picture(3, 3, 1));
  EXPECT_EQ(ImageFolder(folder.string(), {.min_per_class = 3}).class_names(), (std::vector<std::string>{"ant"}));
  EXPECT_EQ(ImageFolder(folder.string(), {.classes = {"zebra"}}).size(), 2);
  EXPECT_EQ(ImageFolder(folder.string()).num_classes(), 2);
}

TEST(ImageFolder, BadFoldersAndOptionsAreNamed) {
  const testing::TemporaryFolder folder;
  EXPECT_ERROR_KIND(ImageFolder(folder / "none"), ErrorKind::file, (folder / "none") + ": there is no such folder");
  EXPECT_ERROR_KIND(ImageFolder(folder.string()), ErrorKind::file,
                    folder.string() + ": no class folder holds at least 1 usable .png, .jpg or .jpeg file(s)");
  EXPECT_ERROR_KIND(ImageFolder(folder.string(), {.classes = {"x"}}), ErrorKind::file,
                    folder.string() + ": there is no class folder x");
  EXPECT_ERROR(ImageFolder(folder.string(), {.channels = 2}), "ImageFolder: channels must be 1 or 3, got 2");
  fill(folder);
  const ImageFolder data(folder.string());
  EXPECT_ERROR(data.get(4, 0), "ImageFolder: index must be in [0, 4), got 4");
  EXPECT_ERROR(data.read(1, 0, [](int64_t, int64_t) { return Box{0, 0, 11, 1}; }),
               "ImageFolder: the box must lie inside");
}

TEST(Openclipart, DistinctReadablePicturesOfLargeClasses) {
  const testing::TemporaryFolder folder;
  for (const auto* name : {"big", "small"}) fs::create_directories(folder / name);
  for (int i = 0; i < 4; ++i) {
    io::write_png(folder / ("big/" + std::to_string(i) + ".png"), noise_picture(30, 40, static_cast<uint64_t>(i)));
  }
  fs::copy_file(folder / "big/0.png", folder / "big/copy.png");
  folder.write("big/broken.png", "x");
  io::write_png(folder / "small/1.png", noise_picture(30, 40, 9));
  const OpenclipartOptions options{.width = 12, .height = 8, .min_per_class = 4, .threads = 2};
  const auto data = openclipart(folder.string(), options);
  EXPECT_EQ(data->images().sizes(), at::IntArrayRef({4, 8, 12, 3}));
  EXPECT_EQ(data->class_names(), (std::vector<std::string>{"big"}));

  const auto cache = folder / ".winnow-12x8.safetensors";
  ASSERT_TRUE(fs::exists(cache));
  EXPECT_TENSOR_EQ(openclipart(folder.string(), options)->images(), data->images());
  io::write_png(folder / "big/new.png", noise_picture(30, 40, 77));  // the cache no longer fits
  EXPECT_EQ(openclipart(folder.string(), options)->size(), 5);
  folder.write(".winnow-12x8.safetensors", "damaged");
  EXPECT_EQ(openclipart(folder.string(), options)->size(), 5);
  EXPECT_ERROR_KIND(openclipart(folder.string(), {.min_per_class = 6}), ErrorKind::file,
                    folder.string() + ": no class folder holds at least 6 distinct readable pictures");
  EXPECT_ERROR_KIND(openclipart(folder / "none"), ErrorKind::file, "run: ./dev data openclipart");
}

}  // namespace
}  // namespace winnow::data

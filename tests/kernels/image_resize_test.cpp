#include "winnow/kernels/image_resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "winnow/core/random.h"
#include "winnow/kernels/dispatch.h"

namespace winnow::kernels {
namespace {

struct Case {
  int64_t height, width, channels;
  int64_t top, left, box_height, box_width;
  int64_t out_height, out_width;
  ResizeFilter filter = ResizeFilter::bicubic;
  bool flip = false;
};

// The picture in a buffer of exactly its size, so that a sanitizer sees any byte read beyond it.
struct Picture {
  std::unique_ptr<uint8_t[]> bytes;
  int64_t size;
};

Picture noise(const Case& c, uint64_t seed) {
  const int64_t size = c.height * c.width * c.channels;
  Picture picture{std::make_unique<uint8_t[]>(static_cast<size_t>(size)), size};
  Random random(seed);
  for (int64_t i = 0; i < size; ++i) picture.bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(random.integer(256));
  return picture;
}

// Runs the kernel in pieces of `piece` output rows; scale 1 and shift 0 give values in [0, 255].
std::vector<float> run(const Case& c, const uint8_t* bytes, int64_t piece = 1 << 20, float scale = 1, float shift = 0) {
  ImageResize job;
  job.image = bytes;
  job.height = c.height, job.width = c.width, job.channels = c.channels, job.stride = c.width * c.channels;
  job.top = c.top, job.left = c.left, job.box_height = c.box_height, job.box_width = c.box_width;
  job.out_height = c.out_height, job.out_width = c.out_width;
  std::vector<int32_t> rows_first(static_cast<size_t>(c.out_height)), columns_first(static_cast<size_t>(c.out_width));
  job.rows.taps = resize_taps(c.filter, c.box_height, c.out_height);
  job.columns.taps = resize_taps(c.filter, c.box_width, c.out_width);
  std::vector<int16_t> rows_weights(static_cast<size_t>(c.out_height * job.rows.taps));
  std::vector<int16_t> columns_weights(static_cast<size_t>(c.out_width * job.columns.taps));
  job.rows.first = rows_first.data(), job.rows.weights = rows_weights.data();
  job.columns.first = columns_first.data(), job.columns.weights = columns_weights.data();
  resize_weights(c.filter, c.box_height, c.out_height, false, job.rows);
  resize_weights(c.filter, c.box_width, c.out_width, c.flip, job.columns);
  std::fill(job.scale, job.scale + 4, scale);
  std::fill(job.shift, job.shift + 4, shift);
  std::vector<float> out(static_cast<size_t>(c.channels * c.out_height * c.out_width), -1000.0F);
  const auto scratch = std::make_unique<uint8_t[]>(static_cast<size_t>(image_resize_scratch(job)));
  job.out = out.data(), job.scratch = scratch.get();
  for (int64_t begin = 0; begin < c.out_height; begin += piece) {
    cpu::image_resize(job, begin, std::min(begin + piece, c.out_height));
  }
  return out;
}

// The definition, over all pixels of the box in double precision: weight k((j + 1/2 - centre) / max(scale, 1)), made to
// sum to 1.
double filter_at(ResizeFilter filter, double t) {
  t = std::fabs(t);
  if (filter == ResizeFilter::bilinear) return std::max(0.0, 1.0 - t);
  if (t < 1) return 1.5 * t * t * t - 2.5 * t * t + 1;  // Keys 1981 with a = -1/2
  if (t < 2) return -0.5 * t * t * t + 2.5 * t * t - 4 * t + 2;
  return 0;
}

std::vector<double> axis_weights(ResizeFilter filter, int64_t in, int64_t out, int64_t o) {
  const double step = static_cast<double>(in) / static_cast<double>(out), wide = std::max(step, 1.0);
  std::vector<double> weights(static_cast<size_t>(in));
  double sum = 0;
  for (int64_t j = 0; j < in; ++j) {
    sum += weights[static_cast<size_t>(j)] =
        filter_at(filter, (static_cast<double>(j) + 0.5 - (static_cast<double>(o) + 0.5) * step) / wide);
  }
  for (auto& w : weights) w /= sum;
  return weights;
}

std::vector<double> reference(const Case& c, const uint8_t* bytes) {
  const auto at = [&](int64_t y, int64_t x, int64_t ch) {
    return static_cast<double>(bytes[((c.top + y) * c.width + c.left + x) * c.channels + ch]);
  };
  std::vector<double> narrow(static_cast<size_t>(c.channels * c.box_height * c.out_width));
  std::vector<double> out(static_cast<size_t>(c.channels * c.out_height * c.out_width));
  for (int64_t x = 0; x < c.out_width; ++x) {
    const auto w = axis_weights(c.filter, c.box_width, c.out_width, c.flip ? c.out_width - 1 - x : x);
    for (int64_t ch = 0; ch < c.channels; ++ch) {
      for (int64_t y = 0; y < c.box_height; ++y) {
        double sum = 0;
        for (int64_t j = 0; j < c.box_width; ++j) sum += w[static_cast<size_t>(j)] * at(y, j, ch);
        narrow[static_cast<size_t>((ch * c.box_height + y) * c.out_width + x)] = std::clamp(sum, 0.0, 255.0);
      }
    }
  }
  for (int64_t y = 0; y < c.out_height; ++y) {
    const auto w = axis_weights(c.filter, c.box_height, c.out_height, y);
    for (int64_t ch = 0; ch < c.channels; ++ch) {
      for (int64_t x = 0; x < c.out_width; ++x) {
        double sum = 0;
        for (int64_t j = 0; j < c.box_height; ++j) {
          sum += w[static_cast<size_t>(j)] * narrow[static_cast<size_t>((ch * c.box_height + j) * c.out_width + x)];
        }
        out[static_cast<size_t>((ch * c.out_height + y) * c.out_width + x)] = std::clamp(sum, 0.0, 255.0);
      }
    }
  }
  return out;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto filter : {ResizeFilter::bilinear, ResizeFilter::bicubic}) {
    for (const int64_t channels : {1, 2, 3, 4}) {
      all.push_back({37, 53, channels, 0, 0, 37, 53, 16, 24, filter, false});      // shrink
      all.push_back({37, 53, channels, 5, 7, 20, 31, 33, 65, filter, true});       // enlarge a box, mirrored
      all.push_back({40, 300, channels, 39, 2, 1, 298, 7, 9, filter, false});      // one row, the picture's last
      all.push_back({300, 40, channels, 1, 39, 299, 1, 31, 5, filter, true});      // one column, the picture's last
      all.push_back({3, 2, channels, 0, 0, 3, 2, 17, 129, filter, false});         // fewer pixels than taps
      all.push_back({1, 1, channels, 0, 0, 1, 1, 4, 4, filter, false});            // a single pixel
      all.push_back({129, 127, channels, 64, 63, 65, 64, 65, 64, filter, true});   // no change of size
      all.push_back({500, 400, channels, 10, 20, 480, 370, 1, 1, filter, false});  // to a single pixel
    }
  }
  return all;
}

void for_each_target(const std::function<void(const std::string&)>& fn) {
  for (const auto& target : cpu::supported_targets()) {
    const cpu::TargetOverride narrowed(target);
    SCOPED_TRACE(target);
    fn(target);
  }
}

TEST(ImageResize, AgreesWithTheDefinitionWithinAGreyLevel) {
  for (const auto& c : cases()) {
    const auto picture = noise(c, 1);
    const auto wanted = reference(c, picture.bytes.get());
    for_each_target([&](const std::string&) {
      const auto got = run(c, picture.bytes.get());
      double worst = 0, mean = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        const double error = std::fabs(static_cast<double>(got[i]) - wanted[i]);
        worst = std::max(worst, error);
        mean += error / static_cast<double>(got.size());
      }
      // The values between the passes are bytes: half a level each, times the sum of absolute weights.
      EXPECT_LT(worst, 1.0) << c.height << "x" << c.width << "x" << c.channels << " to " << c.out_height << "x"
                            << c.out_width;
      EXPECT_LT(mean, 0.35);
    });
  }
}

TEST(ImageResize, AllTargetsGiveTheSameSums) {
  for (const auto& c : cases()) {
    const auto picture = noise(c, 2);
    std::vector<float> first;
    for_each_target([&](const std::string&) {
      const auto got = run(c, picture.bytes.get());  // scale 1, shift 0: no rounding after the sums
      if (first.empty()) first = got;
      EXPECT_EQ(got, first);
    });
  }
}

TEST(ImageResize, TheSameSizeGivesThePixelsThemselves) {
  const Case c{31, 45, 3, 4, 5, 20, 33, 20, 33, ResizeFilter::bicubic, false};
  const auto picture = noise(c, 3);
  const auto got = run(c, picture.bytes.get());
  for (int64_t ch = 0; ch < 3; ++ch) {
    for (int64_t y = 0; y < 20; ++y) {
      for (int64_t x = 0; x < 33; ++x) {
        ASSERT_EQ(got[static_cast<size_t>((ch * 20 + y) * 33 + x)],
                  static_cast<float>(picture.bytes[static_cast<size_t>(((4 + y) * 45 + 5 + x) * 3 + ch)]));
      }
    }
  }
}

TEST(ImageResize, AFlatPictureStaysFlatAndIsNormalised) {
  for (const auto& c : cases()) {
    const auto picture = noise(c, 4);
    std::fill(picture.bytes.get(), picture.bytes.get() + picture.size, uint8_t{201});
    for (const float value : run(c, picture.bytes.get(), 1 << 20, 0.5F, -3.0F)) ASSERT_EQ(value, 201 * 0.5F - 3.0F);
  }
}

TEST(ImageResize, NothingOutsideTheBoxIsLookedAt) {
  const Case c{60, 70, 3, 20, 30, 17, 19, 24, 24, ResizeFilter::bicubic, false};
  const auto picture = noise(c, 5);
  const auto before = run(c, picture.bytes.get());
  for (int64_t y = 0; y < c.height; ++y) {
    for (int64_t x = 0; x < c.width; ++x) {
      const bool inside = y >= 20 && y < 37 && x >= 30 && x < 49;
      for (int64_t ch = 0; ch < 3 && !inside; ++ch) picture.bytes[static_cast<size_t>((y * 70 + x) * 3 + ch)] ^= 0xff;
    }
  }
  EXPECT_EQ(run(c, picture.bytes.get()), before);
}

TEST(ImageResize, AFlipMirrorsEveryRow) {
  Case c{50, 61, 3, 1, 2, 44, 55, 21, 30, ResizeFilter::bicubic, false};
  const auto picture = noise(c, 6);
  const auto plain = run(c, picture.bytes.get());
  c.flip = true;
  auto flipped = run(c, picture.bytes.get());
  for (size_t row = 0; row < flipped.size(); row += 30) {
    std::reverse(flipped.begin() + static_cast<int64_t>(row), flipped.begin() + static_cast<int64_t>(row) + 30);
  }
  EXPECT_EQ(flipped, plain);
}

TEST(ImageResize, RangesOfRowsAddUpToTheWhole) {
  for (const auto& c : cases()) {
    const auto picture = noise(c, 7);
    const auto whole = run(c, picture.bytes.get());
    for (const int64_t piece : {1, 3, 32}) EXPECT_EQ(run(c, picture.bytes.get(), piece), whole);
  }
}

TEST(ImageResize, OvershootOfTheCubicIsClipped) {
  Case c{16, 16, 3, 0, 0, 16, 16, 61, 61, ResizeFilter::bicubic, false};
  const auto picture = noise(c, 8);
  for (int64_t i = 0; i < picture.size; ++i) picture.bytes[static_cast<size_t>(i)] = (i / 3 / 2) % 2 == 0 ? 0 : 255;
  const auto got = run(c, picture.bytes.get());
  EXPECT_EQ(*std::min_element(got.begin(), got.end()), 0.0F);
  EXPECT_EQ(*std::max_element(got.begin(), got.end()), 255.0F);
}

// Keys' kernel halfway between pixels: (-1/16, 9/16, 9/16, -1/16).
TEST(ImageResize, WeightsOfADoublingAreKeysNumbers) {
  const int64_t taps = resize_taps(ResizeFilter::bicubic, 3, 3);
  EXPECT_EQ(taps, 4);  // of which the box has three
  std::vector<int32_t> first(1);
  std::vector<int16_t> weights(static_cast<size_t>(resize_taps(ResizeFilter::bicubic, 2, 1)));
  resize_weights(ResizeFilter::bicubic, 2, 1, false, {first.data(), weights.data(), 4});
  EXPECT_EQ(weights, (std::vector<int16_t>{8192, 8192, 0, 0}));  // two pixels, seen from their middle
  std::vector<int32_t> firsts(8);
  std::vector<int16_t> doubled(8 * 4);
  resize_weights(ResizeFilter::bicubic, 4, 8, false, {firsts.data(), doubled.data(), 4});
  // Output 4 lies at input 2.25 - 0.5 = 1.75: a quarter before pixel 2.
  const auto w = [](double t) { return std::lround(filter_at(ResizeFilter::bicubic, t) * 16384); };
  EXPECT_EQ(firsts[4], 0);
  EXPECT_EQ(doubled[16], w(1.75));
  EXPECT_EQ(doubled[17], w(0.75));
  EXPECT_EQ(doubled[18], w(0.25));
  EXPECT_EQ(doubled[19], w(1.25));
}

}  // namespace
}  // namespace winnow::kernels

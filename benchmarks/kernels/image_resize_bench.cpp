// Random crop of a decoded picture, bicubic with antialiasing, flip, normalise: the fused kernel beside LibTorch's
// operators, once in floats as it is usually written and once with LibTorch's own uint8 resize, which is the faster of
// the two.
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <fmt/core.h>
#include <torch/types.h>

#include "bench.h"
#include "winnow/data/transforms.h"
#include "winnow/tensor/generator.h"

namespace {

using namespace winnow;
using data::Box;

constexpr int64_t kSide = 224;

// A picture whose neighbouring pixels are alike, uint8 [height, width, channels].
at::Tensor picture(int64_t height, int64_t width, int64_t channels) {
  const auto coarse = at::rand({1, channels, height / 8, width / 8}, make_generator(1));
  const auto smooth = at::_upsample_bicubic2d_aa(coarse, {height, width}, false)[0];
  return smooth.mul(255).clamp(0, 255).to(at::kByte).permute({1, 2, 0}).contiguous();
}

struct Constants {
  at::Tensor mean, std;  // [1, C, 1, 1]
  data::Normalization normalization;
};

Constants constants(int64_t channels) {
  const auto three = data::imagenet_normalization();
  const auto n = static_cast<size_t>(channels);
  Constants c;
  c.normalization = {.mean = {three.mean.begin(), three.mean.begin() + static_cast<int64_t>(n)},
                     .std = {three.std.begin(), three.std.begin() + static_cast<int64_t>(n)}};
  c.mean = at::tensor(c.normalization.mean, at::kFloat).mul(255).view({1, -1, 1, 1});
  c.std = at::tensor(c.normalization.std, at::kFloat).mul(255).view({1, -1, 1, 1});
  return c;
}

at::Tensor cut(const at::Tensor& image, const Box& box) {
  return image.narrow(0, box.top, box.height).narrow(1, box.left, box.width).permute({2, 0, 1}).unsqueeze(0);
}

at::Tensor in_floats(const at::Tensor& image, const Box& box, const Constants& c) {
  const auto crop = cut(image, box).to(at::kFloat, false, false, at::MemoryFormat::Contiguous);
  return at::_upsample_bicubic2d_aa(crop, {kSide, kSide}, false).flip({3}).sub_(c.mean).div_(c.std);
}

at::Tensor in_bytes(const at::Tensor& image, const Box& box, const Constants& c) {
  const auto small = at::_upsample_bicubic2d_aa(cut(image, box), {kSide, kSide}, false);
  return small.to(at::kFloat, false, false, at::MemoryFormat::Contiguous).flip({3}).sub_(c.mean).div_(c.std);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("image_resize", argc, argv, [](bench::Report& report) {
    struct Case {
      const char* name;
      int64_t height, width, channels;
      Box box;
    };
    const Case cases[] = {
        {"500x375 whole", 375, 500, 3, {0, 0, 375, 500}},
        {"500x375, box 280x300", 375, 500, 3, {40, 100, 300, 280}},
        {"500x375, box 150x130 (enlarged)", 375, 500, 3, {90, 200, 130, 150}},
        {"2000x1500 whole", 1500, 2000, 3, {0, 0, 1500, 2000}},
        {"grey 500x375, box 280x300", 375, 500, 1, {40, 100, 300, 280}},
    };
    for (const auto& c : cases) {
      const auto image = picture(c.height, c.width, c.channels);
      const auto k = constants(c.channels);
      const bench::Side ours{.label = "fused kernel", .work = [&] {
                               bench::keep(data::crop_resize(image, c.box, kSide, kSide, data::Interpolation::bicubic,
                                                             true, k.normalization));
                             }};
      report.compare(fmt::format("{}, float operators", c.name), ours,
                     {.label = "LibTorch, float", .work = [&] { bench::keep(in_floats(image, c.box, k)); }},
                     {.target = 1.2});
      report.compare(fmt::format("{}, uint8 resize", c.name), ours,
                     {.label = "LibTorch, uint8", .work = [&] { bench::keep(in_bytes(image, c.box, k)); }},
                     {.target = 1.2});
    }
    report.note("read bandwidth, GB/s", bench::read_bandwidth());
  });
}

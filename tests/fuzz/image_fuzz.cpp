// Any bytes as a PNG or JPEG: a picture within the limits, or one winnow::Error. The last byte chooses the options, so
// that scaled and partial decoding and every conversion of channels are reached.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>

#include "winnow/core/error.h"
#include "winnow/io/image.h"

namespace {

using namespace winnow;

void read(io::Bytes bytes, const io::ImageOptions& options) {
  try {
    const auto image = io::read_image(bytes, options);
    if (image.dim() != 3 || !image.is_contiguous() || image.numel() == 0) std::abort();
    uint64_t sum = 0;  // touches every byte: a reader must not leave memory unset
    for (int64_t i = 0; i < image.numel(); ++i) sum += image.const_data_ptr<uint8_t>()[i];
    if (sum > 255 * static_cast<uint64_t>(image.numel())) std::abort();
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto choice = data[size - 1];
  const io::Bytes bytes(data, size);
  io::ImageOptions options{.channels = static_cast<io::Channels>(choice % 5), .max_pixels = 1 << 14};
  if ((choice & 0x20) != 0) options.background = {{10, 20, 30}};
  options.exif_orientation = (choice & 0x40) != 0;
  read(bytes, options);
  if (size >= 2 && data[1] == 0xd8) options.scale_denominator = int64_t{1} << (choice / 8 % 4);
  options.region = io::PixelBox{.x = choice % 7, .y = choice % 5, .width = 1 + choice % 11, .height = 1 + choice % 13};
  read(bytes, options);
  return 0;
}

// libjpeg reports errors by longjmp. Functions that call setjmp hold no object with a destructor: what must be freed
// lives in their caller.
#include "winnow/io/jpeg.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

// These need cstdio in front of them.
#include <jerror.h>
#include <jpeglib.h>

#include "pixels.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"

namespace winnow::io {
namespace {

constexpr int kMaxScans = 500;  // each scan of a progressive image costs a pass over it

struct Handler {
  jpeg_error_mgr base{};  // first: libjpeg knows this part only
  std::jmp_buf escape{};
  std::array<char, JMSG_LENGTH_MAX> text{};
};

[[noreturn]] void on_error(j_common_ptr codec) {
  auto* handler = reinterpret_cast<Handler*>(codec->err);
  codec->err->format_message(codec, handler->text.data());
  std::longjmp(handler->escape, 1);
}

// Warnings that mean lost pixels are errors here; odd but harmless markers are not.
void on_message(j_common_ptr codec, int level) {
  if (level >= 0) return;
  switch (codec->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_TOO_MUCH_DATA: on_error(codec);
    default: return;
  }
}

void on_output(j_common_ptr) {}

void install(Handler& handler) {
  jpeg_std_error(&handler.base);
  handler.base.error_exit = on_error;
  handler.base.emit_message = on_message;
  handler.base.output_message = on_output;
}

void on_progress(j_common_ptr codec) {
  if (codec->is_decompressor && reinterpret_cast<j_decompress_ptr>(codec)->input_scan_number > kMaxScans) {
    auto* handler = reinterpret_cast<Handler*>(codec->err);
    std::snprintf(handler->text.data(), handler->text.size(), "more than %d scans", kMaxScans);
    std::longjmp(handler->escape, 1);
  }
}

struct Decoder {
  Decoder() {
    install(handler);
    codec.err = &handler.base;
    progress.progress_monitor = on_progress;
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { jpeg_destroy_decompress(&codec); }  // does nothing for a codec that was never created

  Handler handler;
  jpeg_decompress_struct codec{};
  jpeg_progress_mgr progress{};
};

bool read_header(Decoder& decoder, Bytes bytes) {
  auto& codec = decoder.codec;
  if (setjmp(decoder.handler.escape)) return false;
  jpeg_create_decompress(&codec);
  codec.progress = &decoder.progress;
  jpeg_save_markers(&codec, JPEG_APP0 + 1, 0xffff);  // EXIF
  jpeg_mem_src(&codec, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&codec, TRUE);
  jpeg_calc_output_dimensions(&codec);
  return true;
}

// Sizes of the output at the chosen scale.
bool choose(Decoder& decoder, J_COLOR_SPACE space, unsigned denominator) {
  auto& codec = decoder.codec;
  if (setjmp(decoder.handler.escape)) return false;
  codec.out_color_space = space;
  codec.scale_num = 1;
  codec.scale_denom = denominator;
  jpeg_calc_output_dimensions(&codec);
  return true;
}

// Rows [first, last), columns [left, left + width). open_window widens the columns to whole blocks.
struct Window {
  JDIMENSION left = 0, width = 0, first = 0, last = 0;
  bool whole = true;  // the whole image: then the end of the file is checked too
};

bool open_window(Decoder& decoder, Window& window) {
  auto& codec = decoder.codec;
  if (setjmp(decoder.handler.escape)) return false;
  jpeg_start_decompress(&codec);
  if (!window.whole) {
    jpeg_crop_scanline(&codec, &window.left, &window.width);
    if (window.first > 0) jpeg_skip_scanlines(&codec, window.first);
  }
  return true;
}

bool read_window(Decoder& decoder, const Window& window, uint8_t* out, std::size_t stride) {
  auto& codec = decoder.codec;
  if (setjmp(decoder.handler.escape)) return false;
  while (codec.output_scanline < window.last) {
    JSAMPROW row = out + (codec.output_scanline - window.first) * stride;
    jpeg_read_scanlines(&codec, &row, 1);
  }
  if (window.whole) {
    jpeg_finish_decompress(&codec);
  } else {
    jpeg_abort_decompress(&codec);
  }
  return true;
}

int64_t orientation_of(const jpeg_decompress_struct& codec) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  for (const auto* marker = codec.marker_list; marker != nullptr; marker = marker->next) {
    const Bytes data(marker->data, marker->data_length);
    if (marker->marker == JPEG_APP0 + 1 && as_text(data).starts_with(kPrefix)) {
      return exif_orientation(data.subspan(kPrefix.size()));
    }
  }
  return 1;
}

[[noreturn]] void damaged(const Decoder& decoder, const std::string& name) {
  fail(ErrorKind::file, "{}: damaged JPEG: {}", name, decoder.handler.text.data());
}

void start(Decoder& decoder, Bytes bytes, const std::string& name) {
  WINNOW_CHECK_KIND(bytes.size() <= std::numeric_limits<uint32_t>::max(), ErrorKind::file,
                    "{}: a JPEG of {} bytes is too large", name, bytes.size());
  if (!read_header(decoder, bytes)) damaged(decoder, name);
  const auto space = decoder.codec.jpeg_color_space;
  const bool known =
      space == JCS_GRAYSCALE || space == JCS_RGB || space == JCS_YCbCr || space == JCS_CMYK || space == JCS_YCCK;
  WINNOW_CHECK_KIND(known, ErrorKind::file, "{}: JPEG with {} components of unknown colours", name,
                    decoder.codec.num_components);
}

bool has_four_inks(const jpeg_decompress_struct& codec) {
  return codec.jpeg_color_space == JCS_CMYK || codec.jpeg_color_space == JCS_YCCK;
}

J_COLOR_SPACE output_space(const jpeg_decompress_struct& codec, Channels wanted) {
  if (has_four_inks(codec)) return JCS_CMYK;
  if (codec.jpeg_color_space == JCS_GRAYSCALE) return JCS_GRAYSCALE;
  return wanted == Channels::grey || wanted == Channels::grey_alpha ? JCS_GRAYSCALE : JCS_RGB;
}

// [H, W, 4] of inks to RGB. Adobe stores 255 - ink.
at::Tensor inks_to_rgb(const at::Tensor& inks, bool inverted) {
  auto rgb = at::empty({inks.size(0), inks.size(1), 3}, at::kByte);
  const auto* in = inks.const_data_ptr<uint8_t>();
  auto* out = rgb.mutable_data_ptr<uint8_t>();
  for (int64_t i = 0; i < inks.size(0) * inks.size(1); ++i, in += 4, out += 3) {
    const unsigned black = inverted ? in[3] : 255u - in[3];
    for (int c = 0; c < 3; ++c)
      out[c] = static_cast<uint8_t>(((inverted ? in[c] : 255u - in[c]) * black + 127u) / 255u);
  }
  return rgb;
}

// The decoded window around the region, with a margin of one block: smoothing of colours looks at neighbours.
Window window_of(const jpeg_decompress_struct& codec, const PixelBox& box, unsigned denominator) {
  const auto width = static_cast<int64_t>(codec.output_width), height = static_cast<int64_t>(codec.output_height);
  const auto block = int64_t{DCTSIZE} / static_cast<int64_t>(denominator);
  const auto margin_x = codec.max_h_samp_factor * block, margin_y = codec.max_v_samp_factor * block;
  const auto left = std::max<int64_t>(0, box.x - margin_x), right = std::min(width, box.x + box.width + margin_x);
  const auto top = std::max<int64_t>(0, box.y - margin_y), bottom = std::min(height, box.y + box.height + 1);
  Window window;
  window.left = static_cast<JDIMENSION>(left);
  window.width = static_cast<JDIMENSION>(right - left);
  window.first = static_cast<JDIMENSION>(top);
  window.last = static_cast<JDIMENSION>(bottom);
  window.whole = false;
  return window;
}

struct Encoder {
  Encoder() {
    install(handler);
    codec.err = &handler.base;
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() {
    jpeg_destroy_compress(&codec);
    std::free(out);
  }

  Handler handler;
  jpeg_compress_struct codec{};
  unsigned char* out = nullptr;
  unsigned long size = 0;
};

bool encode(Encoder& encoder, const uint8_t* pixels, JDIMENSION width, JDIMENSION height, int channels, int quality) {
  auto& codec = encoder.codec;
  if (setjmp(encoder.handler.escape)) return false;
  jpeg_create_compress(&codec);
  jpeg_mem_dest(&codec, &encoder.out, &encoder.size);
  codec.image_width = width;
  codec.image_height = height;
  codec.input_components = channels;
  codec.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&codec);
  jpeg_set_quality(&codec, quality, TRUE);
  if (channels == 3 && quality >= 90) codec.comp_info[0].h_samp_factor = codec.comp_info[0].v_samp_factor = 1;
  jpeg_start_compress(&codec, TRUE);
  while (codec.next_scanline < height) {
    // libjpeg only reads the row, though its interface takes it as writable.
    auto* row =
        const_cast<JSAMPROW>(pixels + std::size_t{codec.next_scanline} * width * static_cast<unsigned>(channels));
    jpeg_write_scanlines(&codec, &row, 1);
  }
  jpeg_finish_compress(&codec);
  return true;
}

}  // namespace

ImageInfo jpeg_info(Bytes bytes, const std::string& name) {
  Decoder decoder;
  start(decoder, bytes, name);
  return {.format = ImageFormat::jpeg,
          .width = decoder.codec.image_width,
          .height = decoder.codec.image_height,
          .channels = decoder.codec.jpeg_color_space == JCS_GRAYSCALE ? 1 : 3,
          .orientation = orientation_of(decoder.codec)};
}

at::Tensor read_jpeg(const std::filesystem::path& path, const ImageOptions& options) {
  return read_jpeg(as_bytes(winnow::read_file(path.string())), options, path.string());
}

at::Tensor read_jpeg(Bytes bytes, const ImageOptions& options, const std::string& name) {
  const auto denominator = options.scale_denominator;
  WINNOW_CHECK(denominator == 1 || denominator == 2 || denominator == 4 || denominator == 8,
               "read_jpeg: scale_denominator must be 1, 2, 4 or 8, got {}", denominator);
  Decoder decoder;
  start(decoder, bytes, name);
  auto& codec = decoder.codec;
  const auto orientation = orientation_of(codec);  // now: the end of decoding frees the markers
  check_pixels(codec.image_width, codec.image_height, options, name);
  if (!choose(decoder, output_space(codec, options.channels), static_cast<unsigned>(denominator)))
    damaged(decoder, name);
  check_region(codec.output_width, codec.output_height, options, name);

  Window window{.left = 0, .width = codec.output_width, .first = 0, .last = codec.output_height, .whole = true};
  if (options.region) window = window_of(codec, *options.region, static_cast<unsigned>(denominator));
  if (!open_window(decoder, window)) damaged(decoder, name);
  const int64_t components = codec.output_components;
  auto image = at::empty(
      {static_cast<int64_t>(window.last - window.first), static_cast<int64_t>(window.width), components}, at::kByte);
  if (!read_window(decoder, window, image.mutable_data_ptr<uint8_t>(),
                   std::size_t{window.width} * static_cast<std::size_t>(components))) {
    damaged(decoder, name);
  }
  if (options.region) {
    const auto& box = *options.region;
    image = image.narrow(0, box.y - window.first, box.height).narrow(1, box.x - window.left, box.width).contiguous();
  }
  if (has_four_inks(codec)) image = inks_to_rgb(image, codec.saw_Adobe_marker != 0);
  image = convert_channels(image, options);
  return options.exif_orientation ? apply_orientation(image, orientation) : image;
}

std::vector<uint8_t> encode_jpeg(const at::Tensor& image, int64_t quality) {
  WINNOW_CHECK(quality >= 1 && quality <= 100, "write_jpeg: quality must be in [1, 100], got {}", quality);
  const auto picture = check_picture(image, "write_jpeg");
  const auto channels = picture.size(2);
  WINNOW_CHECK(channels == 1 || channels == 3, "write_jpeg: image must have 1 or 3 channels, got {}", channels);
  WINNOW_CHECK(picture.size(0) <= JPEG_MAX_DIMENSION && picture.size(1) <= JPEG_MAX_DIMENSION,
               "write_jpeg: image must have at most {} rows and columns, got {} x {}", JPEG_MAX_DIMENSION,
               picture.size(0), picture.size(1));
  Encoder encoder;
  WINNOW_CHECK(encode(encoder, picture.const_data_ptr<uint8_t>(), static_cast<JDIMENSION>(picture.size(1)),
                      static_cast<JDIMENSION>(picture.size(0)), static_cast<int>(channels), static_cast<int>(quality)),
               "write_jpeg: {}", encoder.handler.text.data());
  return {encoder.out, encoder.out + encoder.size};
}

void write_jpeg(const std::filesystem::path& path, const at::Tensor& image, int64_t quality) {
  write_file(path.string(), as_text(encode_jpeg(image, quality)));
}

}  // namespace winnow::io

// libpng reports errors by longjmp. Functions that call setjmp hold no object with a destructor: what must be freed
// lives in their caller.
#include "winnow/io/png.h"

#include <ATen/ops/empty.h>
#include <png.h>

#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <new>

#include "pixels.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"

namespace winnow::io {
namespace {

struct Problem {
  std::array<char, 160> text{};
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* problem = static_cast<Problem*>(png_get_error_ptr(png));
  std::snprintf(problem->text.data(), problem->text.size(), "%s", message);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

struct Decoder {
  explicit Decoder(Bytes input) : rest(input) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &problem, on_error, on_warning);
    if (png != nullptr) info = png_create_info_struct(png);
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }

  Bytes rest;
  Problem problem;
  png_structp png = nullptr;
  png_infop info = nullptr;
  int64_t width = 0, height = 0, channels = 0;
};

void read_bytes(png_structp png, png_bytep out, size_t count) {
  auto* decoder = static_cast<Decoder*>(png_get_io_ptr(png));
  if (count > decoder->rest.size()) png_error(png, "the file ends early");
  std::memcpy(out, decoder->rest.data(), count);
  decoder->rest = decoder->rest.subspan(count);
}

// Reads what stands before the pixels and chooses the transformations to 8 bits without palette.
bool read_header(Decoder& decoder) {
  if (setjmp(png_jmpbuf(decoder.png))) return false;
  png_set_read_fn(decoder.png, &decoder, read_bytes);
  png_set_crc_action(decoder.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_read_info(decoder.png, decoder.info);
  png_set_expand(decoder.png);
  png_set_scale_16(decoder.png);
  png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
  decoder.width = png_get_image_width(decoder.png, decoder.info);
  decoder.height = png_get_image_height(decoder.png, decoder.info);
  decoder.channels = png_get_channels(decoder.png, decoder.info);
  return true;
}

bool read_rows(Decoder& decoder, png_bytepp rows) {
  if (setjmp(png_jmpbuf(decoder.png))) return false;
  png_read_image(decoder.png, rows);
  png_read_end(decoder.png, nullptr);
  return true;
}

void start(Decoder& decoder, const std::string& name) {
  WINNOW_CHECK_KIND(decoder.png != nullptr && decoder.info != nullptr, ErrorKind::file, "{}: libpng could not start",
                    name);
  WINNOW_CHECK_KIND(read_header(decoder), ErrorKind::file, "{}: damaged PNG: {}", name, decoder.problem.text.data());
}

struct Encoder {
  Encoder() {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &problem, on_error, on_warning);
    if (png != nullptr) info = png_create_info_struct(png);
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() { png_destroy_write_struct(&png, &info); }

  Problem problem;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::vector<uint8_t> out;
};

void write_bytes(png_structp png, png_bytep data, size_t count) {
  auto* encoder = static_cast<Encoder*>(png_get_io_ptr(png));
  bool full = false;
  try {
    encoder->out.insert(encoder->out.end(), data, data + count);
  } catch (const std::bad_alloc&) {
    full = true;
  }
  if (full) png_error(png, "out of memory");
}

void flush_bytes(png_structp) {}

bool write_rows(Encoder& encoder, png_bytepp rows, png_uint_32 width, png_uint_32 height, int colour, int level) {
  if (setjmp(png_jmpbuf(encoder.png))) return false;
  png_set_write_fn(encoder.png, &encoder, write_bytes, flush_bytes);
  png_set_compression_level(encoder.png, level);
  png_set_IHDR(encoder.png, encoder.info, width, height, 8, colour, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_write_info(encoder.png, encoder.info);
  png_write_image(encoder.png, rows);
  png_write_end(encoder.png, nullptr);
  return true;
}

std::vector<png_bytep> row_pointers(uint8_t* data, int64_t height, int64_t stride) {
  std::vector<png_bytep> rows(static_cast<std::size_t>(height));
  for (auto& row : rows) {
    row = data;
    data += stride;
  }
  return rows;
}

}  // namespace

ImageInfo png_info(Bytes bytes, const std::string& name) {
  Decoder decoder(bytes);
  start(decoder, name);
  return {.format = ImageFormat::png,
          .width = decoder.width,
          .height = decoder.height,
          .channels = decoder.channels,
          .orientation = 1};
}

at::Tensor read_png(const std::filesystem::path& path, const ImageOptions& options) {
  return read_png(as_bytes(winnow::read_file(path.string())), options, path.string());
}

at::Tensor read_png(Bytes bytes, const ImageOptions& options, const std::string& name) {
  WINNOW_CHECK(options.scale_denominator == 1, "read_png: scale_denominator must be 1, got {}",
               options.scale_denominator);
  Decoder decoder(bytes);
  start(decoder, name);
  check_pixels(decoder.width, decoder.height, options, name);
  check_region(decoder.width, decoder.height, options, name);
  auto image = at::empty({decoder.height, decoder.width, decoder.channels}, at::kByte);
  auto rows = row_pointers(image.mutable_data_ptr<uint8_t>(), decoder.height, decoder.width * decoder.channels);
  WINNOW_CHECK_KIND(read_rows(decoder, rows.data()), ErrorKind::file, "{}: damaged PNG: {}", name,
                    decoder.problem.text.data());
  if (options.region) {
    const auto& box = *options.region;
    image = image.narrow(0, box.y, box.height).narrow(1, box.x, box.width).contiguous();
  }
  return convert_channels(image, options);
}

std::vector<uint8_t> encode_png(const at::Tensor& image, int64_t compression) {
  WINNOW_CHECK(compression >= 0 && compression <= 9, "write_png: compression must be in [0, 9], got {}", compression);
  const auto picture = check_picture(image, "write_png");
  constexpr std::array<int, 5> kColours = {-1, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                                           PNG_COLOR_TYPE_RGB_ALPHA};
  const auto height = picture.size(0), width = picture.size(1), channels = picture.size(2);
  // libpng only reads the rows, though its interface takes them as writable.
  auto rows = row_pointers(const_cast<uint8_t*>(picture.const_data_ptr<uint8_t>()), height, width * channels);
  Encoder encoder;
  WINNOW_CHECK_KIND(encoder.png != nullptr && encoder.info != nullptr, ErrorKind::unsupported,
                    "write_png: libpng could not start");
  WINNOW_CHECK(write_rows(encoder, rows.data(), static_cast<png_uint_32>(width), static_cast<png_uint_32>(height),
                          kColours[static_cast<std::size_t>(channels)], static_cast<int>(compression)),
               "write_png: {}", encoder.problem.text.data());
  return std::move(encoder.out);
}

void write_png(const std::filesystem::path& path, const at::Tensor& image, int64_t compression) {
  write_file(path.string(), as_text(encode_png(image, compression)));
}

}  // namespace winnow::io

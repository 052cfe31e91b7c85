// JPEG files of every kind, made by libjpeg itself, for tests of the reader.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// This needs cstdio in front of it.
#include <jpeglib.h>

namespace winnow::testing {

struct JpegKind {
  J_COLOR_SPACE space = JCS_YCbCr;   // stored
  int horizontal = 2, vertical = 2;  // samples of luma for one of colour
  bool progressive = false;
  int restart_rows = 0;
  int orientation = 0;  // EXIF, 0 = no EXIF
  bool big_endian_exif = false;
};

inline std::string exif_bytes(int orientation, bool big) {
  const auto number = [&](unsigned value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>((value >> (8 * (big ? bytes - 1 - i : i))) & 0xff));
    return out;
  };
  std::string tiff = std::string(big ? "MM" : "II") + number(42, 2) + number(8, 4) + number(2, 2);
  tiff += number(0x010f, 2) + number(2, 2) + number(4, 4) + "abc" + std::string(1, '\0');  // Make
  tiff +=
      number(0x0112, 2) + number(3, 2) + number(1, 4) + number(static_cast<unsigned>(orientation), 2) + number(0, 2);
  return std::string("Exif\0\0", 6) + tiff + number(0, 4);
}

// image uint8 [H, W, C] with C as the input of the colour space needs: 1 grey, 4 CMYK, else 3.
inline std::vector<uint8_t> make_jpeg(const at::Tensor& image, const JpegKind& kind = {}, int quality = 90) {
  jpeg_compress_struct codec{};
  jpeg_error_mgr errors{};
  codec.err = jpeg_std_error(&errors);
  jpeg_create_compress(&codec);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&codec, &out, &size);
  codec.image_height = static_cast<JDIMENSION>(image.size(0));
  codec.image_width = static_cast<JDIMENSION>(image.size(1));
  codec.input_components = static_cast<int>(image.size(2));
  codec.in_color_space = image.size(2) == 1 ? JCS_GRAYSCALE : image.size(2) == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_set_defaults(&codec);
  jpeg_set_colorspace(&codec, kind.space);
  jpeg_set_quality(&codec, quality, TRUE);
  if (kind.space == JCS_YCbCr) {
    codec.comp_info[0].h_samp_factor = kind.horizontal;
    codec.comp_info[0].v_samp_factor = kind.vertical;
  }
  codec.restart_in_rows = kind.restart_rows;
  if (kind.progressive) jpeg_simple_progression(&codec);
  jpeg_start_compress(&codec, TRUE);
  if (kind.orientation != 0) {
    const auto exif = exif_bytes(kind.orientation, kind.big_endian_exif);
    jpeg_write_marker(&codec, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(exif.data()),
                      static_cast<unsigned>(exif.size()));
  }
  const auto pixels = image.contiguous();
  while (codec.next_scanline < codec.image_height) {
    auto* row = const_cast<JSAMPROW>(pixels.const_data_ptr<uint8_t>()) +
                static_cast<int64_t>(codec.next_scanline) * image.size(1) * image.size(2);
    jpeg_write_scanlines(&codec, &row, 1);
  }
  jpeg_finish_compress(&codec);
  std::vector<uint8_t> result(out, out + size);
  jpeg_destroy_compress(&codec);
  std::free(out);
  return result;
}

}  // namespace winnow::testing

#include "winnow/io/bytes.h"

#include <zlib.h>

#include <algorithm>
#include <memory>

#include "winnow/core/error.h"
#include "winnow/core/file.h"

namespace winnow::io {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 16;
constexpr std::size_t kMaxFeed = std::size_t{1} << 30;  // zlib counts in unsigned int

struct EndInflate {
  void operator()(z_stream* stream) const { inflateEnd(stream); }
};

}  // namespace

bool is_gzip(Bytes bytes) {
  return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

std::string gunzip(Bytes bytes, const std::string& name, int64_t max_bytes) {
  WINNOW_CHECK_KIND(is_gzip(bytes), ErrorKind::file, "{}: not a gzip stream", name);
  z_stream stream{};
  WINNOW_CHECK_KIND(inflateInit2(&stream, 15 + 16) == Z_OK, ErrorKind::file, "{}: zlib could not start", name);
  const std::unique_ptr<z_stream, EndInflate> guard(&stream);

  std::string out;
  std::string piece(kPiece, '\0');
  std::size_t fed = 0;
  for (;;) {
    if (stream.avail_in == 0 && fed < bytes.size()) {
      const auto count = std::min(kMaxFeed, bytes.size() - fed);
      stream.next_in = const_cast<Bytef*>(bytes.data() + fed);
      stream.avail_in = static_cast<uInt>(count);
      fed += count;
    }
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    const int status = inflate(&stream, Z_NO_FLUSH);
    const auto made = piece.size() - stream.avail_out;
    WINNOW_CHECK_KIND(out.size() + made <= static_cast<std::size_t>(std::max<int64_t>(max_bytes, 0)), ErrorKind::file,
                      "{}: the gzip stream unpacks to more than {} bytes", name, max_bytes);
    out.append(piece, 0, made);
    if (status == Z_STREAM_END) {
      const auto rest = bytes.subspan(fed - stream.avail_in);
      if (std::all_of(rest.begin(), rest.end(), [](uint8_t byte) { return byte == 0; })) return out;
      WINNOW_CHECK_KIND(is_gzip(rest), ErrorKind::file, "{}: {} bytes of garbage after the gzip stream", name,
                        rest.size());
      inflateReset(&stream);
      continue;
    }
    const bool more = stream.avail_in > 0 || fed < bytes.size() || made > 0;
    WINNOW_CHECK_KIND(status != Z_BUF_ERROR && (status != Z_OK || more), ErrorKind::file,
                      "{}: the gzip stream ends early", name);
    WINNOW_CHECK_KIND(status == Z_OK, ErrorKind::file, "{}: the gzip stream is corrupted ({})", name,
                      stream.msg != nullptr ? stream.msg : "unknown dictionary");
  }
}

std::string read_file_or_gzip(const std::filesystem::path& path, int64_t max_bytes) {
  auto content = winnow::read_file(path.string(), max_bytes);
  if (!is_gzip(as_bytes(content))) return content;
  return gunzip(as_bytes(content), path.string(), max_bytes);
}

}  // namespace winnow::io

#include "winnow/io/idx.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <optional>
#include <vector>

#include "addressable.h"
#include "swap_bytes.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"

namespace winnow::io {
namespace {

std::optional<at::ScalarType> element_type(uint8_t code) {
  switch (code) {
    case 0x08: return at::kByte;
    case 0x09: return at::kChar;
    case 0x0b: return at::kShort;
    case 0x0c: return at::kInt;
    case 0x0d: return at::kFloat;
    case 0x0e: return at::kDouble;
    default: return std::nullopt;
  }
}

at::Tensor parse_plain(Bytes bytes, const std::string& name) {
  WINNOW_CHECK_KIND(bytes.size() >= 4 && bytes[0] == 0 && bytes[1] == 0, ErrorKind::file,
                    "{}: not an IDX file: it must start with two zero bytes, a type and a number of dimensions", name);
  const auto type = element_type(bytes[2]);
  WINNOW_CHECK_KIND(type.has_value(), ErrorKind::file, "{}: IDX element type 0x{:02x} is not known", name, bytes[2]);
  const std::size_t dimensions = bytes[3], header = 4 + 4 * dimensions;
  WINNOW_CHECK_KIND(dimensions >= 1 && dimensions <= 64 && bytes.size() >= header, ErrorKind::file,
                    "{}: IDX header of {} dimensions in a file of {} bytes", name, dimensions, bytes.size());
  std::vector<int64_t> shape;
  const auto width = c10::elementSize(*type);
  Addressable addressable(width);
  for (std::size_t i = 4; i < header; i += 4) {
    const uint64_t size =
        uint64_t{bytes[i]} << 24 | uint64_t{bytes[i + 1]} << 16 | uint64_t{bytes[i + 2]} << 8 | bytes[i + 3];
    shape.push_back(static_cast<int64_t>(size));
    addressable.add(size);
  }
  const auto data = bytes.subspan(header);
  const auto wanted = addressable.bytes();
  WINNOW_CHECK_KIND(wanted == data.size(), ErrorKind::file,
                    "{}: IDX shape [{}] needs {} bytes of data, the file has {}", name, fmt::join(shape, ", "),
                    wanted ? std::to_string(*wanted) : "more than 2^64", data.size());
  WINNOW_CHECK_KIND(addressable.described(), ErrorKind::file, "{}: IDX shape [{}] is too large", name,
                    fmt::join(shape, ", "));
  auto result = at::empty(shape, *type);
  if (data.empty()) return result;
  auto* out = static_cast<uint8_t*>(result.data_ptr());
  std::memcpy(out, data.data(), data.size());
  if (width > 1) swap_bytes(out, data.size() / width, width);  // IDX is big-endian
  return result;
}

}  // namespace

at::Tensor parse_idx(Bytes bytes, const std::string& name, int64_t max_bytes) {
  if (!is_gzip(bytes)) return parse_plain(bytes, name);
  const auto content = gunzip(bytes, name, max_bytes);
  return parse_plain(as_bytes(content), name);
}

at::Tensor read_idx(const std::filesystem::path& path, int64_t max_bytes) {
  return parse_idx(as_bytes(winnow::read_file(path.string(), max_bytes)), path.string(), max_bytes);
}

}  // namespace winnow::io

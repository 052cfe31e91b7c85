#include "winnow/io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "addressable.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/io/json.h"

namespace winnow::io {
namespace {

constexpr std::array<std::pair<std::string_view, uint64_t>, 16> kDtypes = {{{"F64", 8},
                                                                            {"F32", 4},
                                                                            {"F16", 2},
                                                                            {"BF16", 2},
                                                                            {"I64", 8},
                                                                            {"I32", 4},
                                                                            {"I16", 2},
                                                                            {"I8", 1},
                                                                            {"U64", 8},
                                                                            {"U32", 4},
                                                                            {"U16", 2},
                                                                            {"U8", 1},
                                                                            {"BOOL", 1},
                                                                            {"C64", 8},
                                                                            {"F8_E4M3", 1},
                                                                            {"F8_E5M2", 1}}};
constexpr std::size_t kMaxDimensions = 64;

// The number as an int64 >= 0, or nothing.
bool read_count(const Json& value, uint64_t& out) {
  if (!value.is_number_unsigned()) return false;
  out = value.get<uint64_t>();
  return out <= uint64_t{std::numeric_limits<int64_t>::max()};
}

// One entry, with offsets still counted from the start of the data.
class EntryReader {
 public:
  EntryReader(const std::string& file, const std::string& tensor) : file_(file), tensor_(tensor) {}

  SafetensorsEntry read(const Json& value, uint64_t data_size) const {
    check(value.is_object(), "its entry must be an object");
    SafetensorsEntry entry;
    const Json &dtype = member(value, "dtype"), &shape = member(value, "shape");
    const Json& offsets = member(value, "data_offsets");
    check(value.size() == 3, "its entry has keys beside dtype, shape and data_offsets");
    check(dtype.is_string(), "dtype must be a string");
    entry.dtype = dtype.get<std::string>();
    const auto element = safetensors_dtype_size(entry.dtype);
    WINNOW_CHECK_KIND(element > 0, ErrorKind::file, "{}: tensor {}: dtype {} is not known", file_, shown(),
                      printable(entry.dtype, 40));

    check(shape.is_array() && shape.size() <= kMaxDimensions, "shape must be a list of at most 64 sizes");
    Addressable addressable(element);
    for (const auto& item : shape) {
      uint64_t size = 0;
      check(read_count(item, size), "shape must hold integers >= 0");
      entry.shape.push_back(static_cast<int64_t>(size));
      check(addressable.add(size), "shape overflows");
    }

    const auto bytes = addressable.bytes().value();  // what can be described can be counted
    check(offsets.is_array() && offsets.size() == 2 && read_count(offsets[0], entry.begin) &&
              read_count(offsets[1], entry.end),
          "data_offsets must be two integers >= 0");
    WINNOW_CHECK_KIND(entry.begin <= entry.end && entry.end <= data_size, ErrorKind::file,
                      "{}: tensor {}: data_offsets [{}, {}] lie outside the {} bytes of data", file_, shown(),
                      entry.begin, entry.end, data_size);
    WINNOW_CHECK_KIND(entry.end - entry.begin == bytes, ErrorKind::file,
                      "{}: tensor {}: {} bytes of data, but shape and dtype {} need {}", file_, shown(),
                      entry.end - entry.begin, entry.dtype, bytes);
    return entry;
  }

 private:
  [[nodiscard]] std::string shown() const { return printable(tensor_, 120); }
  void check(bool condition, const char* what) const {
    WINNOW_CHECK_KIND(condition, ErrorKind::file, "{}: tensor {}: {}", file_, shown(), what);
  }
  [[nodiscard]] const Json& member(const Json& value, const char* key) const {
    const auto found = value.find(key);
    WINNOW_CHECK_KIND(found != value.end(), ErrorKind::file, "{}: tensor {}: {} is missing", file_, shown(), key);
    return *found;
  }

  const std::string& file_;
  const std::string& tensor_;
};

// Every byte of data belongs to exactly one tensor.
void check_coverage(const SafetensorsHeader& header, uint64_t data_size, const std::string& file) {
  std::vector<std::pair<const std::string*, const SafetensorsEntry*>> order;
  order.reserve(header.tensors.size());
  for (const auto& [name, entry] : header.tensors) order.emplace_back(&name, &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t reached = 0;
  for (const auto& [name, entry] : order) {
    WINNOW_CHECK_KIND(entry->begin >= reached, ErrorKind::file,
                      "{}: tensor {}: its data overlap those of another tensor", file, printable(*name, 120));
    WINNOW_CHECK_KIND(entry->begin == reached, ErrorKind::file,
                      "{}: {} bytes in front of tensor {} belong to no tensor", file, entry->begin - reached,
                      printable(*name, 120));
    reached = entry->end;
  }
  WINNOW_CHECK_KIND(reached == data_size, ErrorKind::file, "{}: {} bytes at the end belong to no tensor", file,
                    data_size - reached);
}

}  // namespace

uint64_t safetensors_dtype_size(std::string_view dtype) {
  for (const auto& [name, size] : kDtypes) {
    if (name == dtype) return size;
  }
  return 0;
}

SafetensorsHeader parse_safetensors_header(Bytes file, const std::string& name) {
  WINNOW_CHECK_KIND(file.size() >= 8, ErrorKind::file, "{}: {} bytes are too few for a safetensors file", name,
                    file.size());
  uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) length |= uint64_t{file[i]} << (8 * i);
  WINNOW_CHECK_KIND(length <= kMaxSafetensorsHeader, ErrorKind::file,
                    "{}: not a safetensors file, or damaged: a header of {} bytes, the limit is {}", name, length,
                    kMaxSafetensorsHeader);
  WINNOW_CHECK_KIND(length <= file.size() - 8, ErrorKind::file,
                    "{}: truncated or not a safetensors file: a header of {} bytes in a file of {}", name, length,
                    file.size());
  const auto text = as_text(file.subspan(8, length));
  WINNOW_CHECK_KIND(text.starts_with('{'), ErrorKind::file,
                    "{}: not a safetensors file: the header must start with '{{'", name);
  const auto json = parse_json(text, name + ": header", {.max_depth = 4});
  WINNOW_CHECK_KIND(json.is_object(), ErrorKind::file, "{}: the header must be a JSON object", name);

  SafetensorsHeader header;
  const uint64_t data_begin = 8 + length, data_size = file.size() - data_begin;
  for (const auto& [key, value] : json.items()) {
    if (key != "__metadata__") {
      header.tensors.emplace(key, EntryReader(name, key).read(value, data_size));
      continue;
    }
    WINNOW_CHECK_KIND(value.is_object(), ErrorKind::file, "{}: __metadata__ must be an object", name);
    for (const auto& [entry, text_value] : value.items()) {
      WINNOW_CHECK_KIND(text_value.is_string(), ErrorKind::file, "{}: __metadata__: {} must be a string", name,
                        printable(entry, 80));
      header.metadata.emplace(entry, text_value.get<std::string>());
    }
  }
  check_coverage(header, data_size, name);
  for (auto& [key, entry] : header.tensors) {
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  return header;
}

}  // namespace winnow::io

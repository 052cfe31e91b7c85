#include "gguf_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "addressable.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxKey = 65535, kMaxTensors = 1'000'000, kMaxKeys = 1'000'000, kMaxValues = 50'000'000;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr int kMaxDimensions = 8, kMaxArrayDepth = 4;

struct TypeRow {
  uint32_t number;
  const char* name;
  GgufBlock block;
};

// By the numbers of the files; those left out were withdrawn.
constexpr TypeRow kTypes[] = {
    {0, "F32", {1, 4}},         {1, "F16", {1, 2}},         {2, "Q4_0", {32, 18}},      {3, "Q4_1", {32, 20}},
    {6, "Q5_0", {32, 22}},      {7, "Q5_1", {32, 24}},      {8, "Q8_0", {32, 34}},      {9, "Q8_1", {32, 36}},
    {10, "Q2_K", {256, 84}},    {11, "Q3_K", {256, 110}},   {12, "Q4_K", {256, 144}},   {13, "Q5_K", {256, 176}},
    {14, "Q6_K", {256, 210}},   {15, "Q8_K", {256, 292}},   {16, "IQ2_XXS", {256, 66}}, {17, "IQ2_XS", {256, 74}},
    {18, "IQ3_XXS", {256, 98}}, {19, "IQ1_S", {256, 50}},   {20, "IQ4_NL", {32, 18}},   {21, "IQ3_S", {256, 110}},
    {22, "IQ2_S", {256, 82}},   {23, "IQ4_XS", {256, 136}}, {24, "I8", {1, 1}},         {25, "I16", {1, 2}},
    {26, "I32", {1, 4}},        {27, "I64", {1, 8}},        {28, "F64", {1, 8}},        {29, "IQ1_M", {256, 56}},
    {30, "BF16", {1, 2}},       {34, "TQ1_0", {256, 54}},   {35, "TQ2_0", {256, 66}},   {39, "MXFP4", {32, 17}}};

const TypeRow* find_type(uint32_t number) {
  const auto* const found =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& row) { return row.number == number; });
  return found == std::end(kTypes) ? nullptr : found;
}

// The numbers of metadata types in the files.
enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};

// Bytes that a value takes at least; 0 for a type that does not exist.
uint64_t least_size(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool: return 1;
    case kUint16:
    case kInt16: return 2;
    case kUint32:
    case kInt32:
    case kFloat32: return 4;
    case kString:
    case kUint64:
    case kInt64:
    case kFloat64: return 8;
    case kArray: return 12;
    default: return 0;
  }
}

class Reader {
 public:
  Reader(Bytes bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  template <typename T>
  T number() {
    T value;
    need(sizeof(T));
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));  // winnow's machines are little-endian, as the files
    position_ += sizeof(T);
    return value;
  }

  std::string string(uint64_t limit) {
    const auto length = number<uint64_t>();
    check(length <= limit, "a string of {} bytes, the limit is {}", length, limit);
    need(length);
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return text;
  }

  Json value(uint32_t type, int depth = 0) {
    check(++values_ <= kMaxValues, "more than {} metadata values", kMaxValues);
    switch (type) {
      case kUint8: return number<uint8_t>();
      case kInt8: return number<int8_t>();
      case kUint16: return number<uint16_t>();
      case kInt16: return number<int16_t>();
      case kUint32: return number<uint32_t>();
      case kInt32: return number<int32_t>();
      case kFloat32: return double{number<float>()};
      case kFloat64: return number<double>();
      case kUint64: return number<uint64_t>();
      case kInt64: return number<int64_t>();
      case kString: return string(bytes_.size());
      case kBool: {
        const auto byte = number<uint8_t>();
        check(byte <= 1, "a bool of value {}", byte);
        return byte == 1;
      }
      case kArray: return array(depth);
      default: check(false, "a metadata value of type {}, which does not exist", type);
    }
    return {};
  }

  // Throws Error(file) naming file, what is being read, and the byte.
  template <typename... Args>
  void check(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (condition) [[likely]]
      return;
    fail(ErrorKind::file, "{}: {}{} at byte {}", name_, place_, fmt::format(format, std::forward<Args>(args)...),
         position_);
  }

  void place(std::string text) { place_ = std::move(text); }
  [[nodiscard]] uint64_t position() const { return position_; }
  [[nodiscard]] uint64_t left() const { return bytes_.size() - position_; }

 private:
  void need(uint64_t count) const {
    check(count <= left(), "the file ends early: {} bytes wanted, {} left,", count, left());
  }

  Json array(int depth) {
    check(depth < kMaxArrayDepth, "arrays nested deeper than {}", kMaxArrayDepth);
    const auto type = number<uint32_t>();
    const auto count = number<uint64_t>();
    const auto least = least_size(type);
    check(least > 0, "an array of type {}, which does not exist,", type);
    check(count <= left() / least, "an array of {} values in {} bytes", count, left());
    Json::array_t items;
    items.reserve(std::min<uint64_t>(count, kMaxValues));
    for (uint64_t i = 0; i < count; ++i) items.push_back(value(type, depth + 1));
    return items;
  }

  Bytes bytes_;
  const std::string& name_;
  uint64_t position_ = 0, values_ = 0;
  std::string place_;
};

GgufEntry read_entry(Reader& in) {
  GgufEntry entry;
  const auto dimensions = in.number<uint32_t>();
  in.check(dimensions <= kMaxDimensions, "{} dimensions, at most {} are allowed,", dimensions, kMaxDimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in.number<uint64_t>();
    in.check(size >= 1 && size <= uint64_t{1} << 62, "a size of {}", size);
    entry.shape.insert(entry.shape.begin(), static_cast<int64_t>(size));  // files give the fastest dimension first
  }
  entry.type = in.number<uint32_t>();
  entry.begin = in.number<uint64_t>();
  const auto block = gguf_block(entry.type);
  if (block.values == 0) {
    entry.end = entry.begin;
    return entry;
  }
  const auto row = entry.shape.empty() ? 1 : entry.shape.back();
  in.check(row % block.values == 0, "rows of {} values, but {} is kept in blocks of {},", row,
           gguf_type_name(entry.type), block.values);
  Addressable addressable(std::max<uint64_t>(block.bytes, 4 * static_cast<uint64_t>(block.values)));
  uint64_t size = block.bytes;
  for (std::size_t i = 0; i < entry.shape.size(); ++i) {
    const auto count =
        static_cast<uint64_t>(entry.shape[i]) / static_cast<uint64_t>(i + 1 == entry.shape.size() ? block.values : 1);
    in.check(addressable.add(count), "a shape that overflows");
    size *= count;
  }
  in.check(size <= UINT64_MAX - entry.begin, "an offset that overflows");
  entry.end = entry.begin + size;
  return entry;
}

uint64_t read_alignment(const Json& metadata, const std::string& name) {
  const auto found = metadata.find("general.alignment");
  if (found == metadata.end()) return 32;
  const auto value = found->is_number_unsigned() ? found->get<uint64_t>() : 0;
  WINNOW_CHECK_KIND(std::has_single_bit(value) && value <= kMaxAlignment, ErrorKind::file,
                    "{}: general.alignment must be a power of two up to {}, got {}", name, kMaxAlignment,
                    printable(found->dump(-1, ' ', false, Json::error_handler_t::replace), 40));
  return value;
}

// Offsets become places in the file; each lies inside it, aligned, and upon no other.
void place_entries(GgufHeader& header, uint64_t data_begin, uint64_t alignment, uint64_t file_size,
                   const std::string& name) {
  std::vector<std::pair<const std::string*, GgufEntry*>> order;
  for (auto& [key, entry] : header.entries) {
    WINNOW_CHECK_KIND(entry.begin % alignment == 0, ErrorKind::file,
                      "{}: tensor {}: its offset {} is no multiple of the alignment {}", name, printable(key, 120),
                      entry.begin, alignment);
    const auto available = file_size - std::min(data_begin, file_size);
    WINNOW_CHECK_KIND(entry.end <= available, ErrorKind::file,
                      "{}: tensor {}: its data end {} bytes behind the header, but only {} follow it: the file is cut "
                      "off or damaged",
                      name, printable(key, 120), entry.end, available);
    entry.begin += data_begin;
    entry.end += data_begin;
    order.emplace_back(&key, &entry);
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    WINNOW_CHECK_KIND(order[i].second->begin >= order[i - 1].second->end, ErrorKind::file,
                      "{}: tensor {}: its data overlap those of {}", name, printable(*order[i].first, 120),
                      printable(*order[i - 1].first, 120));
  }
}

void read_version(Reader& in, GgufHeader& header, const std::string& name) {
  header.version = in.number<uint32_t>();
  const bool swapped = (header.version & 0xffff) == 0 && header.version != 0;
  WINNOW_CHECK_KIND(!swapped, ErrorKind::file, "{}: a big-endian GGUF file; winnow reads little-endian ones", name);
  WINNOW_CHECK_KIND(header.version == 2 || header.version == 3, ErrorKind::file,
                    "{}: GGUF version {}; winnow reads versions 2 and 3", name, header.version);
}

void read_metadata(Reader& in, uint64_t count, GgufHeader& header) {
  for (uint64_t i = 0; i < count; ++i) {
    in.place(fmt::format("metadata entry {}: ", i));
    auto key = in.string(kMaxKey);
    in.place(fmt::format("metadata {}: ", printable(key, 120)));
    const auto type = in.number<uint32_t>();
    auto value = in.value(type);
    in.check(header.metadata.emplace(std::move(key), std::move(value)).second, "the key stands twice; the second ends");
  }
}

void read_entries(Reader& in, uint64_t count, GgufHeader& header) {
  for (uint64_t i = 0; i < count; ++i) {
    in.place(fmt::format("tensor {}: ", i));
    auto key = in.string(kMaxKey);
    in.place(fmt::format("tensor {}: ", printable(key, 120)));
    auto entry = read_entry(in);
    in.check(header.entries.emplace(std::move(key), std::move(entry)).second, "the name stands twice; the second ends");
  }
}

}  // namespace

GgufBlock gguf_block(uint32_t type) {
  const auto* const found = find_type(type);
  return found == nullptr ? GgufBlock{} : found->block;
}

std::string gguf_type_name(uint32_t type) {
  const auto* const found = find_type(type);
  return found == nullptr ? fmt::format("type {}", type) : found->name;
}

GgufHeader parse_gguf_header(Bytes bytes, const std::string& name) {
  static_assert(std::endian::native == std::endian::little);
  Reader in(bytes, name);
  WINNOW_CHECK_KIND(bytes.size() >= 24 && in.number<uint32_t>() == kMagic, ErrorKind::file,
                    "{}: not a GGUF file, or cut off: it must begin with \"GGUF\" and have at least 24 bytes", name);
  GgufHeader header;
  read_version(in, header, name);
  const auto tensors = in.number<uint64_t>(), keys = in.number<uint64_t>();
  in.check(tensors <= kMaxTensors && keys <= kMaxKeys, "{} tensors and {} metadata entries, more than a file can have,",
           tensors, keys);
  read_metadata(in, keys, header);
  const auto parts = header.metadata.value("split.count", Json());
  WINNOW_CHECK_KIND(!parts.is_number_integer() || parts.get<int64_t>() <= 1, ErrorKind::unsupported,
                    "{}: one of {} parts of a split GGUF file; join them first (gguf-split --merge)", name,
                    parts.dump());
  read_entries(in, tensors, header);
  const auto alignment = read_alignment(header.metadata, name);
  const auto data_begin = (in.position() + alignment - 1) / alignment * alignment;
  place_entries(header, data_begin, alignment, bytes.size(), name);
  return header;
}

}  // namespace winnow::io

#include "winnow/io/npy.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "addressable.h"
#include "swap_bytes.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/tensor/format.h"

namespace winnow::io {
namespace {

struct Type {
  std::string_view code;
  at::ScalarType type;
};
constexpr std::array<Type, 14> kTypes = {{{"b1", at::kBool},
                                          {"i1", at::kChar},
                                          {"i2", at::kShort},
                                          {"i4", at::kInt},
                                          {"i8", at::kLong},
                                          {"u1", at::kByte},
                                          {"u2", at::ScalarType::UInt16},
                                          {"u4", at::ScalarType::UInt32},
                                          {"u8", at::ScalarType::UInt64},
                                          {"f2", at::kHalf},
                                          {"f4", at::kFloat},
                                          {"f8", at::kDouble},
                                          {"c8", at::kComplexFloat},
                                          {"c16", at::kComplexDouble}}};
constexpr std::string_view kMagic("\x93NUMPY", 6);

struct Header {
  at::ScalarType type = at::kFloat;
  bool swapped = false;
  bool fortran = false;
  std::vector<int64_t> shape;
};

// The header is a Python dict of three known keys: 'descr' (string), 'fortran_order' (bool), 'shape' (tuple).
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  Header read() {
    Header header;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const auto key = string();
      expect(':');
      if (key == "descr" && !std::exchange(descr, true)) {
        read_type(header);
      } else if (key == "fortran_order" && !std::exchange(order, true)) {
        header.fortran = boolean();
      } else if (key == "shape" && !std::exchange(shape, true)) {
        header.shape = tuple();
      } else {
        fail(ErrorKind::file, "{}: damaged npy header: unexpected key {}", name_, printable(key, 40));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    blanks();
    check(at_ == text_.size(), "text after the end");
    check(descr && order && shape, "descr, fortran_order or shape is missing");
    return header;
  }

 private:
  void check(bool condition, const char* what) const {
    WINNOW_CHECK_KIND(condition, ErrorKind::file, "{}: damaged npy header: {}", name_, what);
  }
  void blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char wanted) {
    blanks();
    const bool found = at_ < text_.size() && text_[at_] == wanted;
    at_ += found ? 1 : 0;
    return found;
  }
  void expect(char wanted) {
    WINNOW_CHECK_KIND(accept(wanted), ErrorKind::file, "{}: damaged npy header: '{}' expected", name_, wanted);
  }
  std::string_view string() {
    blanks();
    check(at_ < text_.size() && (text_[at_] == '\'' || text_[at_] == '"'), "a string expected");
    const auto start = at_ + 1, end = text_.find(text_[at_], start);
    check(end != std::string_view::npos, "an open quote");
    at_ = end + 1;
    return text_.substr(start, end - start);
  }
  bool boolean() {
    blanks();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return value;
    }
    check(false, "fortran_order must be True or False");
    return false;
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> sizes;
    expect('(');
    while (!accept(')')) {
      int64_t size = 0;
      const auto* start = text_.data() + at_;
      const auto [end, status] = std::from_chars(start, text_.data() + text_.size(), size);
      check(status == std::errc() && size >= 0 && sizes.size() < 64, "shape must be a tuple of at most 64 sizes");
      at_ += static_cast<std::size_t>(end - start);
      accept_long_suffix();
      sizes.push_back(size);
      if (!accept(',')) {
        expect(')');
        break;
      }
      blanks();
    }
    return sizes;
  }
  void accept_long_suffix() {  // Python 2 wrote 3L
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;
  }
  void read_type(Header& header) {
    blanks();
    WINNOW_CHECK_KIND(at_ < text_.size() && text_[at_] != '[', ErrorKind::unsupported,
                      "{}: npy arrays of records are not read", name_);
    const auto descr = string();
    const auto code = descr.substr(std::min<std::size_t>(1, descr.size()));
    const bool order = !descr.empty() && std::string_view("<>|=").find(descr[0]) != std::string_view::npos;
    const auto* found = std::find_if(kTypes.begin(), kTypes.end(), [&](const Type& type) { return type.code == code; });
    WINNOW_CHECK_KIND(order && found != kTypes.end(), ErrorKind::unsupported,
                      "{}: npy arrays of type '{}' are not read, only numbers", name_, printable(descr, 40));
    header.type = found->type;
    header.swapped = descr[0] == '>';
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t at_ = 0;
};

// The width of what a byte order applies to: a complex number is two of them.
std::size_t word_size(at::ScalarType type) {
  return c10::elementSize(type) / (c10::isComplexType(type) ? 2 : 1);
}

}  // namespace

at::Tensor parse_npy(Bytes bytes, const std::string& name) {
  WINNOW_CHECK_KIND(bytes.size() >= 10 && as_text(bytes).starts_with(kMagic), ErrorKind::file, "{}: not an npy file",
                    name);
  const int major = bytes[6];
  WINNOW_CHECK_KIND(major >= 1 && major <= 3, ErrorKind::file, "{}: npy version {}.{} is not known", name, major,
                    static_cast<int>(bytes[7]));
  const std::size_t length_bytes = major == 1 ? 2 : 4, begin = 8 + length_bytes;
  WINNOW_CHECK_KIND(bytes.size() >= begin, ErrorKind::file, "{}: the npy file ends in its header", name);
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= std::size_t{bytes[8 + i]} << (8 * i);
  WINNOW_CHECK_KIND(length <= bytes.size() - begin, ErrorKind::file, "{}: the npy file ends in its header", name);
  const auto header = HeaderReader(as_text(bytes.subspan(begin, length)), name).read();

  const auto data = bytes.subspan(begin + length);
  const auto width = c10::elementSize(header.type);
  Addressable addressable(width);
  for (const auto size : header.shape) addressable.add(static_cast<uint64_t>(size));
  const auto wanted = addressable.bytes();
  WINNOW_CHECK_KIND(
      wanted == data.size(), ErrorKind::file, "{}: npy shape {} of {} needs {} bytes of data, the file has {}", name,
      at::IntArrayRef(header.shape), header.type, wanted ? std::to_string(*wanted) : "more than 2^64", data.size());

  WINNOW_CHECK_KIND(addressable.described(), ErrorKind::file, "{}: npy shape {} is too large", name,
                    at::IntArrayRef(header.shape));

  auto shape = header.shape;
  if (header.fortran) std::reverse(shape.begin(), shape.end());
  auto result = at::empty(shape, header.type);
  if (!data.empty()) {
    auto* out = static_cast<uint8_t*>(result.data_ptr());
    std::memcpy(out, data.data(), data.size());
    const auto word = word_size(header.type);
    if (header.swapped && word > 1) swap_bytes(out, data.size() / word, word);
    if (header.type == at::kBool) {
      WINNOW_CHECK_KIND(std::all_of(data.begin(), data.end(), [](uint8_t byte) { return byte <= 1; }), ErrorKind::file,
                        "{}: a bool byte is neither 0 nor 1", name);
    }
  }
  if (!header.fortran) return result;
  std::vector<int64_t> order(shape.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(order.size() - 1 - i);
  return result.permute(order).contiguous();
}

at::Tensor read_npy(const std::filesystem::path& path) {
  return parse_npy(as_bytes(winnow::read_file(path.string(), kMaxFileBytes)), path.string());
}

std::vector<uint8_t> to_npy(const at::Tensor& tensor) {
  WINNOW_CHECK(tensor.defined() && tensor.layout() == at::kStrided, "write_npy: tensor must be dense, got {}", tensor);
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const Type& type) { return type.type == tensor.scalar_type(); });
  WINNOW_CHECK(found != kTypes.end(), "write_npy: NumPy has no dtype {}", tensor.scalar_type());
  const auto plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous();
  std::string shape;
  for (const auto size : plain.sizes()) shape += std::to_string(size) + ", ";
  if (plain.dim() > 1) shape.resize(shape.size() - 2);
  if (plain.dim() == 1) shape.resize(shape.size() - 1);
  auto header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                            word_size(found->type) > 1 ? '<' : '|', found->code, shape);
  constexpr std::size_t kPrefix = 10, kAlignment = 64;
  header.append((kAlignment - (kPrefix + header.size() + 1) % kAlignment) % kAlignment, ' ');
  header.push_back('\n');

  std::vector<uint8_t> bytes;
  bytes.reserve(kPrefix + header.size() + plain.nbytes());
  bytes.insert(bytes.end(), kMagic.begin(), kMagic.end());
  for (const auto byte : {std::size_t{1}, std::size_t{0}, header.size() & 0xff, header.size() >> 8}) {
    bytes.push_back(static_cast<uint8_t>(byte));
  }
  bytes.insert(bytes.end(), header.begin(), header.end());
  if (plain.numel() > 0) {
    const auto* data = static_cast<const uint8_t*>(plain.const_data_ptr());
    bytes.insert(bytes.end(), data, data + plain.nbytes());
  }
  return bytes;
}

void write_npy(const std::filesystem::path& path, const at::Tensor& tensor) {
  write_file(path.string(), as_text(to_npy(tensor)));
}

}  // namespace winnow::io

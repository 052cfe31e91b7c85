#include "winnow/io/safetensors.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "pickle.h"
#include "safetensors_writer.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/io/json.h"
#include "winnow/tensor/format.h"

namespace winnow::io {
namespace {

constexpr std::array<std::pair<const char*, at::ScalarType>, 16> kTypes = {{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U64", at::ScalarType::UInt64},
    {"U32", at::ScalarType::UInt32},
    {"U16", at::ScalarType::UInt16},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
    {"C64", at::kComplexFloat},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
}};

SafetensorsHeader read_header(Bytes bytes, const std::string& name) {
  try {
    return parse_safetensors_header(bytes, name);
  } catch (const Error&) {
    refuse_pickle(name, bytes);  // a better answer where there is one
    throw;
  }
}

// The tensor as it is written: on the CPU, dense, row-major, without lazy conjugation or negation.
at::Tensor plain(const at::Tensor& tensor) {
  return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous();
}

void check_writable(const std::string& name, const at::Tensor& tensor) {
  WINNOW_CHECK(name != "__metadata__", "save_safetensors: a tensor cannot be called __metadata__");
  WINNOW_CHECK(tensor.defined(), "save_safetensors: tensor {} is undefined", printable(name));
  WINNOW_CHECK(tensor.layout() == at::kStrided && !tensor.is_quantized() && !tensor.is_meta(),
               "save_safetensors: tensor {} must be dense and hold data, got {}", printable(name), tensor);
  const bool known =
      std::any_of(kTypes.begin(), kTypes.end(), [&](const auto& type) { return type.second == tensor.scalar_type(); });
  WINNOW_CHECK(known, "save_safetensors: tensor {}: the format has no dtype {}", printable(name), tensor.scalar_type());
}

}  // namespace

at::ScalarType dtype_of_safetensors(const std::string& dtype, const std::string& file) {
  for (const auto& [name, type] : kTypes) {
    if (name == dtype) return type;
  }
  fail(ErrorKind::file, "{}: dtype {} is not known", file, printable(dtype, 40));
}

const char* safetensors_dtype(at::ScalarType type) {
  for (const auto& [name, known] : kTypes) {
    if (known == type) return name;
  }
  fail(ErrorKind::argument, "safetensors_dtype: the format has no dtype {}", type);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : name_(path.string()) {
  const auto mapping = std::make_shared<MappedFile>(name_);
  // The mapping is private and writable: see MappedFile.
  data_ = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(mapping->data()));
  size_ = static_cast<std::size_t>(mapping->size());
  owner_ = mapping;
  header_ = read_header({data_, size_}, name_);
}

SafetensorsFile::SafetensorsFile(std::vector<uint8_t> bytes, std::string name) : name_(std::move(name)) {
  const auto held = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
  data_ = held->data();
  size_ = held->size();
  owner_ = held;
  header_ = read_header({data_, size_}, name_);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : header_.tensors) result.push_back(name);
  return result;
}

at::Tensor SafetensorsFile::tensor(const std::string& tensor) const {
  const auto found = header_.tensors.find(tensor);
  if (found == header_.tensors.end()) {
    fail(ErrorKind::file, "{}: there is no tensor {}{}", name_, printable(tensor), did_you_mean(tensor, names()));
  }
  const auto& entry = found->second;
  const auto type = dtype_of_safetensors(entry.dtype, name_);
  const auto options = at::TensorOptions().dtype(type);
  uint8_t* const start = data_ + entry.begin;
  const auto count = static_cast<std::size_t>(entry.end - entry.begin);
  if (type == at::kBool) {
    WINNOW_CHECK_KIND(std::all_of(start, start + count, [](uint8_t byte) { return byte <= 1; }), ErrorKind::file,
                      "{}: tensor {}: a BOOL byte is neither 0 nor 1", name_, printable(tensor));
  }
  const auto alignment = std::min<std::size_t>(c10::elementSize(type), 8);
  if (count > 0 && reinterpret_cast<uintptr_t>(start) % alignment == 0) {
    return at::from_blob(start, entry.shape, [owner = owner_](void*) {}, options);
  }
  auto copy = at::empty(entry.shape, options);
  if (count > 0) std::memcpy(copy.data_ptr(), start, count);
  return copy;
}

TensorMap load_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  TensorMap tensors;
  for (const auto& [name, entry] : file.entries()) tensors.emplace(name, file.tensor(name).clone());
  return tensors;
}

SafetensorsWriter::SafetensorsWriter(const TensorMap& tensors, const StringMap& metadata) {
  for (const auto& [name, tensor] : tensors) {
    check_writable(name, tensor);
    order_.emplace_back(name, tensor);
  }
  // Falling element size keeps every tensor aligned behind a header whose end is a multiple of 8.
  std::stable_sort(order_.begin(), order_.end(),
                   [](const auto& a, const auto& b) { return a.second.element_size() > b.second.element_size(); });
  auto header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const auto& [name, tensor] : order_) {
    const auto size = static_cast<uint64_t>(tensor.numel()) * static_cast<uint64_t>(tensor.element_size());
    header[name] = {{"dtype", safetensors_dtype(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {data_size_, data_size_ + size}}};
    data_size_ += size;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::type_error&) {
    fail(ErrorKind::argument, "save_safetensors: names and metadata must be UTF-8");
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  WINNOW_CHECK(text.size() <= kMaxSafetensorsHeader,
               "save_safetensors: the header would take {} bytes, the limit is {}", text.size(), kMaxSafetensorsHeader);
  for (std::size_t i = 0; i < 8; ++i) prefix_.push_back(static_cast<char>((uint64_t{text.size()} >> (8 * i)) & 0xff));
  prefix_ += text;
}

void SafetensorsWriter::write(const std::function<void(const void*, std::size_t)>& sink) const {
  sink(prefix_.data(), prefix_.size());
  for (const auto& [name, tensor] : order_) {
    const auto data = plain(tensor);
    if (data.numel() > 0) sink(data.data_ptr(), data.nbytes());
  }
}

void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors, const StringMap& metadata) {
  const SafetensorsWriter writer(tensors, metadata);
  AtomicFile file(path.string());
  writer.write([&](const void* data, std::size_t size) { file.write(data, size); });
  file.commit();
}

std::vector<uint8_t> to_safetensors(const TensorMap& tensors, const StringMap& metadata) {
  const SafetensorsWriter writer(tensors, metadata);
  std::vector<uint8_t> bytes;
  bytes.reserve(writer.size());
  writer.write([&](const void* data, std::size_t size) {
    const auto* start = static_cast<const uint8_t*>(data);
    bytes.insert(bytes.end(), start, start + size);
  });
  return bytes;
}

}  // namespace winnow::io

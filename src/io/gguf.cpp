#include "winnow/io/gguf.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <fstream>
#include <utility>

#include "gguf_header.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

constexpr int64_t kValues = 32;  // of a block

float half_at(const uint8_t* bytes) {
  uint16_t bits = 0;
  std::memcpy(&bits, bytes, 2);
  return static_cast<float>(c10::Half(bits, c10::Half::from_bits()));
}

// Each block function writes 32 values. Low nibbles are values 0..15, high ones 16..31.
void q4_0_block(const uint8_t* block, float* out) {
  const float scale = half_at(block);
  for (int i = 0; i < 16; ++i) {
    const int packed = block[2 + i];
    out[i] = scale * static_cast<float>((packed & 15) - 8);
    out[i + 16] = scale * static_cast<float>((packed >> 4) - 8);
  }
}

void q4_1_block(const uint8_t* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int packed = block[4 + i];
    out[i] = scale * static_cast<float>(packed & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(packed >> 4) + minimum;
  }
}

void q8_0_block(const uint8_t* block, float* out) {
  const float scale = half_at(block);
  for (int i = 0; i < kValues; ++i) {
    out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

using BlockFunction = void (*)(const uint8_t*, float*);

BlockFunction block_function(uint32_t type) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::q4_0: return q4_0_block;
    case GgufType::q4_1: return q4_1_block;
    case GgufType::q8_0: return q8_0_block;
    default: return nullptr;
  }
}

at::ScalarType plain_type(uint32_t type) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::f32: return at::kFloat;
    case GgufType::f16: return at::kHalf;
    case GgufType::bf16: return at::kBFloat16;
    case GgufType::f64: return at::kDouble;
    case GgufType::i8: return at::kChar;
    case GgufType::i16: return at::kShort;
    case GgufType::i32: return at::kInt;
    case GgufType::i64: return at::kLong;
    default: return at::ScalarType::Undefined;
  }
}

at::Tensor dequantize(const uint8_t* blocks, const std::vector<int64_t>& shape, BlockFunction function,
                      int64_t block_bytes) {
  auto result = at::empty(shape, at::kFloat);
  auto* const out = result.mutable_data_ptr<float>();
  constexpr int64_t kGrain = 4096;  // blocks: some 100 us
  at::parallel_for(0, result.numel() / kValues, kGrain, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) function(blocks + i * block_bytes, out + i * kValues);
  });
  return result;
}

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  return file.read(magic, 4) && std::memcmp(magic, "GGUF", 4) == 0;
}

GgufFile::GgufFile(const std::filesystem::path& path) : name_(path.string()), metadata_(Json::object(), name_) {
  const auto mapping = std::make_shared<MappedFile>(name_);
  bytes_ = {reinterpret_cast<const uint8_t*>(mapping->data()), static_cast<std::size_t>(mapping->size())};
  owner_ = mapping;
  read();
}

GgufFile::GgufFile(std::vector<uint8_t> bytes, std::string name)
    : name_(std::move(name)), metadata_(Json::object(), name_) {
  const auto held = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
  bytes_ = *held;
  owner_ = held;
  read();
}

void GgufFile::read() {
  auto header = parse_gguf_header(bytes_, name_);
  version_ = header.version;
  metadata_ = JsonObject(std::move(header.metadata), name_);
  entries_ = std::move(header.entries);
}

std::vector<std::string> GgufFile::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : entries_) result.push_back(name);
  return result;
}

at::Tensor GgufFile::tensor(const std::string& tensor) const {
  const auto found = entries_.find(tensor);
  if (found == entries_.end()) {
    fail(ErrorKind::file, "{}: there is no tensor {}{}", name_, printable(tensor), did_you_mean(tensor, names()));
  }
  const auto& entry = found->second;
  const uint8_t* const start = bytes_.data() + entry.begin;
  if (const auto function = block_function(entry.type)) {
    return dequantize(start, entry.shape, function, static_cast<int64_t>(gguf_block(entry.type).bytes));
  }
  const auto type = plain_type(entry.type);
  WINNOW_CHECK_KIND(
      type != at::ScalarType::Undefined, ErrorKind::unsupported,
      "{}: tensor {} is kept as {}; winnow reads F32, F16, BF16, F64, I8, I16, I32, I64, Q4_0, Q4_1 and Q8_0", name_,
      printable(tensor, 120), gguf_type_name(entry.type));
  auto copy = at::empty(entry.shape, type);
  std::memcpy(copy.mutable_data_ptr(), start, entry.end - entry.begin);
  return copy;
}

}  // namespace winnow::io

// A reader of TensorBoard's event files that shares no code with the writer: the checksum goes bit by bit, messages are
// taken apart by the rules of the protobuf wire format.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace winnow::testing {

inline uint32_t slow_masked_crc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <typename T>
T take(const std::string& bytes, std::size_t at) {
  if (at + sizeof(T) > bytes.size()) throw std::runtime_error("event file: short read");
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// The payloads of all records; throws at a wrong checksum or length.
inline std::vector<std::string> read_records(const std::string& file) {
  std::vector<std::string> records;
  for (std::size_t at = 0; at < file.size();) {
    const auto length = take<uint64_t>(file, at);
    if (take<uint32_t>(file, at + 8) != slow_masked_crc32c(file.substr(at, 8)))
      throw std::runtime_error("bad length checksum");
    if (length > file.size() - at - 16) throw std::runtime_error("record too long");
    records.push_back(file.substr(at + 12, length));
    if (take<uint32_t>(file, at + 12 + length) != slow_masked_crc32c(records.back()))
      throw std::runtime_error("bad checksum");
    at += 16 + length;
  }
  return records;
}

// The fields of a message: numbers (varint and fixed) as bits, the rest as bytes.
struct Message {
  std::map<uint64_t, std::vector<uint64_t>> numbers;
  std::map<uint64_t, std::vector<std::string>> strings;

  explicit Message(const std::string& bytes) {
    std::size_t at = 0;
    const auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0;; shift += 7) {
        const auto byte = take<uint8_t>(bytes, at++);
        value |= uint64_t{byte & 0x7fu} << shift;
        if (byte < 0x80) return value;
        if (shift > 56) throw std::runtime_error("varint too long");
      }
    };
    while (at < bytes.size()) {
      const auto key = varint();
      const auto field = key >> 3;
      switch (key & 7) {
        case 0: numbers[field].push_back(varint()); break;
        case 1: numbers[field].push_back(take<uint64_t>(bytes, at)), at += 8; break;
        case 5: numbers[field].push_back(take<uint32_t>(bytes, at)), at += 4; break;
        case 2: {
          const auto length = varint();
          if (length > bytes.size() - at) throw std::runtime_error("field too long");
          strings[field].push_back(bytes.substr(at, length));
          at += length;
          break;
        }
        default: throw std::runtime_error("unknown wire type");
      }
    }
  }
  Message sub(uint64_t field) const { return Message(strings.at(field).at(0)); }
  uint64_t number(uint64_t field) const { return numbers.at(field).at(0); }
  double real(uint64_t field) const {
    const auto bits = number(field);
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
  }
  std::vector<double> reals(uint64_t field) const {
    const auto& packed = strings.at(field).at(0);
    std::vector<double> values(packed.size() / 8);
    std::memcpy(values.data(), packed.data(), values.size() * 8);
    return values;
  }
};

}  // namespace winnow::testing

#include "winnow/io/wav.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/tensor/format.h"

namespace winnow::io {
namespace {

static_assert(std::endian::native == std::endian::little, "WAV samples are copied as they lie");

constexpr uint16_t kPcm = 1, kFloat = 3, kExtensible = 0xfffe;
constexpr uint32_t kToTheEnd = 0xffffffff;
// What follows the format tag in the GUIDs of the extensible header.
constexpr std::array<uint8_t, 14> kGuid = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};

template <typename T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

int64_t bytes_of(WavFormat format) {
  switch (format) {
    case WavFormat::pcm8: return 1;
    case WavFormat::pcm16: return 2;
    case WavFormat::pcm24: return 3;
    case WavFormat::pcm32:
    case WavFormat::float32: return 4;
    case WavFormat::float64: return 8;
  }
  fail(ErrorKind::argument, "WavFormat: must be one of the enum, got {}", static_cast<int>(format));
}

struct Parsed {
  WavInfo info;
  Bytes data;
};

WavFormat format_of(uint16_t tag, int64_t bits, const std::string& name) {
  if (tag == kPcm) {
    switch (bits) {
      case 8: return WavFormat::pcm8;
      case 16: return WavFormat::pcm16;
      case 24: return WavFormat::pcm24;
      case 32: return WavFormat::pcm32;
      default: fail(ErrorKind::file, "{}: PCM must have 8, 16, 24 or 32 bits, got {}", name, bits);
    }
  }
  WINNOW_CHECK_KIND(tag == kFloat, ErrorKind::file, "{}: codec {} is not supported; only PCM and float are", name, tag);
  WINNOW_CHECK_KIND(bits == 32 || bits == 64, ErrorKind::file, "{}: float samples must have 32 or 64 bits, got {}",
                    name, bits);
  return bits == 32 ? WavFormat::float32 : WavFormat::float64;
}

WavInfo parse_format(Bytes chunk, const std::string& name) {
  WINNOW_CHECK_KIND(chunk.size() >= 16, ErrorKind::file, "{}: the fmt chunk must have at least 16 bytes, got {}", name,
                    chunk.size());
  auto tag = load<uint16_t>(chunk.data());
  const auto align = load<uint16_t>(chunk.data() + 12), bits = load<uint16_t>(chunk.data() + 14);
  if (tag == kExtensible) {
    WINNOW_CHECK_KIND(chunk.size() >= 40 && std::equal(kGuid.begin(), kGuid.end(), chunk.data() + 26), ErrorKind::file,
                      "{}: the extensible fmt chunk is corrupted or names an unknown codec", name);
    tag = load<uint16_t>(chunk.data() + 24);
  }
  const WavInfo info{.format = format_of(tag, bits, name),
                     .channels = load<uint16_t>(chunk.data() + 2),
                     .frames = 0,
                     .sample_rate = load<uint32_t>(chunk.data() + 4)};
  WINNOW_CHECK_KIND(info.channels >= 1 && info.channels <= 64, ErrorKind::file,
                    "{}: channels must be in [1, 64], got {}", name, info.channels);
  WINNOW_CHECK_KIND(info.sample_rate >= 1, ErrorKind::file, "{}: the sample rate must be >= 1, got 0", name);
  WINNOW_CHECK_KIND(align == info.channels * bytes_of(info.format), ErrorKind::file,
                    "{}: a frame of {} channels of {} bits must have {} bytes, got {}", name, info.channels, bits,
                    info.channels * bytes_of(info.format), align);
  return info;
}

Parsed parse(Bytes bytes, const std::string& name) {
  WINNOW_CHECK_KIND(!bytes.empty(), ErrorKind::file, "{}: the file is empty", name);
  WINNOW_CHECK_KIND(bytes.size() >= 12 && as_text(bytes.first(4)) == "RIFF" && as_text(bytes.subspan(8, 4)) == "WAVE",
                    ErrorKind::file, "{}: not a RIFF/WAVE file", name);
  Parsed result;
  bool has_format = false;
  for (size_t at = 12; bytes.size() - at >= 8;) {
    const auto id = as_text(bytes.subspan(at, 4));
    const size_t size = load<uint32_t>(bytes.data() + at + 4), rest = bytes.size() - at - 8;
    const bool open = id == "data" && size == kToTheEnd;
    WINNOW_CHECK_KIND(size <= rest || open, ErrorKind::file,
                      "{}: the file ends early: the chunk at byte {} has {} bytes, {} are there", name, at, size, rest);
    const auto chunk = bytes.subspan(at + 8, open ? rest : size);
    if (id == "fmt ") {
      WINNOW_CHECK_KIND(!has_format, ErrorKind::file, "{}: there are two fmt chunks", name);
      result.info = parse_format(chunk, name);
      has_format = true;
    } else if (id == "data") {
      WINNOW_CHECK_KIND(has_format, ErrorKind::file, "{}: the data chunk stands before the fmt chunk", name);
      const auto frame = static_cast<size_t>(result.info.channels * bytes_of(result.info.format));
      WINNOW_CHECK_KIND(open || chunk.size() % frame == 0, ErrorKind::file,
                        "{}: the data must be whole frames of {} bytes, got {} bytes", name, frame, chunk.size());
      result.info.frames = static_cast<int64_t>(chunk.size() / frame);
      result.data = chunk.first(chunk.size() / frame * frame);
      return result;
    }
    at += 8 + chunk.size();
    if (chunk.size() % 2 == 1 && at < bytes.size()) ++at;  // chunks begin at even bytes
  }
  fail(ErrorKind::file, "{}: there is no {} chunk", name, has_format ? "data" : "fmt");
}

// One sample as a float; full scale is 1.
float sample_at(const uint8_t* from, WavFormat format) {
  switch (format) {
    case WavFormat::pcm8: return (static_cast<float>(*from) - 128.0F) / 128.0F;
    case WavFormat::pcm16: return static_cast<float>(load<int16_t>(from)) / 32768.0F;
    case WavFormat::pcm24: {
      const auto top = static_cast<uint32_t>(from[0]) << 8 | static_cast<uint32_t>(from[1]) << 16 |
                       static_cast<uint32_t>(from[2]) << 24;
      return static_cast<float>(static_cast<int32_t>(top) >> 8) / 8388608.0F;
    }
    case WavFormat::pcm32: return static_cast<float>(load<int32_t>(from)) / 2147483648.0F;
    case WavFormat::float32: return load<float>(from);
    case WavFormat::float64: return static_cast<float>(load<double>(from));
  }
  return 0.0F;
}

template <typename T>
void append(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void append_sample(std::string& out, double value, WavFormat format) {
  if (format == WavFormat::float32) return append(out, static_cast<float>(value));
  if (format == WavFormat::float64) return append(out, value);
  const auto bytes = bytes_of(format);
  const double full = std::ldexp(1.0, static_cast<int>(8 * bytes) - 1);
  const double scaled = std::isnan(value) ? 0.0 : std::clamp(std::nearbyint(value * full), -full, full - 1.0);
  if (format == WavFormat::pcm8) return append(out, static_cast<uint8_t>(scaled + 128.0));
  const auto whole = static_cast<int32_t>(scaled);
  char raw[4];
  std::memcpy(raw, &whole, 4);
  out.append(raw, static_cast<size_t>(bytes));
}

// The fmt chunk with its name and size.
std::string format_chunk(int64_t channels, int64_t rate, WavFormat format) {
  const auto bytes = bytes_of(format);
  const bool is_float = format == WavFormat::float32 || format == WavFormat::float64;
  const bool extensible = channels > 2 || bytes > 2;
  const uint16_t tag = is_float ? kFloat : kPcm, bits = static_cast<uint16_t>(8 * bytes);
  std::string out = "fmt ";
  append(out, uint32_t{extensible ? 40U : 16U});
  append(out, extensible ? kExtensible : tag);
  append(out, static_cast<uint16_t>(channels));
  append(out, static_cast<uint32_t>(rate));
  append(out, static_cast<uint32_t>(rate * channels * bytes));
  append(out, static_cast<uint16_t>(channels * bytes));
  append(out, bits);
  if (!extensible) return out;
  append(out, uint16_t{22});
  append(out, bits);
  append(out, channels == 1 ? uint32_t{4} : channels == 2 ? uint32_t{3} : uint32_t{0});  // which speakers
  append(out, tag);
  out.append(reinterpret_cast<const char*>(kGuid.data()), kGuid.size());
  return out;
}

}  // namespace

Sound read_wav(const std::filesystem::path& path, const WavOptions& options) {
  const MappedFile file(path.string());
  return read_wav(as_bytes(file.text()), options, path.string());
}

Sound read_wav(Bytes bytes, const WavOptions& options, const std::string& name) {
  const auto [info, data] = parse(bytes, name);
  WINNOW_CHECK_KIND(info.frames <= options.max_samples / info.channels, ErrorKind::file,
                    "{}: {} frames of {} channels are more than {} samples", name, info.frames, info.channels,
                    options.max_samples);
  Sound sound{.samples = at::empty({info.channels, info.frames}, at::kFloat), .sample_rate = info.sample_rate};
  auto* to = sound.samples.mutable_data_ptr<float>();
  const auto width = bytes_of(info.format);
  const auto* from = data.data();
  for (int64_t i = 0; i < info.frames; ++i) {
    for (int64_t c = 0; c < info.channels; ++c, from += width) {
      to[c * info.frames + i] = sample_at(from, info.format);
    }
  }
  return sound;
}

WavInfo wav_info(const std::filesystem::path& path) {
  const MappedFile file(path.string());
  return wav_info(as_bytes(file.text()), path.string());
}

WavInfo wav_info(Bytes bytes, const std::string& name) {
  return parse(bytes, name).info;
}

std::string encode_wav(const Sound& sound, WavFormat format) {
  const auto& samples = sound.samples;
  WINNOW_CHECK(samples.defined() && (samples.dim() == 1 || samples.dim() == 2) &&
                   (samples.scalar_type() == at::kFloat || samples.scalar_type() == at::kDouble),
               "write_wav: samples must be [frames] or [channels, frames] of float32 or float64, got {}", samples);
  const auto channels = samples.dim() == 1 ? 1 : samples.size(0), frames = samples.size(-1);
  WINNOW_CHECK(channels >= 1 && channels <= 64, "write_wav: channels must be in [1, 64], got {}", channels);
  WINNOW_CHECK(sound.sample_rate >= 1 && sound.sample_rate <= 10'000'000,
               "write_wav: sample_rate must be in [1, 10000000], got {}", sound.sample_rate);
  const auto size = frames * channels * bytes_of(format);
  WINNOW_CHECK(size < std::numeric_limits<uint32_t>::max() - 100,
               "write_wav: samples must fit a file of 4 GiB, got {} bytes", size);
  const auto wide = samples.detach().cpu().to(at::kDouble).reshape({channels, frames}).contiguous();
  const auto* from = wide.const_data_ptr<double>();

  const auto header = format_chunk(channels, sound.sample_rate, format);
  const auto padding = size % 2;
  std::string out = "RIFF";
  out.reserve(static_cast<size_t>(size) + 80);
  append(out, static_cast<uint32_t>(4 + static_cast<int64_t>(header.size()) + 8 + size + padding));
  out += "WAVE";
  out += header;
  out += "data";
  append(out, static_cast<uint32_t>(size));
  for (int64_t i = 0; i < frames; ++i) {
    for (int64_t c = 0; c < channels; ++c) append_sample(out, from[c * frames + i], format);
  }
  out.append(static_cast<size_t>(padding), '\0');
  return out;
}

void write_wav(const std::filesystem::path& path, const Sound& sound, WavFormat format) {
  const auto bytes = encode_wav(sound, format);
  AtomicFile file(path.string());
  file.write(bytes);
  file.commit();
}

}  // namespace winnow::io

#include "winnow/io/tensorboard.h"

#include <ATen/ops/histc.h>
#include <ATen/ops/isfinite.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <vector>

#include "append_file.h"
#include "winnow/core/crc32c.h"
#include "winnow/core/error.h"
#include "winnow/io/png.h"
#include "winnow/tensor/format.h"

namespace winnow::io {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{1} << 18;

void put_fixed(std::string& out, uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(0x80 | (value & 0x7f)));
  out.push_back(static_cast<char>(value));
}

// Fields of the protobuf wire format: the key is number * 8 + wire type.
void put_integer(std::string& out, uint64_t number, int64_t value) {
  put_varint(out, number << 3);
  put_varint(out, static_cast<uint64_t>(value));
}
void put_double(std::string& out, uint64_t number, double value) {
  put_varint(out, number << 3 | 1);
  put_fixed(out, std::bit_cast<uint64_t>(value), 8);
}
void put_bytes(std::string& out, uint64_t number, std::string_view value) {
  put_varint(out, number << 3 | 2);
  put_varint(out, value.size());
  out.append(value);
}
void put_float(std::string& out, uint64_t number, float value) {
  put_varint(out, number << 3 | 5);
  put_fixed(out, std::bit_cast<uint32_t>(value), 4);
}
void put_doubles(std::string& out, uint64_t number, const std::vector<double>& values) {
  std::string packed;
  for (const auto value : values) put_fixed(packed, std::bit_cast<uint64_t>(value), 8);
  put_bytes(out, number, packed);
}

// Event { wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7 };
// Summary { value = 1 { tag = 1, simple_value = 2, image = 4, histo = 5, tensor = 8, metadata = 9 } }.
enum EventField : uint64_t { kFileVersion = 3, kSummary = 5, kSessionLog = 7 };

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path new_path(const std::filesystem::path& folder, const std::string& suffix) {
  static std::atomic<int> count{0};
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return folder / fmt::format("events.out.tfevents.{:010}.{}.{}.{}{}", static_cast<int64_t>(now()),
                              host[0] == '\0' ? "localhost" : host.data(), ::getpid(), count++, suffix);
}

}  // namespace

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, const TensorBoardOptions& options) {
  WINNOW_CHECK(options.suffix.find('/') == std::string::npos, "TensorBoardWriter: suffix must not hold '/', got {}",
               options.suffix);
  file_ = std::make_unique<AppendFile>(new_path(folder, options.suffix), AppendFile::Mode::create_new);
  std::string version;
  put_bytes(version, kFileVersion, "brain.Event:2");
  event(version, std::nullopt);
  if (options.purge_step) {
    std::string start, field;
    put_integer(start, 1, 1);  // SessionLog.status = START: TensorBoard drops older events from this step on
    put_bytes(field, kSessionLog, start);
    event(field, options.purge_step);
  }
  flush();
}

TensorBoardWriter::~TensorBoardWriter() {
  try {
    flush();
  } catch (const std::exception&) {
    // A destructor has no way to say it; who must know calls flush().
  }
}

const std::filesystem::path& TensorBoardWriter::path() const {
  return file_->path();
}

void TensorBoardWriter::event(const std::string& body, std::optional<int64_t> step) {
  std::string message;
  put_double(message, 1, now());
  if (step) put_integer(message, 2, *step);
  message += body;
  std::string length;
  put_fixed(length, message.size(), 8);
  pending_ += length;
  put_fixed(pending_, masked_crc32c(length.data(), length.size()), 4);
  pending_ += message;
  put_fixed(pending_, masked_crc32c(message.data(), message.size()), 4);
  if (pending_.size() >= kFlushBytes) flush();
}

void TensorBoardWriter::value(const std::string& tag, const std::string& fields, int64_t step) {
  std::string entry, summary, body;
  put_bytes(entry, 1, tag);
  entry += fields;
  put_bytes(summary, 1, entry);
  put_bytes(body, kSummary, summary);
  event(body, step);
}

void TensorBoardWriter::flush() {
  const auto piece = std::exchange(pending_, {});
  file_->write(piece);
}

void TensorBoardWriter::scalar(const std::string& tag, double scalar, int64_t step) {
  std::string fields;
  put_float(fields, 2, static_cast<float>(scalar));
  value(tag, fields, step);
}

void TensorBoardWriter::image(const std::string& tag, const at::Tensor& image, int64_t step) {
  WINNOW_CHECK(image.defined() && image.dim() == 3, "TensorBoardWriter: image must be uint8 [H, W, C], got {}", image);
  const auto png = encode_png(image);
  std::string fields, picture;  // Image { height = 1, width = 2, colorspace = 3 (channels), encoded_image_string = 4 }
  put_integer(picture, 1, image.size(0));
  put_integer(picture, 2, image.size(1));
  put_integer(picture, 3, image.size(2));
  put_bytes(picture, 4, as_text(png));
  put_bytes(fields, 4, picture);
  value(tag, fields, step);
}

void TensorBoardWriter::text(const std::string& tag, const std::string& markdown, int64_t step) {
  std::string fields, tensor, shape, size, metadata, plugin;
  put_integer(size, 1, 1);         // TensorShapeProto.Dim.size
  put_bytes(shape, 2, size);       // TensorShapeProto.dim
  put_integer(tensor, 1, 7);       // TensorProto.dtype = DT_STRING
  put_bytes(tensor, 2, shape);     // TensorProto.tensor_shape
  put_bytes(tensor, 8, markdown);  // TensorProto.string_val
  put_bytes(plugin, 1, "text");    // SummaryMetadata.plugin_data.plugin_name
  put_bytes(metadata, 1, plugin);
  put_bytes(fields, 8, tensor);
  put_bytes(fields, 9, metadata);
  value(tag, fields, step);
}

void TensorBoardWriter::histogram(const std::string& tag, const at::Tensor& values, int64_t step, int64_t bins) {
  WINNOW_CHECK(bins >= 1, "TensorBoardWriter: bins must be >= 1, got {}", bins);
  WINNOW_CHECK(values.defined() && !values.is_complex(), "TensorBoardWriter: values must be real numbers, got {}",
               values);
  const auto all = values.detach().cpu().to(at::kDouble).reshape({-1});
  const auto finite = all.masked_select(at::isfinite(all));
  const bool any = finite.numel() > 0;
  const double low = any ? finite.min().item<double>() : 0.0, high = any ? finite.max().item<double>() : 0.0;
  // Equal values still need a bin of some width.
  const double end = high > low ? high : low + std::max(1e-12, std::abs(low) * 1e-6);

  std::vector<double> limits, counts;
  const auto filled = any ? at::histc(finite, bins, low, end) : at::Tensor();
  for (int64_t i = 0; i < bins; ++i) {
    limits.push_back(i + 1 == bins ? end : low + (end - low) * static_cast<double>(i + 1) / static_cast<double>(bins));
    counts.push_back(any ? filled[i].item<double>() : 0.0);
  }
  std::string fields, histogram;  // HistogramProto { min = 1, max, num, sum, sum_squares, bucket_limit, bucket = 7 }
  put_double(histogram, 1, low);
  put_double(histogram, 2, high);
  put_double(histogram, 3, static_cast<double>(finite.numel()));
  put_double(histogram, 4, any ? finite.sum().item<double>() : 0.0);
  put_double(histogram, 5, any ? finite.square().sum().item<double>() : 0.0);
  put_doubles(histogram, 6, limits);
  put_doubles(histogram, 7, counts);
  put_bytes(fields, 5, histogram);
  value(tag, fields, step);
}

}  // namespace winnow::io

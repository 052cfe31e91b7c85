// Event files that TensorBoard shows: scalars, images, text, histograms. No protobuf library is needed.
//
// A file is a row of records: length (8 bytes, little-endian), masked CRC-32C of the length, an Event message, masked
// CRC-32C of the message. Sources: TensorFlow's record format; event.proto and summary.proto.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace winnow::io {

class AppendFile;

struct TensorBoardOptions {
  std::string suffix{};                 // after the file's name, to tell files of one folder apart
  std::optional<int64_t> purge_step{};  // a resumed run: what earlier files say from this step on is not shown
};

// Writes one new file events.out.tfevents.* in a folder (made if missing). Every call appends whole records; what was
// flushed stays readable whatever happens to the process. Not thread safe. Throws Error(file) if the disk refuses.
class TensorBoardWriter {
 public:
  explicit TensorBoardWriter(const std::filesystem::path& folder, const TensorBoardOptions& options = {});
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;
  ~TensorBoardWriter();

  void scalar(const std::string& tag, double value, int64_t step);  // stored as float32
  // uint8 [H, W, C] with C in 1..4, stored as PNG.
  void image(const std::string& tag, const at::Tensor& image, int64_t step);
  void text(const std::string& tag, const std::string& markdown, int64_t step);
  // The distribution of all entries (any shape, real numbers) in `bins` equal bins; NaN and infinities are left out.
  void histogram(const std::string& tag, const at::Tensor& values, int64_t step, int64_t bins = 64);
  // Hands everything to the operating system; the destructor does it too.
  void flush();

  [[nodiscard]] const std::filesystem::path& path() const;

 private:
  void event(const std::string& body, std::optional<int64_t> step);
  void value(const std::string& tag, const std::string& fields, int64_t step);

  std::unique_ptr<AppendFile> file_;
  std::string pending_;
};

}  // namespace winnow::io

// Sound as networks take it: resampling and the log-mel front end of Whisper.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/io/json.h"

namespace winnow::data {

// samples [..., frames] at one rate -> [..., ceil(frames * to / from)] at another: a polyphase filter of
// Kaiser-windowed sincs (64 zero crossings on each side at the lower rate; flat to 0.87 of the lower Nyquist frequency,
// under -110 dB from it on); zeros before and after. Output sample i stands at time i / to. Equal rates give the
// samples themselves. float32 or float64, differentiable. Throws winnow::Error for a rate outside [1, 10^7] or a ratio
// whose filter would pass 2^24 taps (two large rates without a common factor).
at::Tensor resample_audio(const at::Tensor& samples, int64_t from, int64_t to);

// [channels, frames] -> [frames]: the mean of the channels.
at::Tensor to_mono(const at::Tensor& samples);

// Slaney's mel scale: linear below 1 kHz, logarithmic above (as the Auditory Toolbox and librosa have it).
double hertz_to_mel(double hertz);
double mel_to_hertz(double mel);

// [mels, bins], float64: overlapping triangles equally wide in mel between `low` and `high` hertz, each of area 1
// (divided by half its width in hertz); bins are equally spaced from 0 to sample_rate / 2.
at::Tensor mel_filters(int64_t mels, int64_t bins, double low, double high, int64_t sample_rate);

struct LogMelOptions {
  int64_t sampling_rate = 16000;
  int64_t feature_size = 80;  // mel bands
  int64_t hop_length = 160;   // frames between two columns
  int64_t n_fft = 400;        // Hann window and transform
  int64_t chunk_length = 30;  // seconds that a sound is cut or filled up to
  double padding_value = 0.0;
  bool do_normalize = false;  // zero mean and unit variance of the real samples first
  double dither = 0.0;        // deviation of noise added to the samples
  uint64_t seed = 0;          // of that noise
  static Fields<LogMelOptions> fields();
};

// Reads preprocessor_config.json (or a folder that holds one) of WhisperFeatureExtractor; absent keys keep the defaults
// above. Its mel_filters, where a file carries them, are not read, as the official code does not: they are computed.
// Throws Error(file) for a wrong type or size, Error(unsupported) for another feature extractor.
LogMelOptions read_log_mel_options(const std::filesystem::path& path);
LogMelOptions parse_log_mel_options(const io::JsonObject& config);

struct LogMelFeatures {
  at::Tensor features;  // [B, feature_size, columns] float32
  at::Tensor keep;      // [B, columns] int64: 1 = over real samples
};

// What Whisper's encoder takes (Radford et al. 2022, arXiv 2212.04356, section 2.2; numbers as WhisperFeatureExtractor
// of transformers). An object holds window and filters and may be used by several threads.
class LogMel {
 public:
  explicit LogMel(LogMelOptions options = {});  // throws winnow::Error on options out of range

  // Power spectrum (centred windows, reflected ends) through the filters, log10 with a floor of 1e-10, cut 8 below the
  // largest value of each sound, (x + 4) / 4: waveform [..., frames] -> [..., feature_size, frames / hop_length].
  // frames must be above n_fft / 2.
  [[nodiscard]] at::Tensor spectrogram(const at::Tensor& waveform) const;

  // Sounds [frames] at sampling_rate, each cut or filled up to chunk_length seconds.
  [[nodiscard]] LogMelFeatures operator()(const std::vector<at::Tensor>& sounds) const;

  [[nodiscard]] const LogMelOptions& options() const { return options_; }
  [[nodiscard]] const at::Tensor& filters() const { return filters_; }  // [feature_size, n_fft / 2 + 1] float32

 private:
  LogMelOptions options_;
  at::Tensor window_, filters_;
};

}  // namespace winnow::data

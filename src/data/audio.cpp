#include "winnow/data/audio.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow::data {
namespace {

constexpr int64_t kMaxRate = 10'000'000, kMaxTaps = int64_t{1} << 24;
constexpr double kZeroCrossings = 64, kCutoff = 0.938, kKaiserBeta = 12.3;

// The filter of each phase: [up, 2 * width + down]. Tap k of phase p weighs the input sample k - width behind the one
// that stands `down` times the output's group before; it stands k - width - p down / up from the output sample.
at::Tensor resampling_filter(int64_t up, int64_t down, int64_t width, double cutoff) {
  const auto taps = at::arange(-width, width + down, at::kDouble);
  const auto phases = at::arange(up, at::kDouble) * (static_cast<double>(down) / static_cast<double>(up));
  const auto time = taps.unsqueeze(0) - phases.unsqueeze(1);
  const auto place = time * (cutoff / kZeroCrossings);  // [-1, 1] inside the window
  const auto inside = (1.0 - place.square()).clamp_min(0.0).sqrt();
  const auto window =
      at::special_i0(inside * kKaiserBeta) / at::special_i0(at::scalar_tensor(kKaiserBeta, at::kDouble));
  return at::sinc(time * cutoff) * cutoff * window.masked_fill(place.abs() > 1.0, 0.0);
}

}  // namespace

at::Tensor resample_audio(const at::Tensor& samples, int64_t from, int64_t to) {
  WINNOW_CHECK(samples.defined() && samples.dim() >= 1 &&
                   (samples.scalar_type() == at::kFloat || samples.scalar_type() == at::kDouble),
               "resample_audio: samples must be [..., frames] of float32 or float64, got {}", samples);
  for (const auto& [name, rate] : {std::pair{"from", from}, std::pair{"to", to}}) {
    WINNOW_CHECK(rate >= 1 && rate <= kMaxRate, "resample_audio: {} must be in [1, {}], got {}", name, kMaxRate, rate);
  }
  const auto common = std::gcd(from, to), up = to / common, down = from / common;
  if (up == down) return samples;
  const double cutoff = kCutoff * std::min(1.0, static_cast<double>(up) / static_cast<double>(down));
  const auto width = static_cast<int64_t>(std::ceil(kZeroCrossings / cutoff));
  WINNOW_CHECK(2 * width + down <= kMaxTaps / up,
               "resample_audio: {} to {} Hz needs a filter of {} phases of {} taps; the most is {} taps", from, to, up,
               2 * width + down, kMaxTaps);
  const auto frames = samples.size(-1), wanted = (frames * up + down - 1) / down;
  auto sizes = samples.sizes().vec();
  sizes.back() = wanted;
  if (samples.numel() == 0) return at::zeros(sizes, samples.options());
  const auto filter = resampling_filter(up, down, width, cutoff).to(samples.options()).unsqueeze(1);
  const auto rows = at::constant_pad_nd(samples.reshape({-1, 1, frames}), {width, width + down});
  const auto phases = at::conv1d(rows, filter, {}, /*stride=*/down);  // [N, up, groups]
  return phases.transpose(1, 2).flatten(1).narrow(1, 0, wanted).reshape(sizes);
}

at::Tensor to_mono(const at::Tensor& samples) {
  check_dim("to_mono: samples", samples, 2);
  WINNOW_CHECK(samples.size(0) >= 1, "to_mono: samples must have at least one channel, got none");
  return samples.size(0) == 1 ? samples[0] : samples.mean(0);
}

double hertz_to_mel(double hertz) {
  return hertz < 1000.0 ? 3.0 * hertz / 200.0 : 15.0 + std::log(hertz / 1000.0) * 27.0 / std::log(6.4);
}

double mel_to_hertz(double mel) {
  return mel < 15.0 ? 200.0 * mel / 3.0 : 1000.0 * std::exp((mel - 15.0) * std::log(6.4) / 27.0);
}

at::Tensor mel_filters(int64_t mels, int64_t bins, double low, double high, int64_t sample_rate) {
  WINNOW_CHECK(mels >= 1 && bins >= 2, "mel_filters: mels must be >= 1 and bins >= 2, got {} and {}", mels, bins);
  WINNOW_CHECK(low >= 0 && high > low, "mel_filters: low must be >= 0 and high above it, got {} and {}", low, high);
  WINNOW_CHECK(sample_rate >= 2, "mel_filters: sample_rate must be >= 2, got {}", sample_rate);
  const double first = hertz_to_mel(low), step = (hertz_to_mel(high) - first) / static_cast<double>(mels + 1);
  std::vector<double> edges;
  for (int64_t i = 0; i < mels + 2; ++i) edges.push_back(mel_to_hertz(first + step * static_cast<double>(i)));
  auto filters = at::zeros({mels, bins}, at::kDouble);
  auto cells = filters.accessor<double, 2>();
  const double spacing = static_cast<double>(sample_rate / 2) / static_cast<double>(bins - 1);
  for (int64_t m = 0; m < mels; ++m) {
    const auto i = static_cast<size_t>(m);
    const double left = edges[i], peak = edges[i + 1], right = edges[i + 2];
    for (int64_t b = 0; b < bins; ++b) {
      const double f = spacing * static_cast<double>(b);
      const double height = std::min((f - left) / (peak - left), (right - f) / (right - peak));
      cells[m][b] = std::max(0.0, height) * 2.0 / (right - left);
    }
  }
  return filters;
}

Fields<LogMelOptions> LogMelOptions::fields() {
  return Fields<LogMelOptions>("LogMel")
      .add("sampling_rate", &LogMelOptions::sampling_rate, "frames a second", at_least(2))
      .add("feature_size", &LogMelOptions::feature_size, "mel bands", at_least(1))
      .add("hop_length", &LogMelOptions::hop_length, "frames between two columns", at_least(1))
      .add("n_fft", &LogMelOptions::n_fft, "window and transform", at_least(2))
      .add("chunk_length", &LogMelOptions::chunk_length, "seconds", at_least(1))
      .add("padding_value", &LogMelOptions::padding_value, "of what is filled up")
      .add("do_normalize", &LogMelOptions::do_normalize, "zero mean and unit variance first")
      .add("dither", &LogMelOptions::dither, "deviation of added noise", at_least(0))
      .add("seed", &LogMelOptions::seed, "of that noise");
}

LogMelOptions read_log_mel_options(const std::filesystem::path& path) {
  return parse_log_mel_options(
      io::JsonObject::read(std::filesystem::is_directory(path) ? path / "preprocessor_config.json" : path));
}

LogMelOptions parse_log_mel_options(const io::JsonObject& json) {
  const auto kind = json.get_or<std::string>("feature_extractor_type", "WhisperFeatureExtractor");
  WINNOW_CHECK_KIND(kind == "WhisperFeatureExtractor", ErrorKind::unsupported,
                    "{}: feature_extractor_type must be WhisperFeatureExtractor, got {}", json.file(), kind);
  const auto side = json.get_or<std::string>("padding_side", "right");
  WINNOW_CHECK_KIND(side == "right", ErrorKind::unsupported, "{}: padding_side must be right, got {}", json.file(),
                    side);
  LogMelOptions o;
  const auto size = [&](const char* key, int64_t& member) {
    member = json.get_or<int64_t>(key, member);
    WINNOW_CHECK_KIND(member >= 1 && member <= (int64_t{1} << 24), ErrorKind::file, "{}: {} must be in [1, {}], got {}",
                      json.file(), key, int64_t{1} << 24, member);
  };
  size("sampling_rate", o.sampling_rate);
  size("feature_size", o.feature_size);
  size("hop_length", o.hop_length);
  size("n_fft", o.n_fft);
  size("chunk_length", o.chunk_length);
  o.padding_value = json.get_or<double>("padding_value", o.padding_value);
  o.do_normalize = json.get_or<bool>("do_normalize", o.do_normalize);
  o.dither = json.get_or<double>("dither", o.dither);
  return o;
}

LogMel::LogMel(LogMelOptions options) : options_(options) {
  check(options_);
  const auto& o = options_;
  WINNOW_CHECK(o.chunk_length * o.sampling_rate > o.n_fft / 2,
               "LogMel: a chunk of {} s at {} Hz must be longer than half a window of {} frames", o.chunk_length,
               o.sampling_rate, o.n_fft);
  window_ = at::hann_window(o.n_fft, at::kFloat);  // periodic
  // The upper edge is 8 kHz whatever the rate, as in the published front end.
  filters_ = mel_filters(o.feature_size, o.n_fft / 2 + 1, 0.0, 8000.0, o.sampling_rate).to(at::kFloat);
}

at::Tensor LogMel::spectrogram(const at::Tensor& waveform) const {
  const auto& o = options_;
  check_floating("LogMel: waveform", waveform);
  WINNOW_CHECK(waveform.dim() >= 1 && waveform.size(-1) > o.n_fft / 2,
               "LogMel: waveform must have more than {} frames, got shape {}", o.n_fft / 2, waveform.sizes());
  const at::NoGradGuard no_grad;
  const auto frames = waveform.size(-1), half = o.n_fft / 2;
  auto rows = waveform.to(at::kFloat).reshape({-1, 1, frames});
  rows = at::reflection_pad1d(rows, {half, half}).squeeze(1);
  const auto spectrum = at::stft(rows, o.n_fft, o.hop_length, o.n_fft, window_.to(rows.device()), /*normalized=*/false,
                                 /*onesided=*/true, /*return_complex=*/true);  // [N, bins, columns + 1]
  const auto power = spectrum.slice(2, 0, -1).abs().square();
  auto log_mel = at::matmul(filters_.to(rows.device()), power).clamp_min(1e-10).log10();
  log_mel = at::maximum(log_mel, log_mel.amax({1, 2}, /*keepdim=*/true) - 8.0);
  auto sizes = waveform.sizes().vec();
  sizes.back() = log_mel.size(1);
  sizes.push_back(log_mel.size(2));
  return ((log_mel + 4.0) / 4.0).reshape(sizes);
}

LogMelFeatures LogMel::operator()(const std::vector<at::Tensor>& sounds) const {
  const auto& o = options_;
  WINNOW_CHECK(!sounds.empty(), "LogMel: sounds must not be empty");
  const auto length = o.chunk_length * o.sampling_rate, columns = length / o.hop_length;
  const auto count = static_cast<int64_t>(sounds.size());
  auto filled = at::full({count, length}, o.padding_value, at::kFloat);
  auto keep = at::zeros({count, columns}, at::kLong);
  for (int64_t i = 0; i < count; ++i) {
    const auto& sound = sounds[static_cast<size_t>(i)];
    check_floating("LogMel: sound", sound);
    check_dim("LogMel: sound", sound, 1);
    WINNOW_CHECK(sound.size(0) >= 1, "LogMel: sound must have at least one frame, got none");
    const auto real = std::min(sound.size(0), length);
    auto part = sound.detach().narrow(0, 0, real).to(at::kCPU, at::kFloat);
    if (o.do_normalize) part = (part - part.mean()) / (part.var(/*unbiased=*/false) + 1e-7).sqrt();
    filled[i].narrow(0, 0, real).copy_(part);
    keep[i].narrow(0, 0, std::min(columns, (real + o.hop_length - 1) / o.hop_length)).fill_(1);
  }
  if (o.dither > 0) filled += o.dither * at::randn(filled.sizes(), make_generator(o.seed), filled.options());
  return {.features = spectrogram(filled), .keep = keep};
}

}  // namespace winnow::data

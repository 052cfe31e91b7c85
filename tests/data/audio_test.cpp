#include "winnow/data/audio.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/atomic_file.h"
#include "winnow/tensor/generator.h"

namespace winnow::data {
namespace {

at::Tensor tone(double hertz, int64_t rate, int64_t frames, at::ScalarType dtype = at::kDouble) {
  const auto time = at::arange(frames, at::kDouble) / static_cast<double>(rate);
  return (time * (2 * std::numbers::pi * hertz)).sin().to(dtype);
}

// Away from the ends, where zeros begin.
at::Tensor inner(const at::Tensor& x) {
  return x.narrow(-1, x.size(-1) / 4, x.size(-1) / 2);
}

struct Rates {
  int64_t from, to;
};
constexpr Rates kRates[] = {{44100, 16000}, {8000, 16000}, {48000, 16000}, {16000, 22050}, {3, 7}, {7, 3}};

TEST(Resample, AToneInThePassBandStaysThatTone) {
  for (const auto [from, to] : kRates) {
    const double nyquist = static_cast<double>(std::min(from, to)) / 2;
    for (const double part : {0.01, 0.5, 0.86}) {
      const auto out = resample_audio(tone(part * nyquist, from, 4096), from, to);
      ASSERT_EQ(out.size(0), (4096 * to + from - 1) / from);
      EXPECT_TENSOR_NEAR(inner(out), inner(tone(part * nyquist, to, out.size(0))), 1e-5) << from << " " << to;
    }
  }
}

TEST(Resample, WhatTheLowerRateCannotHoldIsGone) {
  for (const auto [from, to] : kRates) {
    if (to >= from) continue;
    const double nyquist = static_cast<double>(to) / 2;
    for (const double part : {1.0, 1.1, 1.9}) {
      const auto out = resample_audio(tone(part * nyquist, from, 8192), from, to);
      EXPECT_LT(inner(out).abs().max().item<double>(), 3e-6) << from << " " << to << " " << part;
    }
  }
}

TEST(Resample, ConstantsStayAndShapesOfAnyRankAreKept) {
  const auto ones = at::ones({2, 3, 2000}, at::kDouble);
  const auto out = resample_audio(ones, 44100, 16000);
  EXPECT_EQ(out.sizes(), (std::vector<int64_t>{2, 3, 726}));
  EXPECT_TENSOR_NEAR(inner(out), at::ones_like(inner(out)), 1e-5);
  EXPECT_TRUE(resample_audio(ones, 5, 5).is_same(ones));
  EXPECT_EQ(resample_audio(at::zeros({2, 0}), 2, 1).sizes(), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(resample_audio(at::zeros({1}), 1, 3).sizes(), (std::vector<int64_t>{3}));
}

TEST(Resample, Float32AgreesWithFloat64) {
  const auto x = at::randn({3000}, make_generator(1), at::kDouble);
  EXPECT_TENSOR_NEAR(resample_audio(x.to(at::kFloat), 44100, 16000), resample_audio(x, 44100, 16000), 3e-6);
}

TEST(Resample, ErrorsNameTheRate) {
  const auto x = at::zeros({10});
  EXPECT_ERROR(resample_audio(x, 0, 1), "resample_audio: from must be in [1, 10000000], got 0");
  EXPECT_ERROR(resample_audio(x, 1, 20'000'000), "resample_audio: to must be in [1, 10000000], got 20000000");
  EXPECT_ERROR(resample_audio(x, 44101, 48000), "resample_audio: 44101 to 48000 Hz needs a filter of 48000 phases");
  EXPECT_ERROR(resample_audio(at::zeros({1}, at::kLong), 1, 2), "resample_audio: samples must be [..., frames]");
  EXPECT_ERROR(to_mono(at::zeros({0, 4})), "to_mono: samples must have at least one channel");
}

TEST(ToMono, IsTheMeanOfTheChannels) {
  EXPECT_TENSOR_EQ(to_mono(at::tensor({1.0F, 2.0F, 3.0F, 6.0F}).view({2, 2})), at::tensor({2.0F, 4.0F}));
}

TEST(MelScale, IsLinearToOneKilohertzAndLogarithmicAbove) {
  EXPECT_DOUBLE_EQ(hertz_to_mel(0), 0);
  EXPECT_DOUBLE_EQ(hertz_to_mel(500), 7.5);
  EXPECT_DOUBLE_EQ(hertz_to_mel(1000), 15);
  EXPECT_NEAR(hertz_to_mel(6400), 42, 1e-12);  // 27 steps are a factor of 6.4
  for (const double mel : {0.0, 3.0, 15.0, 20.5, 45.0}) EXPECT_NEAR(hertz_to_mel(mel_to_hertz(mel)), mel, 1e-12);
}

// The 80 bands of Whisper: mel of 8 kHz is 45.245640471924965, so a band is 0.5585881... mel wide.
TEST(MelFilters, AreTrianglesOfAreaOne) {
  const auto filters = mel_filters(80, 201, 0, 8000, 16000);
  EXPECT_EQ(filters.sizes(), (std::vector<int64_t>{80, 201}));
  const double band = 45.245640471924965 / 81, width = 200.0 * band / 3;  // hertz, below 1 kHz
  EXPECT_NEAR(width, 37.2392, 1e-4);
  // Bin 1 (40 Hz) lies on the falling side of the first triangle, whose height is 1 / width.
  EXPECT_NEAR(filters[0][1].item<double>(), (2 * width - 40) / width / width, 1e-12);
  EXPECT_NEAR(filters[0][1].item<float>(), 0.0248626, 1e-7);
  EXPECT_EQ(filters[0][0].item<double>(), 0.0);
  EXPECT_EQ(filters[0][2].item<double>(), 0.0);
  EXPECT_EQ(filters.min().item<double>(), 0.0);
  // Sampled finely, each is a density over hertz.
  const auto fine = mel_filters(80, 80001, 0, 8000, 16000).sum(1) * 0.1;
  EXPECT_TENSOR_NEAR(fine, at::ones({80}, at::kDouble), 1e-4);
}

// Bin k of a Hann window's transform holds a quarter of (n a)^2 / 4 for a tone of amplitude a at that bin, its two
// neighbours a sixteenth: the known spectrum of the window.
TEST(LogMel, APureToneHasTheEnergyOfItsWindow) {
  LogMelOptions options;
  const LogMel front(options);
  const double hertz = 40.0 * 25;  // the middle of bin 25
  const auto power = at::zeros({201}, at::kDouble);
  const double amplitude = 0.25, whole = std::pow(400 * amplitude / 4, 2);
  power[25] = whole;
  power[24] = power[26] = whole / 4;
  const auto mel = at::matmul(mel_filters(80, 201, 0, 8000, 16000), power);
  auto wanted = mel.clamp_min(1e-10).log10();
  wanted = (at::maximum(wanted, wanted.max() - 8.0) + 4) / 4;
  const auto got = front.spectrogram((tone(hertz, 16000, 16000) * amplitude).to(at::kFloat));
  EXPECT_EQ(got.sizes(), (std::vector<int64_t>{80, 100}));
  EXPECT_TENSOR_NEAR(got.select(1, 50), wanted, 1e-3);
}

// Parseval: with filters that only add all bins, the power of white noise is the window's energy times the variance.
TEST(LogMel, PowerOfNoiseIsThatOfTheWindow) {
  const LogMel front;
  const auto noise = at::randn({160000}, make_generator(3)) * 0.1;
  const auto power = at::pow(10.0, front.spectrogram(noise).to(at::kDouble) * 4 - 4);  // [80, 1000]
  // A filter of area one per hertz over bins 40 Hz apart sums to 1 / 40; |X|^2 has the mean 0.01 * 150 (sum of the
  // squared window).
  const auto mean = power.mean(1).narrow(0, 60, 20).mean().item<double>();
  EXPECT_NEAR(mean, 0.01 * 150 / 40, 0.02 * 0.01 * 150 / 40);
}

TEST(LogMel, SilenceIsFlatAndTheRangeIsTwo) {
  const LogMel front;
  EXPECT_TENSOR_NEAR(front.spectrogram(at::zeros({1600})), at::full({80, 10}, -1.5), 1e-6);  // (log10(1e-10) + 4) / 4
  const auto x = front.spectrogram(at::randn({2, 3200}, make_generator(1)) * at::tensor({1.0F, 1e-3F}).view({2, 1}));
  EXPECT_EQ(x.sizes(), (std::vector<int64_t>{2, 80, 20}));
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_LE((x[i].max() - x[i].min()).item<double>(), 2.0 + 1e-6);  // each sound by its own largest value
  }
}

TEST(LogMel, FillsAndCutsToTheChunkAndMarksWhatIsReal) {
  const LogMel front(LogMelOptions{.chunk_length = 1});
  const auto sound = at::randn({20000}, make_generator(2));
  const auto out = front({sound, sound.narrow(0, 0, 1000)});
  EXPECT_EQ(out.features.sizes(), (std::vector<int64_t>{2, 80, 100}));
  EXPECT_TENSOR_NEAR(out.features[0], front.spectrogram(sound.narrow(0, 0, 16000)), 1e-6);
  EXPECT_EQ(out.keep[0].sum().item<int64_t>(), 100);
  EXPECT_EQ(out.keep[1].sum().item<int64_t>(), 7);  // 1000 / 160, rounded up
}

TEST(LogMel, NormalizationMakesLoudnessIrrelevantAndDitherIsSeeded) {
  const auto sound = at::randn({8000}, make_generator(2));
  const LogMel front(LogMelOptions{.chunk_length = 1, .do_normalize = true});
  EXPECT_TENSOR_NEAR(front({sound}).features, front({sound * 7 + 0.5}).features, 1e-4);
  const auto dithered = [&](uint64_t seed) {
    return LogMel(LogMelOptions{.chunk_length = 1, .dither = 0.01, .seed = seed})({sound}).features;
  };
  EXPECT_TENSOR_EQ(dithered(1), dithered(1));
  EXPECT_FALSE(dithered(1).equal(dithered(2)));
}

TEST(LogMel, ReadsPreprocessorConfigs) {
  const testing::TemporaryFolder folder;
  const auto path = (folder.path() / "preprocessor_config.json").string();
  write_file(path, R"({"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128, "chunk_length": 5,
                       "mel_filters": [[0.0]], "processor_class": "WhisperProcessor"})");
  const auto options = read_log_mel_options(folder.path());
  EXPECT_EQ(options.feature_size, 128);
  EXPECT_EQ(options.chunk_length, 5);
  EXPECT_EQ(options.n_fft, 400);
  EXPECT_EQ(LogMel(options).filters().size(0), 128);
  write_file(path, R"({"feature_extractor_type": "Wav2Vec2FeatureExtractor"})");
  EXPECT_ERROR_KIND(read_log_mel_options(path), ErrorKind::unsupported,
                    "feature_extractor_type must be WhisperFeatureExtractor, got Wav2Vec2FeatureExtractor");
  write_file(path, R"({"n_fft": 0})");
  EXPECT_ERROR_KIND(read_log_mel_options(path), ErrorKind::file, "n_fft must be in [1, 16777216], got 0");
}

TEST(LogMel, ErrorsNameTheArgument) {
  const LogMel front;
  EXPECT_ERROR((void)front.spectrogram(at::zeros({200})),
               "LogMel: waveform must have more than 200 frames, got shape [200]");
  EXPECT_ERROR((void)front({}), "LogMel: sounds must not be empty");
  EXPECT_ERROR((void)front({at::zeros({0})}), "LogMel: sound must have at least one frame, got none");
  EXPECT_ERROR(LogMel(LogMelOptions{.sampling_rate = 100, .chunk_length = 1}),
               "LogMel: a chunk of 1 s at 100 Hz must be longer than half a window of 400 frames");
}

}  // namespace
}  // namespace winnow::data

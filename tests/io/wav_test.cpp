#include "winnow/io/wav.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/file.h"

namespace winnow::io {
namespace {

constexpr WavFormat kFormats[] = {WavFormat::pcm8,  WavFormat::pcm16,   WavFormat::pcm24,
                                  WavFormat::pcm32, WavFormat::float32, WavFormat::float64};

std::string little(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  return out;
}

std::string chunk(const std::string& id, const std::string& body) {
  return id + little(body.size(), 4) + body + std::string(body.size() % 2, '\0');
}

std::string format_body(int tag, int channels, int rate, int bits) {
  const int frame = channels * bits / 8;
  return little(static_cast<uint64_t>(tag), 2) + little(static_cast<uint64_t>(channels), 2) +
         little(static_cast<uint64_t>(rate), 4) + little(static_cast<uint64_t>(rate * frame), 4) +
         little(static_cast<uint64_t>(frame), 2) + little(static_cast<uint64_t>(bits), 2);
}

std::string riff(const std::string& chunks) {
  return "RIFF" + little(chunks.size() + 4, 4) + "WAVE" + chunks;
}

Sound read(const std::string& bytes, const WavOptions& options = {}) {
  return read_wav(as_bytes(bytes), options, "a.wav");
}

// Written out by hand: two channels of 16 bits.
TEST(Wav, KnownBytesAreTheKnownSamples) {
  const auto data = little(0, 2) + little(0x8000, 2) + little(0x4000, 2) + little(0x7fff, 2);
  const auto sound =
      read(riff(chunk("LIST", "odd") + chunk("fmt ", format_body(1, 2, 8000, 16)) + chunk("data", data)));
  EXPECT_EQ(sound.sample_rate, 8000);
  EXPECT_TENSOR_EQ(sound.samples, at::tensor({0.0F, 0.5F, -1.0F, 32767.0F / 32768.0F}).view({2, 2}));
  const auto bytes = riff(chunk("fmt ", format_body(1, 1, 8000, 8)) + chunk("data", std::string("\x80\x00\xff", 3)));
  EXPECT_TENSOR_EQ(read(bytes).samples, at::tensor({0.0F, -1.0F, 127.0F / 128.0F}).view({1, 3}));
  const auto negative = chunk("data", little(0xffffff, 3) + little(0x400000, 3));
  EXPECT_TENSOR_EQ(read(riff(chunk("fmt ", format_body(1, 1, 8000, 24)) + negative)).samples,
                   at::tensor({-1.0F / 8388608.0F, 0.5F}).view({1, 2}));
}

TEST(Wav, WritingAndReadingKeepsSamplesToHalfAStep) {
  const testing::TemporaryFolder folder;
  for (const auto format : kFormats) {
    for (const int64_t channels : {1, 2, 3}) {
      const auto samples = at::rand({channels, 37}) * 2 - 1;
      const auto path = folder.path() / "a.wav";
      write_wav(path, {.samples = samples, .sample_rate = 22050}, format);
      const auto info = wav_info(path);
      EXPECT_EQ(info.format, format);
      EXPECT_EQ(info.channels, channels);
      EXPECT_EQ(info.frames, 37);
      EXPECT_EQ(info.sample_rate, 22050);
      const auto back = read_wav(path);
      constexpr double kSteps[] = {1.0 / 128, 1.0 / 32768, 1.0 / 8388608, 1.0 / 16777216, 0, 0};
      EXPECT_TENSOR_NEAR(back.samples, samples, kSteps[static_cast<int>(format)] * 1.001);
      EXPECT_EQ(back.sample_rate, 22050);
      // Once rounded, nothing changes any more.
      EXPECT_EQ(encode_wav(back, format), encode_wav(read(encode_wav(back, format)), format));
    }
  }
}

TEST(Wav, LoudSamplesAreClampedAndNanIsSilence) {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  const auto loud = at::tensor({2.0F, -2.0F, nan});
  const auto back = read(encode_wav({.samples = loud, .sample_rate = 8000}));
  EXPECT_TENSOR_EQ(back.samples, at::tensor({32767.0F / 32768.0F, -1.0F, 0.0F}).view({1, 3}));
}

TEST(Wav, EmptySoundsAndOpenEndsAreRead) {
  EXPECT_EQ(read(encode_wav({.samples = at::zeros({2, 0}), .sample_rate = 1})).samples.sizes(),
            (std::vector<int64_t>{2, 0}));
  // A pipe: sizes unknown, the last frame cut.
  const auto open = "RIFF" + little(0xffffffff, 4) + "WAVE" + chunk("fmt ", format_body(1, 1, 8000, 16)) + "data" +
                    little(0xffffffff, 4) + little(0x4000, 2) + "x";
  EXPECT_TENSOR_EQ(read(open).samples, at::tensor({0.5F}).view({1, 1}));
}

TEST(Wav, ExtensibleHeadersNameTheirCodec) {
  auto bytes = encode_wav({.samples = at::zeros({4}), .sample_rate = 8000}, WavFormat::pcm24);
  EXPECT_EQ(wav_info(as_bytes(bytes)).format, WavFormat::pcm24);
  bytes[12 + 8 + 24 + 5] = 1;  // inside the GUID
  EXPECT_ERROR(read(bytes), "a.wav: the extensible fmt chunk is corrupted or names an unknown codec");
}

TEST(WavErrors, AreOneLineThatNamesTheFile) {
  const auto format = chunk("fmt ", format_body(1, 1, 8000, 16)), data = chunk("data", "1234");
  EXPECT_ERROR_KIND(read(""), ErrorKind::file, "a.wav: the file is empty");
  EXPECT_ERROR(read("RIFFxxxxAVI "), "a.wav: not a RIFF/WAVE file");
  EXPECT_ERROR(read(riff("")), "a.wav: there is no fmt chunk");
  EXPECT_ERROR(read(riff(format)), "a.wav: there is no data chunk");
  EXPECT_ERROR(read(riff(data + format)), "a.wav: the data chunk stands before the fmt chunk");
  EXPECT_ERROR(read(riff(format + format + data)), "a.wav: there are two fmt chunks");
  EXPECT_ERROR(read(riff(format + data).substr(0, 46)),
               "a.wav: the file ends early: the chunk at byte 36 has 4 bytes, 2 are there");
  EXPECT_ERROR(read(riff(format + chunk("data", "123"))), "a.wav: the data must be whole frames of 2 bytes, got 3");
  EXPECT_ERROR(read(riff(chunk("fmt ", "short") + data)), "a.wav: the fmt chunk must have at least 16 bytes, got 5");
  EXPECT_ERROR(read(riff(chunk("fmt ", format_body(6, 1, 8000, 8)) + data)),
               "a.wav: codec 6 is not supported; only PCM and float are");
  EXPECT_ERROR(read(riff(chunk("fmt ", format_body(1, 1, 8000, 12)) + data)),
               "a.wav: PCM must have 8, 16, 24 or 32 bits, got 12");
  EXPECT_ERROR(read(riff(chunk("fmt ", format_body(3, 1, 8000, 16)) + data)),
               "a.wav: float samples must have 32 or 64 bits, got 16");
  EXPECT_ERROR(read(riff(chunk("fmt ", format_body(1, 0, 8000, 16)) + data)),
               "a.wav: channels must be in [1, 64], got 0");
  EXPECT_ERROR(read(riff(chunk("fmt ", format_body(1, 1, 0, 16)) + data)), "a.wav: the sample rate must be >= 1");
  auto crooked = format_body(1, 1, 8000, 16);
  crooked[12] = 3;
  EXPECT_ERROR(read(riff(chunk("fmt ", crooked) + data)),
               "a.wav: a frame of 1 channels of 16 bits must have 2 bytes, got 3");
  EXPECT_ERROR(read(riff(format + data), {.max_samples = 1}), "a.wav: 2 frames of 1 channels are more than 1 samples");
  EXPECT_ERROR(encode_wav({.samples = at::zeros({2}, at::kLong), .sample_rate = 8000}), "write_wav: samples must be");
  EXPECT_ERROR(encode_wav({.samples = at::zeros({2}), .sample_rate = 0}), "write_wav: sample_rate must be in");
  EXPECT_ERROR(encode_wav({.samples = at::zeros({65, 2}), .sample_rate = 1}), "write_wav: channels must be in [1, 64]");
  EXPECT_ERROR(read_wav("/nowhere/a.wav"), "/nowhere/a.wav");
}

}  // namespace
}  // namespace winnow::io

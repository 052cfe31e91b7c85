// Sound in RIFF/WAVE files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "winnow/io/bytes.h"

namespace winnow::io {

struct Sound {
  at::Tensor samples;       // float32 [channels, frames], full scale = [-1, 1]
  int64_t sample_rate = 0;  // frames a second
};

// Bits and kind of one sample in a file. PCM of 8 bits is unsigned, as the format has it.
enum class WavFormat { pcm8, pcm16, pcm24, pcm32, float32, float64 };

struct WavInfo {
  WavFormat format = WavFormat::pcm16;
  int64_t channels = 0;
  int64_t frames = 0;
  int64_t sample_rate = 0;
};

struct WavOptions {
  int64_t max_samples = int64_t{1} << 30;  // over all channels; more is refused before anything is allocated
};

// Reads PCM of 8, 16, 24 or 32 bits, float32 and float64 (narrowed), plain or WAVE_FORMAT_EXTENSIBLE, 1 to 64 channels;
// other chunks are passed over. A data chunk of size 0xffffffff (a pipe, a recorder that was cut off) reaches to the
// end of the file. PCM is divided by 2^(bits - 1). Throws Error(file) in one line that names the file for another
// format or codec, a truncated or corrupted file, or one over max_samples.
Sound read_wav(const std::filesystem::path& path, const WavOptions& options = {});
Sound read_wav(Bytes bytes, const WavOptions& options = {}, const std::string& name = kMemoryName);

// From the headers alone.
WavInfo wav_info(const std::filesystem::path& path);
WavInfo wav_info(Bytes bytes, const std::string& name = kMemoryName);

// Writes samples [frames] or [channels, frames], float32 or float64, atomically. For PCM they are clamped to full
// scale, scaled by 2^(bits - 1) and rounded; NaN becomes silence. More than two channels and more than 16 bits get the
// extensible header. Throws Error(argument) on shape, dtype or rate or if the file would pass 4 GiB, Error(file) if it
// cannot be written.
void write_wav(const std::filesystem::path& path, const Sound& sound, WavFormat format = WavFormat::pcm16);
// The bytes of such a file.
std::string encode_wav(const Sound& sound, WavFormat format = WavFormat::pcm16);

}  // namespace winnow::io

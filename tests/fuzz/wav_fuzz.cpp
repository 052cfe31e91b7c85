// Any bytes as a sound, or one winnow::Error. What is read is written again in its own format and read back: the same.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>

#include "winnow/core/error.h"
#include "winnow/io/wav.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace winnow;
  const io::Bytes bytes(data, size);
  try {
    const auto info = io::wav_info(bytes);
    const auto sound = io::read_wav(bytes, {.max_samples = 1 << 20});
    if (sound.samples.size(0) != info.channels || sound.samples.size(1) != info.frames) std::abort();
    if (info.sample_rate > 10'000'000) return 0;
    const auto again = io::read_wav(io::as_bytes(io::encode_wav(sound, info.format)));
    // NaN stays in float formats and becomes silence nowhere: PCM has none.
    const auto same = again.samples.eq(sound.samples).logical_or(again.samples.ne(again.samples));
    // The largest PCM of 32 bits rounds to full scale, which is written one float step lower.
    if (info.format != io::WavFormat::pcm32 && !same.all().item<bool>()) std::abort();
  } catch (const Error&) {
  }
  return 0;
}

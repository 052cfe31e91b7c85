#include "resample.h"

#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/types.h>

#include <algorithm>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/kernels/image_resize.h"

namespace winnow::data {
namespace {

// Memory that a thread keeps from one picture to the next.
struct Workspace {
  std::vector<int32_t> first;
  std::vector<int16_t> weights;
};
Workspace& workspace() {
  thread_local Workspace mine;
  return mine;
}
uint8_t* scratch(int64_t bytes) {
  thread_local std::vector<uint8_t> mine;
  if (static_cast<int64_t>(mine.size()) < bytes) mine.resize(static_cast<size_t>(bytes));
  return mine.data();
}

kernels::ImageResize job_of(const at::Tensor& pixels, const Resampling& how, const ChannelFactors& factors,
                            const at::Tensor& out) {
  kernels::ImageResize job;
  job.image = pixels.const_data_ptr<uint8_t>();
  job.height = pixels.size(0), job.width = pixels.size(1), job.channels = pixels.size(2), job.stride = pixels.stride(0);
  job.top = how.box.top, job.left = how.box.left, job.box_height = how.box.height, job.box_width = how.box.width;
  job.out_height = how.height, job.out_width = how.width;
  std::copy(factors.scale.begin(), factors.scale.end(), job.scale);
  std::copy(factors.shift.begin(), factors.shift.end(), job.shift);
  job.out = out.mutable_data_ptr<float>();
  return job;
}

// Weights of both axes for the whole resized picture; the job then points at the wanted part.
void fill_axes(kernels::ImageResize& job, const Resampling& how, int32_t* first, int16_t* weights) {
  using kernels::ResizeFilter;
  const auto filter = how.interpolation == Interpolation::bilinear ? ResizeFilter::bilinear : ResizeFilter::bicubic;
  auto rows = kernels::ResizeAxis{.first = first, .weights = weights, .taps = job.rows.taps};
  auto columns = kernels::ResizeAxis{.first = first + how.resized_height,
                                     .weights = weights + how.resized_height * rows.taps,
                                     .taps = job.columns.taps};
  kernels::resize_weights(filter, job.box_height, how.resized_height, false, rows);
  kernels::resize_weights(filter, job.box_width, how.resized_width, how.flip, columns);
  const auto left = how.flip ? how.resized_width - how.left - how.width : how.left;
  job.rows = {.first = rows.first + how.top, .weights = rows.weights + how.top * rows.taps, .taps = rows.taps};
  job.columns = {.first = columns.first + left, .weights = columns.weights + left * columns.taps, .taps = columns.taps};
}

// A picture that keeps its size needs no filter.
void convert(const kernels::ImageResize& job, bool flip) {
  const int64_t C = job.channels, H = job.out_height, W = job.out_width;
  for (int64_t c = 0; c < C; ++c) {
    for (int64_t y = 0; y < H; ++y) {
      const uint8_t* from = job.image + (job.top + y) * job.stride + job.left * C + c;
      float* to = job.out + (c * H + y) * W;
      if (flip) {
        for (int64_t x = 0; x < W; ++x) to[x] = static_cast<float>(from[(W - 1 - x) * C]) * job.scale[c] + job.shift[c];
      } else {
        for (int64_t x = 0; x < W; ++x) to[x] = static_cast<float>(from[x * C]) * job.scale[c] + job.shift[c];
      }
    }
  }
}

void resample_on_gpu(kernels::ImageResize job, const Resampling& how, const at::Tensor& pixels) {
  const auto count = how.resized_height + how.resized_width;
  const auto weight_count = how.resized_height * job.rows.taps + how.resized_width * job.columns.taps;
  // int32 first indices, then int16 weights, in one copy.
  auto table = at::empty({count * 4 + weight_count * 2}, at::kByte);
  auto* bytes = table.mutable_data_ptr<uint8_t>();
  fill_axes(job, how, reinterpret_cast<int32_t*>(bytes), reinterpret_cast<int16_t*>(bytes + count * 4));
  const auto on_device = table.to(pixels.device());
  const auto move = [&](auto*& pointer) {
    const auto offset = reinterpret_cast<const uint8_t*>(pointer) - bytes;
    pointer =
        reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(on_device.mutable_data_ptr<uint8_t>() + offset);
  };
  move(job.rows.first), move(job.rows.weights), move(job.columns.first), move(job.columns.weights);
  const c10::DeviceGuard guard(pixels.device());
  const c10::impl::VirtualGuardImpl streams(pixels.device().type());
  kernels::cuda::image_resize(job, static_cast<cudaStream_t>(streams.getStream(pixels.device()).native_handle()));
  const char* problem = kernels::cuda::launch_error();
  WINNOW_CHECK_KIND(problem == nullptr, ErrorKind::unsupported, "crop_resize: CUDA could not start the kernel: {}",
                    problem);
}

}  // namespace

ChannelFactors channel_factors(const char* what, const std::vector<double>& mean, const std::vector<double>& std,
                               int64_t channels) {
  WINNOW_CHECK(channels >= 1 && channels <= 4, "{}: image must have 1 to 4 channels, got {}", what, channels);
  const auto wanted = static_cast<size_t>(channels);
  WINNOW_CHECK((mean.empty() && std.empty()) || (mean.size() == wanted && std.size() == wanted),
               "{}: mean and std must be empty or hold {} value(s), got {} and {}", what, wanted, mean.size(),
               std.size());
  ChannelFactors factors;
  for (size_t c = 0; c < wanted; ++c) {
    const double m = mean.empty() ? 0 : mean[c], s = std.empty() ? 1 : std[c];
    WINNOW_CHECK(s > 0, "{}: std must be > 0, got {}", what, s);
    factors.scale[c] = static_cast<float>(1 / (255 * s));
    factors.shift[c] = static_cast<float>(-m / s);
  }
  return factors;
}

void resample(const at::Tensor& pixels, const Resampling& how, const ChannelFactors& factors, const at::Tensor& out) {
  using kernels::ResizeFilter;
  auto job = job_of(pixels, how, factors, out);
  const auto filter = how.interpolation == Interpolation::bilinear ? ResizeFilter::bilinear : ResizeFilter::bicubic;
  if (pixels.is_cpu() && how.box.height == how.resized_height && how.box.width == how.resized_width) {
    job.top += how.top, job.left += how.left;
    convert(job, how.flip);
    return;
  }
  job.rows.taps = kernels::resize_taps(filter, job.box_height, how.resized_height);
  job.columns.taps = kernels::resize_taps(filter, job.box_width, how.resized_width);
  if (!pixels.is_cpu()) {
    resample_on_gpu(job, how, pixels);
    return;
  }
  auto& memory = workspace();
  memory.first.resize(static_cast<size_t>(how.resized_height + how.resized_width));
  memory.weights.resize(static_cast<size_t>(how.resized_height * job.rows.taps + how.resized_width * job.columns.taps));
  fill_axes(job, how, memory.first.data(), memory.weights.data());
  at::parallel_for(0, how.height, kernels::cpu::kImageResizeGrain, [&](int64_t begin, int64_t end) {
    auto part = job;
    part.scratch = scratch(kernels::image_resize_scratch(job));
    kernels::cpu::image_resize(part, begin, end);
  });
}

}  // namespace winnow::data

// The linear layer on few rows beside at::linear, on weights of over 128 MB that no cache holds: read bandwidth is the
// bound of one row, the GEMM peak that of many.
#include <ATen/Functions.h>
#include <fmt/format.h>

#include "bench.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/linear_rows.h"

using namespace winnow;

namespace {

struct Shape {
  const char* name;
  int64_t in, out;
};

// Copies of one layer's weight, so that every call meets weights that the last cache no longer holds.
struct Layer {
  std::vector<at::Tensor> weights;
  at::Tensor x, bias;
  size_t next = 0;

  Layer(const Shape& shape, int64_t rows, at::ScalarType dtype, int64_t megabytes) {
    const auto count = std::max<int64_t>(1, (megabytes << 20) / (shape.in * shape.out * c10::elementSize(dtype)));
    const auto weight = at::randn({shape.out, shape.in}, make_generator(1)).to(dtype);
    for (int64_t i = 0; i < count; ++i) weights.push_back(weight.clone());
    x = at::randn({rows, shape.in}, make_generator(2));
    bias = at::randn({shape.out}, make_generator(3));
  }
  const at::Tensor& weight() { return weights[next = (next + 1) % weights.size()]; }
  double bytes() const { return static_cast<double>(weights[0].nbytes()); }
};

// n rows in float32, beside at::linear.
double compare_rows(bench::Report& report, const Shape& shape, int64_t rows, double target) {
  Layer layer(shape, rows, at::kFloat, 160);
  const auto result =
      report.compare(fmt::format("{} {} x {}, {} rows", shape.name, shape.out, shape.in, rows),
                     {"winnow", [&] { bench::keep(linear_rows(layer.x, layer.weight(), layer.bias)); }},
                     {"at::linear", [&] { bench::keep(at::linear(layer.x, layer.weight(), layer.bias)); }},
                     {.target = target, .rounds = 9, .min_seconds = 0.1, .two_threads = rows == 1});
  return 1e-6 * layer.bytes() / result.our_ms;
}

// One row in half precision, beside the same in float32.
void compare_storage(bench::Report& report, const Shape& shape, at::ScalarType dtype) {
  Layer wide(shape, 1, at::kFloat, 160), narrow(shape, 1, dtype, 160);
  report.compare(fmt::format("{} {} x {}, 1 row, {}", shape.name, shape.out, shape.in, c10::toString(dtype)),
                 {c10::toString(dtype), [&] { bench::keep(linear_rows(narrow.x, narrow.weight(), narrow.bias)); }},
                 {"float32", [&] { bench::keep(linear_rows(wide.x, wide.weight(), wide.bias)); }},
                 {.target = 1.7, .rounds = 9, .min_seconds = 0.1, .two_threads = false});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("linear_rows", argc, argv, [](bench::Report& report) {
    const at::NoGradGuard no_grad;
    const std::vector<Shape> shapes = {{"22x2048 qkv", 2048, 2560},
                                       {"22x2048 down", 5632, 2048},
                                       {"SmolLM2 up", 576, 1536},
                                       {"SmolLM2 down", 1536, 576},
                                       {"GPT 6x256 fc", 256, 1024}};
    const double read = bench::read_bandwidth();
    report.note("read bandwidth, GB/s", read);
    for (const auto& shape : shapes) {
      const double rate = compare_rows(report, shape, 1, 1.15);
      report.note(fmt::format("{}: GB/s of one row", shape.name), rate);
      report.note(fmt::format("{}: of the read bandwidth (want >= 0.85)", shape.name), rate / bench::read_bandwidth());
    }
    for (const auto& shape : {shapes[0], shapes[2]}) {
      for (const auto dtype : {at::kHalf, at::kBFloat16}) compare_storage(report, shape, dtype);
    }
    for (const int64_t rows : {2, 3, 4, 5, 8, 12, 16, 32, 64}) {
      for (const auto& shape : {shapes[0], shapes[2]}) compare_rows(report, shape, rows, rows <= 8 ? 1.0 : 0.0);
    }
    report.note("GEMM peak, GFLOP/s", bench::gemm_peak());
  });
}

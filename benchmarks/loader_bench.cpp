// From JPEG files to normalised batches on one thread: 200 photographs of 500x375 (quality 90), a random crop of MAE's
// pre-training to 224, flip, normalise; the loader beside torchvision (decode_jpeg and the v2 transforms) with the same
// boxes. Wanted: 1.5 times the images a second, pixels within 2/255. The photographs are fetched by `./dev data photos`
// and resized once by the peer, into data/photos-500x375.
#include <fmt/core.h>
#include <torch/types.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "bench.h"
#include "peer.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/random.h"
#include "winnow/data/datasets.h"
#include "winnow/data/loader.h"

namespace {

using namespace winnow;
namespace fs = std::filesystem;

constexpr int64_t kPhotos = 200, kSize = 224;
constexpr uint64_t kSeed = 1;

const std::vector<std::string>& packages() {
  static const std::vector<std::string> all = {"torchvision==0.26.0"};
  return all;
}

// The folder of resized photographs, made on first use.
std::string photographs() {
  const std::string root = std::getenv("WINNOW_DATA") != nullptr ? std::getenv("WINNOW_DATA") : "data";
  const auto folder = fs::path(root) / "photos-500x375";
  if (!fs::is_directory(folder)) {
    const auto source = fs::path(root) / "photos", fresh = fs::path(root) / "photos-500x375.part";
    WINNOW_CHECK_KIND(fs::is_directory(source), ErrorKind::file, "{}: there is no such folder; run: ./dev data photos",
                      source.string());
    fs::remove_all(fresh);
    const bench::Peer maker("torchvision_loader.py", packages(),
                            {"make", source.string(), (fresh / "photo").string(), std::to_string(kPhotos)});
    fs::rename(fresh, folder);
  }
  return folder.string();
}

// What the transform draws for each photograph in epoch 0, for the peer to repeat.
void write_boxes(const data::ImageFolder& photos, const data::ImageTransform& transform, const fs::path& file) {
  std::ofstream out(file);
  for (int64_t i = 0; i < photos.size(); ++i) {
    const auto image = photos.get(i, 0).image;
    const auto plan = transform.plan(image.size(0), image.size(1), derive_seed(kSeed, 0, i));
    out << fs::path(photos.origin(i)).filename().string() << ' ' << plan.box.top << ' ' << plan.box.left << ' '
        << plan.box.height << ' ' << plan.box.width << ' ' << (plan.flip ? 1 : 0) << '\n';
  }
}

// Largest difference of a pixel from the peer's, in grey levels of 255.
double worst_pixel(data::Loader& loader, bench::Peer& peer, const fs::path& file) {
  WINNOW_CHECK(peer.ask("save " + file.string()) == "ok", "loader_bench: the peer did not save its pixels");
  const auto bytes = read_file(file.string());
  const int64_t picture = 3 * kSize * kSize;
  WINNOW_CHECK(static_cast<int64_t>(bytes.size()) == kPhotos * picture * 4, "loader_bench: the peer wrote {} bytes",
               bytes.size());
  const auto theirs = at::empty({kPhotos, 3, kSize, kSize});
  std::memcpy(theirs.mutable_data_ptr(), bytes.data(), bytes.size());
  const auto std = at::tensor(data::imagenet_normalization().std, at::kFloat).view({1, 3, 1, 1});
  double worst = 0;
  loader.start_epoch(0);
  while (const auto batch = loader.next_in_epoch()) {
    const auto same = theirs.index_select(0, batch->indices);
    worst = std::max(worst, ((batch->images - same) * std * 255).abs().max().item<double>());
  }
  return worst;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("loader", argc, argv, [](bench::Report& report) {
    const auto folder = photographs();
    const auto photos = std::make_shared<data::ImageFolder>(folder);
    WINNOW_CHECK(photos->size() == kPhotos, "loader_bench: {} must hold {} photographs, got {}; remove the folder",
                 folder, kPhotos, photos->size());
    const data::ImageTransform transform(data::mae_pretraining_transform(kSize));
    const auto scratch = fs::temp_directory_path() / fmt::format("winnow_loader_{}", getpid());
    fs::create_directories(scratch);
    write_boxes(*photos, transform, scratch / "boxes.txt");
    bench::Peer peer("torchvision_loader.py", packages(),
                     {(fs::path(folder) / "photo").string(), (scratch / "boxes.txt").string(), std::to_string(kSize)});

    data::LoaderOptions options{.batch_size = 20, .shuffle = false, .drop_last = false, .seed = kSeed};
    auto loader = std::make_unique<data::Loader>(photos, transform, options);
    const double worst = worst_pixel(*loader, peer, scratch / "pixels.raw");
    report.note("largest difference from torchvision's pixels, of 255 (want <= 2)", worst);
    WINNOW_CHECK(worst <= 2, "loader_bench: pixels must be within 2/255 of torchvision's, got {}/255", worst);

    const auto pass = [&] {
      loader->start_epoch(0);
      while (const auto batch = loader->next_in_epoch()) bench::keep(batch->images);
    };
    // One thread: the caller's does everything. More: that many workers.
    const auto use_threads = [&](int64_t threads) {
      options.workers = threads == 1 ? 0 : threads;
      loader = std::make_unique<data::Loader>(photos, transform, options);
    };
    const auto result = report.compare("200 photographs, JPEG 500x375 to a random crop of 224",
                                       {.label = "winnow", .work = pass, .set_threads = use_threads},
                                       {.label = "torchvision",
                                        .timed = [&](int64_t calls) { return peer.run(calls); },
                                        .set_threads = [&](int64_t threads) { peer.set_threads(threads); }},
                                       {.target = 1.5, .rounds = 11});
    report.note("images/s on one thread, winnow", 1000 * kPhotos / result.our_ms);
    report.note("images/s on one thread, torchvision", 1000 * kPhotos / result.other_ms);
    fs::remove_all(scratch);
  });
}

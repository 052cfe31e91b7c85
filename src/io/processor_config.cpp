#include "winnow/io/processor_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

std::optional<int64_t> read_edge(const JsonObject& object, const std::string& key) {
  if (!object.has(key)) return std::nullopt;
  const auto value = object.get<int64_t>(key);
  WINNOW_CHECK_KIND(value >= 1, ErrorKind::file, "{}: {} must be >= 1, got {}", object.file(), object.where(key),
                    value);
  return value;
}

// `one_edge`: a bare number means the shortest edge, not both.
ResizeSize read_size(const JsonObject& config, const std::string& key, bool one_edge) {
  if (!config.raw(key).is_object()) {
    const auto edge = read_edge(config, key);
    if (one_edge) return {.shortest_edge = edge};
    return {.height = edge, .width = edge};
  }
  const auto object = config.object(key);
  const ResizeSize size{.height = read_edge(object, "height"),
                        .width = read_edge(object, "width"),
                        .shortest_edge = read_edge(object, "shortest_edge"),
                        .longest_edge = read_edge(object, "longest_edge")};
  const bool both = size.height && size.width && !size.shortest_edge && !size.longest_edge;
  const bool edge = size.shortest_edge && !size.height && !size.width;
  WINNOW_CHECK_KIND(both || edge, ErrorKind::file,
                    "{}: {} must be a number, {{\"height\", \"width\"}} or {{\"shortest_edge\"}}, got {}",
                    config.file(), config.where(key), printable(config.raw(key).dump(), 80));
  return size;
}

}  // namespace

ProcessorConfig parse_processor_config(const JsonObject& config) {
  ProcessorConfig result;
  result.do_resize = config.get_or("do_resize", result.do_resize);
  result.do_center_crop = config.get_or("do_center_crop", result.do_center_crop);
  result.do_rescale = config.get_or("do_rescale", result.do_rescale);
  result.rescale_factor = config.get_or("rescale_factor", result.rescale_factor);
  result.do_normalize = config.get_or("do_normalize", result.do_normalize);
  result.image_mean = config.get_or("image_mean", result.image_mean);
  result.image_std = config.get_or("image_std", result.image_std);
  result.do_convert_rgb = config.get_or("do_convert_rgb", result.do_convert_rgb);
  if (config.has("size")) result.size = read_size(config, "size", result.do_center_crop);
  if (config.has("crop_size")) {
    const auto crop = read_size(config, "crop_size", /*one_edge=*/false);
    WINNOW_CHECK_KIND(crop.height && crop.width, ErrorKind::file, "{}: crop_size must give height and width",
                      config.file());
    result.crop_height = *crop.height;
    result.crop_width = *crop.width;
  }
  const auto resample = config.get_or("resample", static_cast<int64_t>(result.resample));
  WINNOW_CHECK_KIND(resample >= 0 && resample <= 5, ErrorKind::file, "{}: resample must be in [0, 5], got {}",
                    config.file(), resample);
  result.resample = static_cast<Resample>(resample);

  WINNOW_CHECK_KIND(!result.image_mean.empty() && result.image_mean.size() == result.image_std.size(), ErrorKind::file,
                    "{}: image_mean and image_std must have one value per channel each, got {} and {}", config.file(),
                    result.image_mean.size(), result.image_std.size());
  const bool positive = std::all_of(result.image_std.begin(), result.image_std.end(), [](double s) { return s > 0; });
  WINNOW_CHECK_KIND(positive, ErrorKind::file, "{}: image_std must be > 0, got {}", config.file(),
                    join(result.image_std));
  return result;
}

ProcessorConfig read_processor_config(const std::filesystem::path& path) {
  const auto file = std::filesystem::is_directory(path) ? path / "preprocessor_config.json" : path;
  return parse_processor_config(JsonObject::read(file));
}

std::vector<std::string> read_id2label(const JsonObject& config) {
  if (!config.has("id2label")) return {};
  const auto map = config.object("id2label");
  const auto count = map.value().size();
  std::vector<std::string> labels(count);
  for (const auto& [key, value] : map.value().items()) {
    std::size_t id = 0;
    const auto [end, status] = std::from_chars(key.data(), key.data() + key.size(), id);
    // With distinct keys of canonical form, ids below the count are 0..count-1.
    const bool canonical = status == std::errc() && end == key.data() + key.size() && std::to_string(id) == key;
    WINNOW_CHECK_KIND(canonical && id < count, ErrorKind::file, "{}: id2label must have the keys 0 to {}, got \"{}\"",
                      config.file(), count - 1, printable(key, 60));
    labels[id] = map.get<std::string>(key);
  }
  return labels;
}

}  // namespace winnow::io

#include "post_processor.h"

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {

void append_encoding(Encoding& encoding, const Encoding& other) {
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  append(encoding.ids, other.ids);
  append(encoding.offsets, other.offsets);
  append(encoding.type_ids, other.type_ids);
  append(encoding.special, other.special);
  append(encoding.attention_mask, other.attention_mask);
}

void append_special(Encoding& encoding, const std::vector<int64_t>& ids, int64_t type_id, bool offsets) {
  encoding.ids.insert(encoding.ids.end(), ids.begin(), ids.end());
  if (offsets) encoding.offsets.resize(encoding.ids.size(), {0, 0});
  encoding.type_ids.resize(encoding.ids.size(), type_id);
  encoding.special.resize(encoding.ids.size(), true);
  encoding.attention_mask.resize(encoding.ids.size(), 1);
}

PostProcessor::PostProcessor(const Json& json, const std::string& file) {
  read(json, file, "post_processor");
}

void PostProcessor::read(const Json& json, const std::string& file, const std::string& path) {
  if (json.is_null()) return;
  const JsonObject object(json, file, path);
  const auto type = object.get<std::string>("type");
  if (type == "ByteLevel") {
    if (object.get_or("trim_offsets", true)) trims_.push_back(object.get_or("add_prefix_space", true));
    return;
  }
  if (type == "Sequence") {
    const auto& list = object.raw("processors");
    WINNOW_CHECK_KIND(list.is_array(), ErrorKind::file, "{}: {} must be a list", file, object.where("processors"));
    for (size_t i = 0; i < list.size(); ++i) read(list[i], file, fmt::format("{}[{}]", object.where("processors"), i));
    return;
  }
  const bool known = type == "TemplateProcessing" || type == "BertProcessing" || type == "RobertaProcessing";
  WINNOW_CHECK_KIND(known, ErrorKind::unsupported, "{}: {}: a post-processor of type {} is not supported", file, path,
                    json_quote(type));
  WINNOW_CHECK_KIND(!has_template_, ErrorKind::unsupported,
                    "{}: {}: a second post-processor that adds tokens is not supported", file, path);
  has_template_ = true;
  if (type == "TemplateProcessing") return read_template(object);
  read_marks(object, type == "RobertaProcessing");
}

PostProcessor::Item PostProcessor::read_item(const Json& value, const JsonObject& json,
                                             const std::string& where) const {
  const JsonObject item(value, json.file(), where);
  if (item.has("Sequence")) {
    const auto sequence = item.object("Sequence");
    const auto id = sequence.get<std::string>("id");
    WINNOW_CHECK_KIND(id == "A" || id == "B", ErrorKind::file, "{}: {} must be A or B, got {}", json.file(),
                      sequence.where("id"), json_quote(id));
    return {.sequence = id == "A" ? 0 : 1, .type_id = sequence.get_or<int64_t>("type_id", 0)};
  }
  const auto special = item.object("SpecialToken");
  const auto name = special.get<std::string>("id");
  const auto tokens = json.object("special_tokens");
  return {.type_id = special.get_or<int64_t>("type_id", 0),
          .ids = tokens.object(name).get<std::vector<int64_t>>("ids")};
}

std::vector<PostProcessor::Item> PostProcessor::read_items(const JsonObject& json, const std::string& key) const {
  const auto& list = json.raw(key);
  WINNOW_CHECK_KIND(list.is_array(), ErrorKind::file, "{}: {} must be a list", json.file(), json.where(key));
  std::vector<Item> items;
  for (size_t i = 0; i < list.size(); ++i)
    items.push_back(read_item(list[i], json, fmt::format("{}[{}]", json.where(key), i)));
  const auto count = [&](int sequence) {
    return std::count_if(items.begin(), items.end(), [&](const Item& item) { return item.sequence == sequence; });
  };
  const bool pair = key == "pair";
  WINNOW_CHECK_KIND(count(0) == 1 && count(1) == (pair ? 1 : 0), ErrorKind::unsupported, "{}: {} must name {} once",
                    json.file(), json.where(key), pair ? "A and B" : "A, and not B,");
  for (const auto& item : items) {
    const bool good = std::all_of(item.ids.begin(), item.ids.end(), [](int64_t id) { return id >= 0; });
    WINNOW_CHECK_KIND(good, ErrorKind::file, "{}: {}: a special token has a negative id", json.file(), json.where(key));
  }
  return items;
}

void PostProcessor::read_template(const JsonObject& json) {
  single_ = read_items(json, "single");
  // A template without a pair may be used for single texts only; a pair is then joined as it is.
  if (json.has("pair") && !json.raw("pair").empty()) {
    pair_ = read_items(json, "pair");
  } else {
    pair_ = {{.sequence = 0, .type_id = 0}, {.sequence = 1, .type_id = 1}};
  }
}

// [CLS] A [SEP] B [SEP], or <s> A </s> </s> B </s> with one type for all.
void PostProcessor::read_marks(const JsonObject& json, bool roberta) {
  const auto id_of = [&](const std::string& key) {
    const auto& pair = json.raw(key);
    const bool good = pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_number_integer() &&
                      pair[1].get<double>() >= 0 && pair[1].get<double>() < 1e9;
    WINNOW_CHECK_KIND(good, ErrorKind::file, "{}: {} must be [token, id]", json.file(), json.where(key));
    return pair[1].get<int64_t>();
  };
  const auto cls = id_of("cls"), sep = id_of("sep");
  single_ = {{.ids = {cls}}, {.sequence = 0}, {.ids = {sep}}};
  pair_ = single_;
  const int64_t second_type = roberta ? 0 : 1;
  if (roberta) pair_.push_back({.ids = {sep}});
  pair_.push_back({.sequence = 1, .type_id = second_type});
  pair_.push_back({.type_id = second_type, .ids = {sep}});
  one_type_ = roberta;
  if (roberta && json.get_or("trim_offsets", true)) trims_.push_back(json.get_or("add_prefix_space", true));
}

int64_t PostProcessor::size(bool pair) const {
  int64_t size = 0;
  for (const auto& item : pair ? pair_ : single_) size += static_cast<int64_t>(item.ids.size());
  return size;
}

Encoding PostProcessor::apply(Encoding first, std::optional<Encoding> second, bool add_special, bool offsets) const {
  if (second && one_type_) std::fill(second->type_ids.begin(), second->type_ids.end(), 0);
  if (!has_template_) {
    if (second) append_encoding(first, *second);
    return first;
  }
  Encoding out;
  const auto total =
      first.ids.size() + (second ? second->ids.size() : 0) + static_cast<size_t>(size(second.has_value()));
  out.ids.reserve(total);
  out.type_ids.reserve(total);
  out.attention_mask.reserve(total);
  for (const auto& item : second ? pair_ : single_) {
    if (item.sequence < 0) {
      if (add_special) append_special(out, item.ids, item.type_id, offsets);
      continue;
    }
    auto& part = item.sequence == 0 ? first : *second;
    std::fill(part.type_ids.begin(), part.type_ids.end(), item.type_id);
    append_encoding(out, part);
  }
  return out;
}

}  // namespace winnow::io

#include "yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>

#include "winnow/core/config.h"
#include "winnow/core/text.h"

namespace winnow::detail {
namespace {

using Kind = YamlNode::Kind;

// Builds the tree from yaml-cpp's events. The parser recurses exactly as deep as collections are open, and each of its
// levels begins with an event: the limit below also bounds its stack.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::shared_ptr<const YamlSource> source) : source_(std::move(source)) {}

  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto node = make(mark, Kind::null, "?", anchor);
    close(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { fail(mark, "aliases (*name) are not allowed"); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    auto node = make(mark, Kind::scalar, tag, anchor);
    node.quoted = tag == "!";
    node.text = value;
    const auto is_null = value == "~" || value == "null" || value == "Null" || value == "NULL";
    if (!node.quoted && is_null) node.kind = Kind::null;
    close(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(mark, Kind::list, tag, anchor));
  }
  void OnSequenceEnd() override { pop(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(mark, Kind::map, tag, anchor));
  }
  void OnMapEnd() override { pop(); }

 private:
  struct Level {
    YamlNode node;
    std::set<std::string> seen = {};
    bool has_key = false;
    int64_t key_line = 0;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& message) const {
    fail_at(*source_, mark.line + 1, message);
  }

  YamlNode make(const YAML::Mark& mark, Kind kind, const std::string& tag, YAML::anchor_t anchor) {
    if (++count_ > kMaxYamlNodes) fail(mark, fmt::format("more than {} values", kMaxYamlNodes));
    if (anchor != YAML::NullAnchor) fail(mark, "anchors (&name) are not allowed");
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, fmt::format("tags ({}) are not allowed", printable(tag)));
    YamlNode node;
    node.kind = kind;
    node.source = source_;
    // A value counts as standing where its key is.
    node.line = awaits_value() ? levels_.back().key_line : mark.line + 1;
    return node;
  }

  void open(YamlNode node) {
    if (awaits_key()) fail_at(node, "a key must be a word, got a list or a mapping; is a bracket not closed?");
    if (levels_.size() >= kMaxYamlDepth) fail_at(node, fmt::format("nested deeper than {} levels", kMaxYamlDepth));
    levels_.push_back({std::move(node)});
  }

  void pop() {
    auto node = std::move(levels_.back().node);
    levels_.pop_back();
    close(std::move(node));
  }

  bool awaits_key() const {
    return !levels_.empty() && levels_.back().node.kind == Kind::map && !levels_.back().has_key;
  }

  bool awaits_value() const { return !levels_.empty() && levels_.back().has_key; }

  // A finished node becomes the root, an item of a list, a key or the value of a key.
  void close(YamlNode node) {
    if (levels_.empty()) {
      root_ = std::move(node);
      return;
    }
    auto& level = levels_.back();
    if (awaits_key()) {
      if (node.kind != Kind::scalar) fail_at(node, "a key must be a word, got null");
      if (!level.seen.insert(node.text).second) {
        fail_at(node, fmt::format("key {} is there twice", printable(node.text, 80)));
      }
      level.node.keys.push_back(std::move(node.text));
      level.has_key = true;
      level.key_line = node.line;
      return;
    }
    level.node.items.push_back(std::move(node));
    level.has_key = false;
  }

  std::shared_ptr<const YamlSource> source_;
  YamlNode root_;
  std::vector<Level> levels_;
  int64_t count_ = 0;
};

int64_t line_of(std::string_view text, size_t position) {
  return 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n');
}

// Before yaml-cpp sees it: size, text, and the brackets that it would queue up before the first event.
void check_bytes(std::string_view text, const YamlSource& source) {
  if (static_cast<int64_t>(text.size()) > kMaxYamlBytes) {
    fail_at(source, 0, fmt::format("longer than {}", human_bytes(kMaxYamlBytes)));
  }
  int64_t open = 0;
  for (size_t i = 0; i < text.size();) {
    const auto length = utf8_length(text.substr(i));
    const auto c = static_cast<unsigned char>(text[i]);
    if (length == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) {
      fail_at(source, line_of(text, i), fmt::format("not a text file: byte 0x{:02x} at offset {}", c, i));
    }
    if (c == '[' || c == '{') ++open;
    if ((c == ']' || c == '}') && open > 0) --open;
    if (open > 8 * kMaxYamlDepth) fail_at(source, line_of(text, i), "too many open brackets");
    i += length;
  }
}

}  // namespace

YamlNode* YamlNode::find(std::string_view key) {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return found == keys.end() ? nullptr : &items[static_cast<size_t>(found - keys.begin())];
}

YamlNode parse_yaml(std::string_view text, std::shared_ptr<const YamlSource> source) {
  check_bytes(text, *source);
  TreeBuilder builder(source);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      YamlNode empty;
      empty.source = source;
      empty.line = 1;
      return empty;
    }
    auto root = builder.take();
    TreeBuilder rest(source);
    if (parser.HandleNextDocument(rest)) fail_at(*source, rest.take().line, "holds more than one document (---)");
    return root;
  } catch (const YAML::Exception& e) {
    fail_at(*source, e.mark.is_null() ? 0 : e.mark.line + 1, fmt::format("not YAML: {}", printable(e.msg)));
  }
}

void fail_at(const YamlSource& source, int64_t line, const std::string& message) {
  if (source.command_line) throw UsageError(fmt::format("{}: {}", source.name, message));
  fail(ErrorKind::config, "{}{}: {}", source.name, line > 0 ? fmt::format(":{}", line) : "", message);
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case Kind::null: return "null";
    case Kind::scalar: return fmt::format("\"{}\"", printable(node.text, 60));
    case Kind::list: return fmt::format("a list of {}", node.items.size());
    case Kind::map: return "a mapping";
  }
  return "";
}

}  // namespace winnow::detail

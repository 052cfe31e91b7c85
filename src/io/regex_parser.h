// From a pattern to its syntax tree. regex_parse.cpp: groups and quantifiers; regex_class.cpp: escapes and classes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "regex_tree.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {

class RegexParser {
 public:
  RegexParser(std::string_view pattern, const RegexOptions& options)
      : pattern_(pattern), codes_(unicode::to_codes(pattern)), options_(options) {}

  RegexNode parse() {
    auto node = choice(0);
    if (more()) bad("has a ) without a (");
    return node;
  }

 private:
  [[noreturn]] void bad(const std::string& what) const {
    fail(ErrorKind::argument, "pattern {} {}", json_quote(pattern_), what);
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    fail(ErrorKind::unsupported, "pattern {} has {}, which is not supported", json_quote(pattern_), what);
  }
  [[nodiscard]] bool more(size_t n = 0) const { return at_ + n < codes_.size(); }
  [[nodiscard]] uint32_t peek(size_t n = 0) const { return more(n) ? codes_[at_ + n] : 0; }
  uint32_t next(const char* inside) {
    if (!more()) bad(std::string("ends inside ") + inside);
    return codes_[at_++];
  }
  bool take(std::string_view text) {
    for (size_t i = 0; i < text.size(); ++i) {
      if (!more(i) || peek(i) != static_cast<unsigned char>(text[i])) return false;
    }
    at_ += text.size();
    return true;
  }

  RegexNode choice(int depth);
  RegexNode sequence(int depth);
  std::optional<RegexNode> atom(int depth);
  std::optional<RegexNode> group(int depth);
  std::optional<RegexNode> flags(int depth);
  RegexNode closed(RegexNode inside) {
    if (!take(")")) bad("has a ( without a )");
    return inside;
  }
  RegexNode quantified(RegexNode node);
  bool interval(uint32_t& least, uint32_t& most);
  std::optional<uint32_t> number();

  RegexNode escape();
  bool class_escape(uint32_t letter, CharSet& set);
  uint32_t code_escape(uint32_t letter);
  uint32_t hexadecimal(int least, int most, const char* inside);
  void property(bool negated, CharSet& set);
  CharSet char_class(int depth);
  void posix_class(CharSet& set);
  void class_member(CharSet& set, int depth);

  RegexNode literal(uint32_t code) const;
  RegexNode of_set(CharSet set) const {
    if (ignore_case_) set.ignore_case();
    set.finish();
    RegexNode node{.kind = RegexNode::Kind::set};
    node.set = std::move(set);
    return node;
  }

  std::string_view pattern_;
  std::vector<uint32_t> codes_;
  RegexOptions options_;
  size_t at_ = 0;
  bool ignore_case_ = false, dot_all_ = false;
};

}  // namespace winnow::io

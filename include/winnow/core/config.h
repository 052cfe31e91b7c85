// The strict YAML reader. Every problem is one winnow::Error on one line that names the file, the line, the key, what
// was wanted, what came, and the nearest valid key:
//
//   mae.yaml:7: train.warmup: unknown key; did you mean train.warmup_steps?
//   mae.yaml:3: model.mask_ratio must be in [0, 1), got 1.5
//   mae.yaml:4: model.depth must be an integer, got "twelve"
//   --set train.lr=fast: train.lr must be a number, got "fast"
//
// A file holds one document whose top level is a mapping. Anchors, aliases, tags, merge keys, duplicate keys, bytes
// that are not UTF-8 text, nesting past 32 levels, files past 1 MiB are refused, so a hostile file can only fail.
// Booleans are true and false; integers are decimal and may contain underscores (1_000); `null` or `~` empties an
// optional.
//
//   auto config = Config::load("mae.yaml");
//   config.set("train.lr=1e-3");
//   auto model = config.read<mae::Options>("model");
//   auto train = config.read<train::Options>("train");
//   config.finish();                                   // whatever nobody read is an unknown key
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/options.h"

namespace winnow {

// An error of the command line: run_program ends with 2 on it, with 1 on every other. Its kind is argument.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(ErrorKind::argument, message) {}
};

// A read configuration. Copies share nothing. Not safe for use by two threads at once.
class Config {
 public:
  Config();  // no file: what is missing is then the command line's fault (UsageError)
  Config(const Config& other);
  Config(Config&&) noexcept;
  Config& operator=(Config) noexcept;
  ~Config();

  // Reads a file. Throws Error: kind file if it cannot be read or is too large, kind config if it is not such YAML.
  static Config load(const std::string& path);
  // The same from memory; the name stands for the file in messages.
  static Config parse(std::string_view text, std::string name = "config");

  // Puts "a.b=v" over what is there; v is YAML (--set train.betas=[0.9,0.95]), sections are made as needed. Throws
  // UsageError if there is no '=', a key is malformed or a.b runs through a value. Call before read.
  void set(std::string_view assignment);

  // Fills opts from the section ("model", "train.optimizer"; "" is the top level): fields whose key is absent keep
  // their value. A section that is absent counts as empty. Afterwards opts is in range and its rules hold. Throws Error
  // (config), or UsageError where the value came by set. Several structs may read the same section.
  template <typename T>
  void read(std::string_view section, T& opts) {
    read_table(section, detail::table_of<T>(), &opts);
  }

  // The same into T's defaults.
  template <typename T>
  T read(std::string_view section) {
    T opts{};
    read(section, opts);
    return opts;
  }

  // Whether the key or section is present: has("model.depth").
  [[nodiscard]] bool has(std::string_view path) const;

  // The one word or number under this key, as text, and marks it as read; fallback if absent. For a key that selects
  // what is read next (method: topk_sae).
  std::string text(std::string_view path, std::string_view fallback = "");

  // Throws for the first key that no read took: unknown key, with the nearest of the keys that were asked for there.
  void finish() const;

  // What stands before the colon in messages: the file, or "command line".
  [[nodiscard]] const std::string& name() const;

 private:
  struct State;
  explicit Config(std::unique_ptr<State> state);
  void read_table(std::string_view section, const detail::Table& table, void* object);
  std::unique_ptr<State> state_;
};

}  // namespace winnow

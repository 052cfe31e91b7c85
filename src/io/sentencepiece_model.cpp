// The .model file: a protocol buffer of the message ModelProto, read by hand.
#include <bit>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/io/sentencepiece.h"

namespace winnow::io {
namespace {

constexpr std::size_t kMaxPieceBytes = 1 << 16;

// One field of a message: its number and what it holds.
struct Field {
  enum class Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };
  uint64_t number = 0;
  Wire wire = Wire::varint;
  uint64_t value = 0;  // varint, fixed32, fixed64
  Bytes bytes{};
};

// Fields one after another.
class Message {
 public:
  Message(Bytes bytes, const std::string& name, const char* what) : bytes_(bytes), name_(name), what_(what) {}

  bool next(Field& field) {
    if (position_ == bytes_.size()) return false;
    const auto tag = varint();
    field.number = tag >> 3;
    field.wire = static_cast<Field::Wire>(tag & 7);
    check(field.number >= 1 && field.number < (uint64_t{1} << 29), "a field number out of range");
    switch (field.wire) {
      case Field::Wire::varint: field.value = varint(); return true;
      case Field::Wire::fixed64: field.value = fixed(8); return true;
      case Field::Wire::fixed32: field.value = fixed(4); return true;
      case Field::Wire::bytes: {
        const auto length = varint();
        check(length <= bytes_.size() - position_, "a length past its end");
        field.bytes = bytes_.subspan(position_, length);
        position_ += length;
        return true;
      }
    }
    check(false, "a field of unknown kind");
    return false;
  }

  // The value of a field of the wanted kind.
  [[nodiscard]] bool boolean(const Field& field) const { return number(field) != 0; }
  [[nodiscard]] int64_t number(const Field& field) const {
    check(field.wire == Field::Wire::varint, "a field that should be a number");
    return std::bit_cast<int64_t>(field.value);
  }
  [[nodiscard]] float real(const Field& field) const {
    check(field.wire == Field::Wire::fixed32, "a field that should be a float");
    return std::bit_cast<float>(static_cast<uint32_t>(field.value));
  }
  [[nodiscard]] Bytes content(const Field& field) const {
    check(field.wire == Field::Wire::bytes, "a field that should hold bytes");
    return field.bytes;
  }
  [[nodiscard]] std::string text(const Field& field) const { return std::string(as_text(content(field))); }

  void check(bool condition, const char* fault) const {
    WINNOW_CHECK_KIND(condition, ErrorKind::file, "{}: not a SentencePiece model, or damaged: {} has {} at byte {}",
                      name_, what_, fault, position_);
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      check(position_ < bytes_.size(), "a number past its end");
      const auto byte = bytes_[position_++];
      value |= uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    check(false, "a number of more than 64 bits");
    return 0;
  }
  uint64_t fixed(std::size_t size) {
    check(size <= bytes_.size() - position_, "a number past its end");
    uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= uint64_t{bytes_[position_ + i]} << (8 * i);
    position_ += size;
    return value;
  }

  Bytes bytes_;
  const std::string& name_;
  const char* what_;
  std::size_t position_ = 0;
};

SentencePiece read_piece(Bytes bytes, const std::string& name, std::size_t id) {
  SentencePiece piece;
  Message message(bytes, name, "a piece");
  for (Field field; message.next(field);) {
    if (field.number == 1) piece.text = message.text(field);
    if (field.number == 2) piece.score = message.real(field);
    if (field.number == 3) {
      const auto type = message.number(field);
      message.check(type >= 1 && type <= 6, "a type that does not exist");
      piece.type = static_cast<PieceType>(type);
    }
  }
  WINNOW_CHECK_KIND(!piece.text.empty() && piece.text.size() <= kMaxPieceBytes, ErrorKind::file,
                    "{}: piece {} has {} bytes, must have 1 to {}", name, id, piece.text.size(), kMaxPieceBytes);
  WINNOW_CHECK_KIND(std::isfinite(piece.score), ErrorKind::file, "{}: the score of piece {} ({}) is not finite", name,
                    id, printable(piece.text, 60));
  return piece;
}

void read_trainer(Bytes bytes, const std::string& name, SentencePieceModel& model) {
  Message message(bytes, name, "its trainer_spec");
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 3: {
        const auto algorithm = message.number(field);
        message.check(algorithm >= 1 && algorithm <= 4, "a model type that does not exist");
        model.algorithm = static_cast<SentencePieceAlgorithm>(algorithm);
        break;
      }
      case 24: model.whitespace_as_suffix = message.boolean(field); break;
      case 35: model.byte_fallback = message.boolean(field); break;
      case 44: model.unk_surface = message.text(field); break;
      case 45: model.unk_piece = message.text(field); break;
      case 46: model.bos_piece = message.text(field); break;
      case 47: model.eos_piece = message.text(field); break;
      case 48: model.pad_piece = message.text(field); break;
      default: break;
    }
  }
}

// `map` gets the table of the spec where it has one.
void read_normalizer(Bytes bytes, const std::string& name, SentencePieceModel& model,
                     std::shared_ptr<const Charsmap>& map, bool options) {
  Message message(bytes, name, "its normalizer_spec");
  for (Field field; message.next(field);) {
    if (field.number == 2) {
      const auto table = message.content(field);
      map = table.empty() ? nullptr : std::make_shared<Charsmap>(table, name);
    }
    if (!options) continue;
    if (field.number == 1) model.normalizer = message.text(field);
    if (field.number == 3) model.add_dummy_prefix = message.boolean(field);
    if (field.number == 4) model.remove_extra_whitespaces = message.boolean(field);
    if (field.number == 5) model.escape_whitespaces = message.boolean(field);
  }
}

void check_pieces(const SentencePieceModel& model, const std::string& name) {
  std::unordered_set<std::string_view> seen;
  std::size_t unknown = 0, bytes = 0;
  for (const auto& piece : model.pieces) {
    WINNOW_CHECK_KIND(seen.insert(piece.text).second, ErrorKind::file, "{}: the piece {} stands twice", name,
                      printable(piece.text, 60));
    unknown += piece.type == PieceType::unknown ? 1 : 0;
    if (piece.type != PieceType::byte) continue;
    ++bytes;
    const bool form = piece.text.size() == 6 && piece.text.starts_with("<0x") && piece.text.ends_with('>') &&
                      piece.text.find_first_not_of("0123456789ABCDEF", 3) == 5;
    WINNOW_CHECK_KIND(form, ErrorKind::file, "{}: the byte piece {} must be written as <0x41>", name,
                      printable(piece.text, 60));
    WINNOW_CHECK_KIND(model.byte_fallback, ErrorKind::file, "{}: there are byte pieces ({}), but byte_fallback is off",
                      name, piece.text);
  }
  WINNOW_CHECK_KIND(unknown == 1, ErrorKind::file, "{}: a model must have one unknown piece, this one has {}", name,
                    unknown);
  WINNOW_CHECK_KIND(!model.byte_fallback || bytes == 256, ErrorKind::file,
                    "{}: byte_fallback needs 256 byte pieces, there are {}", name, bytes);
}

}  // namespace

SentencePieceModel parse_sentencepiece(Bytes bytes, const std::string& name) {
  SentencePieceModel model;
  Message message(bytes, name, "the file");
  for (Field field; message.next(field);) {
    if (field.number == 1) model.pieces.push_back(read_piece(message.content(field), name, model.pieces.size()));
    if (field.number == 2) read_trainer(message.content(field), name, model);
    if (field.number == 3) read_normalizer(message.content(field), name, model, model.charsmap, /*options=*/true);
    if (field.number == 5) read_normalizer(message.content(field), name, model, model.denormalizer, /*options=*/false);
  }
  WINNOW_CHECK_KIND(!model.pieces.empty(), ErrorKind::file, "{}: not a SentencePiece model: it has no pieces", name);
  check_pieces(model, name);
  return model;
}

SentencePieceModel read_sentencepiece(const std::filesystem::path& path) {
  const auto content = winnow::read_file(path.string());
  return parse_sentencepiece(as_bytes(content), path.string());
}

}  // namespace winnow::io

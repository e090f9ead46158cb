#include "tokenizer/model_file.h"

#include <cmath>
#include <cstdint>
#include <mutex>
#include <set>

#include "gato/core/error.h"
#include "sentencepiece_processor.h"

namespace gato::tokenizer::detail {
namespace {

using sentencepiece::ModelProto;
using Piece = sentencepiece::ModelProto::SentencePiece;

constexpr const char* kRemedy = "; train one with `gato-data train-tokenizer`";
/// Fields of the file besides pieces: settings. A trained model has some dozens.
constexpr size_t kMaxOtherFields = 10000;
/// SentencePiece looks user-defined symbols up with room for 64 of them that start each other.
constexpr int kMaxUserSymbolBytes = 64;
/// Scores are sums of logarithms, or ranks; more would let sums over a text overflow.
constexpr float kMaxScore = 1e7f;

/// Walks protobuf's wire format without believing it: a message is a list of fields, each with a number, a wire type
/// and a length that must lie inside the message. Offsets in errors are counted in the file.
class WireReader {
 public:
  WireReader(std::string_view file, size_t begin, size_t end, const std::string& origin)
      : file_(file), at_(begin), end_(end), origin_(origin) {}

  struct Field {
    uint64_t number = 0;
    bool has_bytes = false;  ///< Length-delimited: [begin, end) is its content.
    size_t begin = 0, end = 0;
  };

  [[nodiscard]] bool done() const { return at_ == end_; }

  [[nodiscard]] Field next() {
    const size_t start = at_;
    const uint64_t tag = varint();
    Field field{tag >> 3, false, at_, at_};
    if (field.number == 0 || field.number > 0x1fffffff) fail(start, "a field number out of range");
    switch (tag & 7) {
      case 0:
        static_cast<void>(varint());
        break;
      case 1:
        skip(8);
        break;
      case 2: {
        const uint64_t length = varint();
        field.has_bytes = true;
        field.begin = at_;
        skip(length);
        break;
      }
      case 5:
        skip(4);
        break;
      default:
        fail(start, "an unknown wire type");
    }
    field.end = at_;
    return field;
  }

  [[noreturn]] void fail(size_t offset, std::string_view problem) const {
    throw DataError(
        cat(origin_, ": no SentencePiece model: ", problem, " at byte ", offset, " of ", file_.size(), kRemedy));
  }

 private:
  uint64_t varint() {
    const size_t start = at_;
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) fail(start, "a number is cut off");
      const auto byte = static_cast<uint8_t>(file_[at_++]);
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail(start, "a number of more than ten bytes");
  }

  void skip(uint64_t count) {
    if (count > end_ - at_) fail(at_, cat("a field of ", count, " bytes where ", end_ - at_, " are left"));
    at_ += static_cast<size_t>(count);
  }

  std::string_view file_;
  size_t at_, end_;
  const std::string& origin_;
};

void check_piece_length(std::string_view file, const WireReader::Field& piece, const std::string& origin) {
  WireReader reader(file, piece.begin, piece.end, origin);
  for (int fields = 0; !reader.done(); ++fields) {
    if (fields == 16) reader.fail(piece.begin, "a piece of more than 16 fields");
    const WireReader::Field field = reader.next();
    if (field.number == 1 && field.has_bytes && field.end - field.begin > kMaxPieceBytes) {
      reader.fail(field.begin, cat("a piece of ", field.end - field.begin, " bytes (at most ", kMaxPieceBytes, ")"));
    }
  }
}

/// Bounds everything that parsing would take memory for.
void check_wire_format(std::string_view file, const std::string& origin) {
  WireReader reader(file, 0, file.size(), origin);
  size_t pieces = 0, others = 0;
  while (!reader.done()) {
    const WireReader::Field field = reader.next();
    if (field.number == 1) {
      if (!field.has_bytes) reader.fail(field.begin, "a piece that is no message");
      if (++pieces > kMaxPieces) reader.fail(field.begin, cat("more than ", kMaxPieces, " pieces"));
      check_piece_length(file, field, origin);
      continue;
    }
    ++others;
    if (field.has_bytes) {
      WireReader inner(file, field.begin, field.end, origin);
      while (!inner.done()) {
        static_cast<void>(inner.next());
        if (++others > kMaxOtherFields) inner.fail(field.begin, cat("more than ", kMaxOtherFields, " settings"));
      }
    }
  }
  if (pieces == 0) reader.fail(0, "no pieces");
}

/// Collects what is wrong with a parsed model into one DataError.
class ModelCheck {
 public:
  ModelCheck(const ModelProto& model, const std::string& origin) : model_(model), origin_(origin) {}

  void run() const {
    check_settings();
    check_pieces();
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(const Args&... problem) const {
    throw DataError(cat(origin_, ": unusable SentencePiece model: ", problem..., kRemedy));
  }

  void check_settings() const {
    const auto& trainer = model_.trainer_spec();
    const auto& normalizer = model_.normalizer_spec();
    if (trainer.model_type() != sentencepiece::TrainerSpec::UNIGRAM &&
        trainer.model_type() != sentencepiece::TrainerSpec::BPE) {
      fail("its type is neither unigram nor bpe");
    }
    if (!trainer.byte_fallback()) fail("trained without byte_fallback, so it loses characters it does not know");
    if (normalizer.add_dummy_prefix()) fail("trained with add_dummy_prefix, which changes texts");
    if (normalizer.remove_extra_whitespaces()) fail("trained with remove_extra_whitespaces, which changes texts");
    if (!normalizer.escape_whitespaces()) fail("trained without escape_whitespaces");
    if (!normalizer.precompiled_charsmap().empty() || !normalizer.normalization_rule_tsv().empty()) {
      fail("trained with the normalization '", normalizer.name(), "', which changes texts; only 'identity' keeps them");
    }
    if (!model_.denormalizer_spec().precompiled_charsmap().empty())
      fail("it has a denormalization, which changes texts");
    if (model_.self_test_data().samples_size() > 0) fail("it has self-test samples, which are not supported");
  }

  void check_pieces() const {
    std::set<std::string_view> seen;
    bool has_end = false;
    for (int id = 0; id < model_.pieces_size(); ++id) {
      const Piece& piece = model_.pieces(id);
      check_piece(id, piece);
      if (!seen.insert(piece.piece()).second) fail("piece ", id, " occurs twice");
      has_end = has_end || (piece.type() == Piece::CONTROL && piece.piece() == kEndPiece);
    }
    if (!has_end) fail("it has no control piece ", kEndPiece);
  }

  void check_piece(int id, const Piece& piece) const {
    if (piece.piece().empty()) fail("piece ", id, " is empty");
    if (!is_valid_utf8(piece.piece())) fail("piece ", id, " is not valid UTF-8");
    if (piece.piece().find('\0') != std::string::npos) fail("piece ", id, " contains U+0000");
    if (!std::isfinite(piece.score()) || std::abs(piece.score()) > kMaxScore) {
      fail("piece ", id, " has score ", piece.score(), ", must be in [-", kMaxScore, ", ", kMaxScore, "]");
    }
    if (piece.type() == Piece::USER_DEFINED && piece.piece().size() > kMaxUserSymbolBytes) {
      fail("the user-defined piece ", id, " has ", piece.piece().size(), " bytes, at most ", kMaxUserSymbolBytes);
    }
  }

  const ModelProto& model_;
  const std::string& origin_;
};

}  // namespace

void silence_sentencepiece() {
  constexpr int kFatalOnly = 3;
  static std::once_flag once;  // the level is a plain global
  std::call_once(once, [] { sentencepiece::SetMinLogLevel(kFatalOnly); });
}

std::unique_ptr<ModelProto> parse_model(std::string_view bytes, const std::string& origin) {
  if (bytes.size() > kMaxModelBytes) {
    throw DataError(cat(origin, ": a SentencePiece model of ", bytes.size(), " bytes; at most ", kMaxModelBytes,
                        " are accepted", kRemedy));
  }
  check_wire_format(bytes, origin);
  auto model = std::make_unique<ModelProto>();
  if (!model->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw DataError(cat(origin, ": no SentencePiece model: protobuf cannot parse it", kRemedy));
  }
  ModelCheck(*model, origin).run();
  return model;
}

}  // namespace gato::tokenizer::detail

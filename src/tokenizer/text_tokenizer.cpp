#include "gato/tokenizer/text_tokenizer.h"

#include <algorithm>
#include <utility>

#include "gato/core/error.h"
#include "sentencepiece_processor.h"
#include "tokenizer/model_file.h"

namespace gato::tokenizer {
namespace {

using Piece = sentencepiece::ModelProto::SentencePiece;

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
constexpr size_t kChunkBytes = 4096;      // Texts longer than this are encoded in chunks cut before spaces,
constexpr size_t kMaxChunkBytes = 65536;  // or, where there are none, at this length.

std::string with_spaces(const std::string& piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    const bool is_space = piece.compare(at, detail::kSpaceSymbol.size(), detail::kSpaceSymbol) == 0;
    text += is_space ? ' ' : piece[at];
    at += is_space ? detail::kSpaceSymbol.size() : 1;
  }
  return text;
}

/// Whether no piece has a space behind its beginning. Then texts may be cut before any space without changing their
/// pieces.
bool can_cut_before_spaces(const sentencepiece::ModelProto& model) {
  return std::none_of(model.pieces().begin(), model.pieces().end(), [](const Piece& piece) {
    return piece.piece().find(detail::kSpaceSymbol, 1) != std::string::npos;
  });
}

/// Appends `bytes` as UTF-8, U+FFFD in place of each byte that is not.
void append_bytes(std::string_view bytes, std::string& text) {
  while (!bytes.empty()) {
    size_t valid = bytes.size();
    if (is_valid_utf8(bytes, &valid)) valid = bytes.size();
    text.append(bytes.substr(0, valid));
    if (valid == bytes.size()) return;
    text.append(kReplacement);
    bytes.remove_prefix(valid + 1);
  }
}

/// A character that SentencePiece cannot take as text: U+2581 or U+0000.
struct Special {
  size_t begin = 0, bytes = 0;
};

/// The first one in `text`; its end when there is none.
Special find_special(std::string_view text) {
  const std::string_view first_bytes("\xe2\0", 2);
  for (size_t at = text.find_first_of(first_bytes); at != std::string_view::npos;
       at = text.find_first_of(first_bytes, at + 1)) {
    if (text[at] == '\0') return {at, 1};
    if (text.substr(at, detail::kSpaceSymbol.size()) == detail::kSpaceSymbol) return {at, detail::kSpaceSymbol.size()};
  }
  return {text.size(), 0};
}

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

/// Bytes of the first chunk of `text`, which is valid UTF-8.
size_t chunk_bytes(std::string_view text, bool cut_before_spaces) {
  if (text.size() <= kChunkBytes) return text.size();
  if (cut_before_spaces) {
    const size_t space = text.substr(kChunkBytes, kMaxChunkBytes - kChunkBytes).find(' ');
    if (space != std::string_view::npos) return kChunkBytes + space;
  }
  if (text.size() <= kMaxChunkBytes) return text.size();
  size_t end = kMaxChunkBytes;
  while (is_continuation(text[end])) --end;
  return end;
}

}  // namespace

struct TextTokenizer::State {
  enum class Kind : uint8_t { kText, kByte, kSilent };

  sentencepiece::SentencePieceProcessor processor;
  std::string model_bytes, digest;
  std::vector<std::string> surfaces;  ///< What each id stands for in a text.
  std::vector<Kind> kinds;
  std::vector<int32_t> byte_ids = std::vector<int32_t>(256, -1);
  int32_t end_id = -1;
  bool cut_before_spaces = false;

  void read_pieces(const sentencepiece::ModelProto& model);
  void encode_bytes(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_chunk(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_plain(std::string_view text, std::vector<int32_t>& ids) const;
};

void TextTokenizer::State::read_pieces(const sentencepiece::ModelProto& model) {
  for (int32_t id = 0; id < model.pieces_size(); ++id) {
    const Piece& piece = model.pieces(id);
    if (piece.type() == Piece::BYTE) {
      const auto byte = static_cast<size_t>(std::stoi(piece.piece().substr(3, 2), nullptr, 16));  // "<0x41>"
      byte_ids[byte] = id;
      surfaces.emplace_back(1, static_cast<char>(byte));
      kinds.push_back(Kind::kByte);
    } else if (piece.type() == Piece::CONTROL || piece.type() == Piece::UNKNOWN) {
      surfaces.emplace_back();
      kinds.push_back(Kind::kSilent);
      if (piece.piece() == detail::kEndPiece) end_id = id;
    } else {
      surfaces.push_back(with_spaces(piece.piece()));
      kinds.push_back(Kind::kText);
    }
  }
  cut_before_spaces = can_cut_before_spaces(model);
}

void TextTokenizer::State::encode_bytes(std::string_view text, std::vector<int32_t>& ids) const {
  for (const char byte : text) ids.push_back(byte_ids[static_cast<unsigned char>(byte)]);
}

void TextTokenizer::State::encode_chunk(std::string_view text, std::vector<int32_t>& ids) const {
  std::vector<int> chunk;
  const auto status = processor.Encode({text.data(), text.size()}, &chunk);
  if (!status.ok())
    throw DataError(cat("SentencePiece cannot encode a text of ", text.size(), " bytes: ", status.ToString()));
  // A model without a piece for the space spells it in the bytes of U+2581, which stand for that character here.
  const int32_t first = byte_ids[0xE2], second = byte_ids[0x96], third = byte_ids[0x81];
  for (size_t i = 0; i < chunk.size(); ++i) {
    const bool is_space = chunk[i] == first && i + 2 < chunk.size() && chunk[i + 1] == second && chunk[i + 2] == third;
    ids.push_back(is_space ? byte_ids[static_cast<size_t>(' ')] : chunk[i]);
    if (is_space) i += 2;
  }
}

void TextTokenizer::State::encode_plain(std::string_view text, std::vector<int32_t>& ids) const {
  while (!text.empty()) {
    const size_t bytes = chunk_bytes(text, cut_before_spaces);
    encode_chunk(text.substr(0, bytes), ids);
    text.remove_prefix(bytes);
  }
}

TextTokenizer TextTokenizer::load(const Path& model_file) {
  return from_bytes(read_file(model_file, detail::kMaxModelBytes), model_file.string());
}

TextTokenizer TextTokenizer::from_bytes(std::string_view model, const std::string& origin) {
  detail::silence_sentencepiece();
  std::unique_ptr<sentencepiece::ModelProto> proto = detail::parse_model(model, origin);
  auto state = std::make_unique<State>();
  try {
    const auto status = state->processor.Load(*proto);
    if (!status.ok()) throw DataError(status.ToString());
  } catch (const std::exception& error) {
    throw DataError(cat(origin, ": SentencePiece refuses the model: ", error.what()));
  }
  state->read_pieces(*proto);
  state->model_bytes = model;
  state->digest = digest128(model);
  return TextTokenizer(std::move(state));
}

TextTokenizer::TextTokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextTokenizer::TextTokenizer(TextTokenizer&&) noexcept = default;
TextTokenizer& TextTokenizer::operator=(TextTokenizer&&) noexcept = default;
TextTokenizer::~TextTokenizer() = default;

int32_t TextTokenizer::size() const { return static_cast<int32_t>(state_->surfaces.size()); }
int32_t TextTokenizer::end_id() const { return state_->end_id; }
const std::string& TextTokenizer::digest() const { return state_->digest; }
const std::string& TextTokenizer::model_bytes() const { return state_->model_bytes; }

std::vector<int32_t> TextTokenizer::encode(std::string_view text) const {
  size_t bad_offset = 0;
  if (!is_valid_utf8(text, &bad_offset)) {
    throw DataError(cat("byte ", bad_offset, " of a text of ", text.size(), " bytes is not valid UTF-8"));
  }
  std::vector<int32_t> ids;
  while (!text.empty()) {
    const Special special = find_special(text);
    state_->encode_plain(text.substr(0, special.begin), ids);
    state_->encode_bytes(text.substr(special.begin, special.bytes), ids);
    text.remove_prefix(special.begin + special.bytes);
  }
  return ids;
}

std::string TextTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text, bytes;
  for (const int32_t id : ids) {
    if (id < 0 || id >= size()) throw DataError(cat("text id ", id, " is outside [0, ", size(), ")"));
    const std::string& surface = state_->surfaces[static_cast<size_t>(id)];
    if (state_->kinds[static_cast<size_t>(id)] == State::Kind::kByte) {
      bytes += surface;
      continue;
    }
    append_bytes(bytes, text);
    bytes.clear();
    text += surface;
  }
  append_bytes(bytes, text);
  return text;
}

std::string TextTokenizer::piece(int32_t id) const {
  GATO_CHECK(id >= 0 && id < size(), "text id ", id, " is outside [0, ", size(), ")");
  return state_->processor.IdToPiece(id);
}

}  // namespace gato::tokenizer

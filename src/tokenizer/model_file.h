#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "sentencepiece_model.pb.h"

/// What is asked of a SentencePiece model before it is trusted. SentencePiece itself believes its model file.
namespace gato::tokenizer::detail {

constexpr size_t kMaxModelBytes = size_t{16} << 20;
constexpr size_t kMaxPieceBytes = 4096;
constexpr size_t kMaxPieces = size_t{1} << 20;

constexpr std::string_view kEndPiece = "</s>";
constexpr std::string_view kUnknownPiece = "<unk>";
constexpr std::string_view kSpaceSymbol = "\xe2\x96\x81";  ///< U+2581, SentencePiece's sign for a space.

/// Keeps SentencePiece from writing to standard error: its errors come back as a status. Call before using it.
void silence_sentencepiece();

/// The model in `bytes`. Throws DataError naming `origin` for: more than 16 MiB, malformed protobuf (with the offset),
/// too many or too long pieces, and for what check_model finds.
[[nodiscard]] std::unique_ptr<sentencepiece::ModelProto> parse_model(std::string_view bytes, const std::string& origin);

}  // namespace gato::tokenizer::detail

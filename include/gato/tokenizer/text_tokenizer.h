#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/config.h"
#include "gato/core/file.h"

namespace gato::tokenizer {

/// SentencePiece with byte fallback, identity normalisation, no dummy prefix and no whitespace removal, so that
/// decode(encode(x)) == x for every valid UTF-8 text. U+2581, with which SentencePiece writes spaces, and U+0000, which
/// its tables cannot hold, are always encoded as byte pieces. Const and thread-safe.
class TextTokenizer {
 public:
  /// Loads a model file (<= 16 MiB, checked before SentencePiece sees it). Throws DataError naming the file when it is
  /// damaged, was trained with settings that lose bytes, or lacks `</s>` or byte pieces. A damaged file whose damage
  /// leaves a valid model cannot be told from another model: its digest() differs.
  static TextTokenizer load(const Path& model_file);
  static TextTokenizer from_bytes(std::string_view model, const std::string& origin);
  TextTokenizer(TextTokenizer&&) noexcept;
  TextTokenizer& operator=(TextTokenizer&&) noexcept;
  ~TextTokenizer();

  [[nodiscard]] int32_t size() const;               ///< Number of ids, T.
  [[nodiscard]] int32_t end_id() const;             ///< `</s>`, which ends every text action.
  [[nodiscard]] const std::string& digest() const;  ///< XXH3-128 of the model file.
  [[nodiscard]] const std::string& model_bytes() const;
  /// Ids of `text`, without `</s>`. Throws DataError naming the offset for invalid UTF-8.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text) const;
  /// Exact inverse of encode; control ids and `<unk>` give nothing, byte pieces that make no valid UTF-8 give U+FFFD.
  /// Throws DataError for ids outside [0, size()).
  [[nodiscard]] std::string decode(std::span<const int32_t> ids) const;
  [[nodiscard]] std::string piece(int32_t id) const;  ///< The piece's text, for people.

 private:
  struct State;
  explicit TextTokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// How a text tokenizer is trained (`gato-data train-tokenizer`).
struct TokenizerTraining {
  int64_t vocabulary_size = 1024;      ///< T, with `<unk>` (id 0), `</s>` (id 1) and 256 byte pieces (ids 2..257).
  std::string model_type = "unigram";  ///< "unigram" or "bpe".
  int64_t max_sentences = 1000000;     ///< Texts taken from the input; the rest is not read.
};
GATO_CONFIG(TokenizerTraining,
            GATO_FIELD(vocabulary_size, "Number of ids, at least 1024 unless discrete ids are private."),
            GATO_FIELD(model_type, "unigram or bpe."), GATO_FIELD(max_sentences, "Texts used for training."))
void validate_config(const TokenizerTraining& config, ConfigProblems& problems);

/// Trains on the texts that `next` yields until it returns false, and returns the model file's bytes. At most 128 MiB
/// of text are read. Runs on one thread, since SentencePiece's sums depend on the number of threads; the same texts
/// give the same bytes (for "bpe" up to ties between two merges that spell the same piece, which SentencePiece breaks
/// by address). Throws ConfigError when the texts are too few for the size asked, naming the largest size possible, and
/// DataError naming text and offset for invalid UTF-8.
[[nodiscard]] std::string train_text_tokenizer(const TokenizerTraining& config,
                                               const std::function<bool(std::string& text)>& next);

}  // namespace gato::tokenizer

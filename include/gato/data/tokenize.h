#pragma once
#include <functional>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/shard.h"
#include "gato/tokenizer/text_tokenizer.h"

namespace gato::data {

/// What tokenize_shard did.
struct TokenizedShard {
  Path shard;
  int64_t texts = 0, tokens = 0;
  bool had_text = false;  ///< Shards without text fields get no token columns.
  bool reused = false;    ///< Columns of this tokenizer were already there.
};

/// Writes the token columns of a shard (episode::token_columns_path), unless those of this tokenizer are already there.
/// DataError for damaged shards.
TokenizedShard tokenize_shard(const Path& shard, const tokenizer::TextTokenizer& text);

/// Yields the texts of all text fields of all shards, for training a text tokenizer, until it returns false: a fixed
/// order, each task giving in turn, so that a cut after some texts still sees every task. A text equal to the one
/// before it is passed over: missions repeat from step to step.
[[nodiscard]] std::function<bool(std::string&)> texts_of(const std::vector<Path>& shards);

}  // namespace gato::data

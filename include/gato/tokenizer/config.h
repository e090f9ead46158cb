#pragma once
#include <string>

#include "gato/core/config.h"

namespace gato::tokenizer {

/// The tokens of a run (`tokenizer` in a config file).
struct TokenizerConfig {
  std::string model;  ///< SentencePiece model file, made by `gato-data train-tokenizer`; "": the tasks have no text.
  bool private_discrete = false;  ///< Own ids for discrete values instead of text ids 0..1023.
};
GATO_CONFIG(TokenizerConfig,
            GATO_FIELD(model,
                       "SentencePiece model file, made by `gato-data train-tokenizer`; empty: the tasks have no text."),
            GATO_FIELD(private_discrete, "Own ids for discrete values instead of text ids 0..1023 as in the paper."))

}  // namespace gato::tokenizer

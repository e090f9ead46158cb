#pragma once
#include <string>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/config.h"

namespace gato::cli {

/// What a card is made from.
struct CardInputs {
  std::string name;
  const checkpoint::Checkpoint* checkpoint = nullptr;
  ConfigNode config;  ///< The resolved configuration.
  uint64_t parameters = 0;
  std::string weights_type;  ///< "F32" or "BF16".
  Path run;                  ///< Whose scores are told; empty: none.
};

/// The model card, Markdown with a YAML head as Hugging Face reads it: what the model is, what it was trained on
/// (mixture, tasks with their licences, tokens, steps), its scores where the run knows them, what it is for, and how it
/// can harm.
[[nodiscard]] std::string model_card(const CardInputs& inputs);

}  // namespace gato::cli

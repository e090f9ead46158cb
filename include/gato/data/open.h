#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "gato/data/plan.h"
#include "gato/tokenizer/config.h"

namespace gato::data {

/// The data side of a run: text tokenizer, sources of both splits, and their row plans.
struct OpenedData {
  std::shared_ptr<const tokenizer::TextTokenizer> text;  ///< Null for tasks without text. Sources point to it.
  std::optional<tokenizer::Vocabulary> vocabulary;
  std::vector<std::shared_ptr<const Source>> training, validation;
  std::shared_ptr<const RowPlan> plan;
  std::shared_ptr<const RowPlan> validation_plan;  ///< Null when nothing is held out.
};

/// Opens what a configuration's `data` and `tokenizer` sections name. `seed`: of the run (`train.seed`). Throws
/// ConfigError for missing data sets and tokenizers (naming the command that makes them) and as RowPlan does.
[[nodiscard]] OpenedData open_data(const DataConfig& config, const tokenizer::TokenizerConfig& tokens, uint64_t seed);

}  // namespace gato::data

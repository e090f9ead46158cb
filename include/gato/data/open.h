#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gato/data/plan.h"
#include "gato/data/schedule.h"
#include "gato/tokenizer/config.h"

namespace gato::data {

/// What a run knows of its data when it is opened again.
struct OpenOptions {
  uint64_t seed = 0;                         ///< Of the run (`train.seed`).
  const ScheduleRecord* recorded = nullptr;  ///< schedule.json of the run folder; null: a new run.
  int64_t consumed_rows = 0;                 ///< Rows that the run has used.
};

/// The data side of a run: text tokenizer, sources of both splits inside their row plans.
struct OpenedData {
  std::shared_ptr<const tokenizer::TextTokenizer> text;  ///< Null for tasks without text. Sources point to it.
  std::optional<tokenizer::Vocabulary> vocabulary;
  std::shared_ptr<const RowPlan> plan;
  std::shared_ptr<const RowPlan> validation_plan;  ///< Null when nothing is held out.
  ScheduleRecord record;                           ///< To be stored as schedule.json.
  std::vector<std::string> notes;                  ///< For people.
};

/// Opens what a configuration's `data` and `tokenizer` sections name. Throws ConfigError for missing data sets and
/// tokenizers (naming the command that makes them), as RowPlan does, and as open_phases does for what `recorded` says.
[[nodiscard]] OpenedData open_data(const DataConfig& config, const tokenizer::TokenizerConfig& tokens,
                                   const OpenOptions& options);

}  // namespace gato::data

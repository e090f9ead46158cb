#include "gato/data/open.h"

#include <algorithm>
#include <filesystem>

#include "gato/core/error.h"

namespace gato::data {
namespace {

std::shared_ptr<const tokenizer::TextTokenizer> load_text(const tokenizer::TokenizerConfig& tokens) {
  if (tokens.model.empty()) return nullptr;
  if (!std::filesystem::exists(tokens.model)) {
    throw ConfigError(cat("tokenizer.model: ", tokens.model,
                          " does not exist; make it with `gato-data train-tokenizer --out ", tokens.model,
                          " DATASET ...`"));
  }
  return std::make_shared<const tokenizer::TextTokenizer>(tokenizer::TextTokenizer::load(tokens.model));
}

bool any_source(const std::vector<PhaseSources>& phases) {
  return std::any_of(phases.begin(), phases.end(), [](const PhaseSources& phase) { return !phase.sources.empty(); });
}

}  // namespace

OpenedData open_data(const DataConfig& config, const tokenizer::TokenizerConfig& tokens, const OpenOptions& options) {
  // Missing data is told before a missing tokenizer, which is made from it.
  static_cast<void>(find_shards(config));
  OpenedData opened;
  opened.text = load_text(tokens);
  const int64_t text_size = opened.text ? opened.text->size() : tokenizer::kNumBins;  // room for discrete ids
  opened.vocabulary = tokenizer::Vocabulary(text_size, tokens.private_discrete);
  OpenedPhases phases =
      open_phases(config, *opened.vocabulary, opened.text.get(), options.recorded, options.consumed_rows);
  opened.plan = std::make_shared<const RowPlan>(config, std::move(phases.training), options.seed);
  opened.record = std::move(phases.record);
  opened.notes = std::move(phases.notes);
  if (any_source(phases.validation)) {
    opened.validation_plan = std::make_shared<const RowPlan>(config, std::move(phases.validation), options.seed, true);
  }
  return opened;
}

}  // namespace gato::data

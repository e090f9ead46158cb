#include "gato/data/open.h"

#include <filesystem>

#include "gato/core/error.h"

namespace gato::data {

OpenedData open_data(const DataConfig& config, const tokenizer::TokenizerConfig& tokens, uint64_t seed) {
  static_cast<void>(find_shards(config));  // missing data is told before a missing tokenizer, which is made from it
  OpenedData opened;
  if (!tokens.model.empty()) {
    if (!std::filesystem::exists(tokens.model)) {
      throw ConfigError(cat("tokenizer.model: ", tokens.model,
                            " does not exist; make it with `gato-data train-tokenizer --out ", tokens.model,
                            " DATASET ...`"));
    }
    opened.text = std::make_shared<const tokenizer::TextTokenizer>(tokenizer::TextTokenizer::load(tokens.model));
  }
  const int64_t text_size = opened.text ? opened.text->size() : tokenizer::kNumBins;  // room for discrete ids
  opened.vocabulary = tokenizer::Vocabulary(text_size, tokens.private_discrete);
  const tokenizer::TextTokenizer* text = opened.text.get();
  opened.training = open_sources(config, *opened.vocabulary, text, Split::kTraining);
  opened.validation = open_sources(config, *opened.vocabulary, text, Split::kValidation);
  opened.plan = std::make_shared<const RowPlan>(config, opened.training, seed);
  if (!opened.validation.empty())
    opened.validation_plan = std::make_shared<const RowPlan>(config, opened.validation, seed, true);
  return opened;
}

}  // namespace gato::data

#include "session.h"

namespace gato::train {

data::OpenedData open_data(const TrainingConfig& config) {
  return data::open_data(config.data, config.tokenizer, static_cast<uint64_t>(config.train.seed));
}

model::ModelShape model_shape(const tokenizer::Vocabulary& vocabulary) {
  return {vocabulary.size(), vocabulary.first_bin(), tokenizer::kNumBins};
}

}  // namespace gato::train

#include <algorithm>
#include <map>

#include "session.h"

namespace gato::train {

data::OpenedData open_data(const TrainingConfig& config, const run::RunFolder& folder, int64_t consumed_rows) {
  data::OpenOptions options;
  options.seed = static_cast<uint64_t>(config.train.seed);
  options.consumed_rows = consumed_rows;
  std::optional<data::ScheduleRecord> recorded;
  const auto schedule = folder.read_schedule();
  if (schedule && consumed_rows > 0) {
    recorded = data::parse_schedule_record(*schedule, folder.schedule_path().string());
    options.recorded = &*recorded;
  }
  return data::open_data(config.data, config.tokenizer, options);
}

data::OpenedData open_data(const TrainingConfig& config) {
  data::OpenOptions options;
  options.seed = static_cast<uint64_t>(config.train.seed);
  return data::open_data(config.data, config.tokenizer, options);
}

std::shared_ptr<data::Quarantine> open_quarantine(const TrainingConfig& config, const data::RowPlan& plan,
                                                  const Path& list, bool writes) {
  if (config.data.on_corrupt != data::OnCorrupt::kQuarantine) return nullptr;
  std::map<std::string, int64_t> by_source;  // a later phase may open a source again, with more shards
  for (const auto& source : plan.sources()) {
    int64_t& most = by_source[source->id()];
    most = std::max(most, source->num_episodes());
  }
  int64_t episodes = 0;
  for (const auto& [id, count] : by_source) episodes += count;
  return std::make_shared<data::Quarantine>(list, data::quarantine_budget(config.data.quarantine_budget, episodes),
                                            writes);
}

model::ModelShape model_shape(const tokenizer::Vocabulary& vocabulary) {
  return {vocabulary.size(), vocabulary.first_bin(), tokenizer::kNumBins};
}

}  // namespace gato::train

#pragma once
#include <string>
#include <vector>

#include "gato/core/random.h"
#include "gato/data/batch.h"
#include "gato/data/tokenize.h"
#include "gato/episode/shard.h"
#include "support/temp_folder.h"

/// Small data sets of every modality, written to a folder.
namespace gato::data::test {

inline episode::FieldSpec field(std::string name, episode::Modality modality, std::vector<int64_t> shape = {},
                                int64_t num_values = 0) {
  episode::FieldSpec spec;
  spec.name = std::move(name);
  spec.modality = modality;
  spec.shape = std::move(shape);
  spec.num_values = num_values;
  if (modality == episode::Modality::kContinuous) {
    spec.low = {-1};
    spec.high = {1};
  }
  return spec;
}

inline episode::TaskSpec control_task() {
  episode::TaskSpec task;
  task.id = "control/arm";
  task.observation = {field("state", episode::Modality::kContinuous, {3})};
  task.action = {field("torque", episode::Modality::kContinuous, {1})};
  return task;
}

inline episode::TaskSpec image_task() {
  episode::TaskSpec task;
  task.id = "game/look";
  task.observation = {field("camera", episode::Modality::kImage, {16, 32, 3})};
  task.action = {field("move", episode::Modality::kDiscrete, {}, 3)};
  return task;
}

inline episode::TaskSpec grid_task() {
  episode::TaskSpec task;
  task.id = "grid/find";
  task.observation = {field("mission", episode::Modality::kText),
                      field("view", episode::Modality::kDiscrete, {2, 2}, 9)};
  task.action = {field("move", episode::Modality::kDiscrete, {}, 4)};
  return task;
}

inline episode::TaskSpec text_task() {
  episode::TaskSpec task;
  task.id = "text/tales";
  task.action = {field("text", episode::Modality::kText)};
  task.scoring = episode::Scoring::kLoss;
  return task;
}

inline std::string sentence(Rng& rng, int64_t words) {
  static const std::vector<std::string> kWords = {
      "the",  "red",    "ball",   "went",  "to",     "a",      "green", "hill",  "and",  "came",
      "back", "window", "yellow", "door",  "quick",  "brown",  "fox",   "jumps", "over", "lazy",
      "dog",  "mighty", "river",  "under", "stone",  "bridge", "cold",  "night", "wind", "blows",
      "far",  "from",   "every",  "house", "keeper", "knew",   "his",   "long",  "way"};
  std::string text;
  for (int64_t i = 0; i < words; ++i) {
    text += (i > 0 ? " " : "") + kWords[static_cast<size_t>(rng.below(static_cast<int64_t>(kWords.size())))];
  }
  return text;
}

inline episode::FieldValue random_value(const episode::FieldSpec& spec, Rng& rng, int64_t words) {
  episode::FieldValue value;
  switch (spec.modality) {
    case episode::Modality::kContinuous:
      for (int64_t i = 0; i < spec.num_elements(); ++i)
        value.continuous.push_back(static_cast<float>(rng.uniform(-1, 1)));
      break;
    case episode::Modality::kDiscrete:
      for (int64_t i = 0; i < spec.num_elements(); ++i)
        value.discrete.push_back(static_cast<int32_t>(rng.below(spec.num_values)));
      break;
    case episode::Modality::kText:
      value.text = sentence(rng, words);
      break;
    case episode::Modality::kImage:
      value.image = {static_cast<int32_t>(spec.shape[0]), static_cast<int32_t>(spec.shape[1]), {}};
      for (int64_t i = 0; i < spec.shape[0] * spec.shape[1] * 3; ++i)
        value.image.pixels.push_back(static_cast<uint8_t>(rng.below(256)));
      break;
  }
  return value;
}

inline episode::Episode random_episode(const episode::TaskSpec& task, int64_t number, bool labels) {
  Rng rng(mix_seed(7, {hash_name(task.id), static_cast<uint64_t>(number)}));
  episode::Episode made;
  made.id = task.id + "#" + std::to_string(number);
  made.source_agent = number % 3 == 0 ? "novice" : "expert";
  made.num_steps = task.observation.empty() ? 1 : 5 + rng.below(40);
  made.observation.resize(task.observation.size());
  made.action.resize(task.action.size());
  if (labels) made.label.resize(task.action.size());
  for (int64_t s = 0; s < made.num_steps; ++s) {
    const int64_t words = task.observation.empty() ? 20 + rng.below(200) : 2 + rng.below(5);
    for (size_t f = 0; f < task.observation.size(); ++f) {
      append_value(made.observation[f], task.observation[f], random_value(task.observation[f], rng, words));
    }
    for (size_t f = 0; f < task.action.size(); ++f) {
      append_value(made.action[f], task.action[f], random_value(task.action[f], rng, words));
      if (labels) append_value(made.label[f], task.action[f], random_value(task.action[f], rng, words));
    }
    made.reward.push_back(static_cast<float>(rng.uniform()));
  }
  made.truncated = true;
  return made;
}

/// A folder with four data sets (control with labels, images, grid with text, documents) and their text tokenizer.
class SyntheticData {
 public:
  explicit SyntheticData(int64_t scale = 1) {
    write(control_task(), 80 * scale, true, 40'000);
    write(image_task(), 20 * scale, false, 1 << 20);
    write(grid_task(), 60 * scale, false, 20'000);
    write(text_task(), 40 * scale, false, 20'000);
    const std::vector<Path> shards = find_shards(config());
    tokenizer::TokenizerTraining training;
    training.vocabulary_size = 320;
    text_ = std::make_unique<tokenizer::TextTokenizer>(
        tokenizer::TextTokenizer::from_bytes(train_text_tokenizer(training, texts_of(shards)), "test tokenizer"));
    for (const Path& shard : shards) tokenize_shard(shard, *text_);
  }

  [[nodiscard]] DataConfig config(int64_t row_tokens = 128) const {
    DataConfig config;
    config.datasets = {folder_.path().string()};
    config.row_tokens = row_tokens;
    config.validation_share = 0.1;
    config.schedule = {{0,
                        {{.tasks = "control/*", .share = 3},
                         {.tasks = "game/*", .share = 1},
                         {.tasks = "grid/*", .share = 4, .steps = {1, 3, false}},
                         {.tasks = "text/*", .share = 2, .steps = {1, 1, true}}}}};
    return config;
  }

  [[nodiscard]] const tokenizer::TextTokenizer& text() const { return *text_; }
  [[nodiscard]] tokenizer::Vocabulary vocabulary() const { return {text_->size(), true}; }
  [[nodiscard]] Path folder() const { return folder_.path(); }

  [[nodiscard]] std::shared_ptr<const RowPlan> plan(const DataConfig& config, uint64_t seed = 1,
                                                    Split split = Split::kTraining) const {
    return std::make_shared<const RowPlan>(config, open_sources(config, vocabulary(), text_.get(), split), seed,
                                           split == Split::kValidation);
  }

 private:
  void write(const episode::TaskSpec& task, int64_t episodes, bool labels, uint64_t shard_bytes) {
    std::string name = task.id;
    name[name.find('/')] = '-';
    episode::DatasetWriter writer(folder_.path() / name, {name, "Synthetic.", "", "test"}, {task}, shard_bytes);
    for (int64_t e = 0; e < episodes; ++e) writer.add(0, random_episode(task, e, labels));
    writer.finish();
  }

  gato::test::TempFolder folder_;
  std::unique_ptr<tokenizer::TextTokenizer> text_;
};

/// One set for all tests of a program: making it takes a second.
inline const SyntheticData& shared_data() {
  static const SyntheticData data;
  return data;
}

}  // namespace gato::data::test

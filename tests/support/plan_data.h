#pragma once
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/synthetic_data.h"

/// Data sets made to order, for tests of row plans. Text is tokenized with the tokenizer of shared_data().
namespace gato::data::test {

/// A task whose steps take `step_tokens` (>= 3) tokens: numbers, a separator, one number as action.
inline episode::TaskSpec numbers_task(const std::string& id, int64_t step_tokens) {
  episode::TaskSpec task;
  task.id = id;
  task.observation = {field("state", episode::Modality::kContinuous, {step_tokens - 2})};
  task.action = {field("torque", episode::Modality::kContinuous, {1})};
  return task;
}

inline episode::TaskSpec document_task(const std::string& id) {
  episode::TaskSpec task = text_task();
  task.id = id;
  return task;
}

/// A picture (two patches), observed with a question of a few words, answered by a word.
inline episode::TaskSpec question_task(const std::string& id) {
  episode::TaskSpec task;
  task.id = id;
  task.observation = {field("question", episode::Modality::kText),
                      field("camera", episode::Modality::kImage, {16, 32, 3})};
  task.action = {field("answer", episode::Modality::kText)};
  return task;
}

/// Every value of the step is the same: cheap to make, and enough where only lengths matter.
inline episode::Episode plain_episode(const episode::TaskSpec& task, const std::string& id, int64_t steps,
                                      const std::string& agent = "expert") {
  Rng rng(hash_name(id));
  episode::Episode made;
  made.id = id;
  made.source_agent = agent;
  made.num_steps = steps;
  made.observation.resize(task.observation.size());
  made.action.resize(task.action.size());
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t words = 1 + rng.below(6);
    for (size_t f = 0; f < task.observation.size(); ++f)
      append_value(made.observation[f], task.observation[f], random_value(task.observation[f], rng, words));
    for (size_t f = 0; f < task.action.size(); ++f)
      append_value(made.action[f], task.action[f], random_value(task.action[f], rng, words));
  }
  return made;
}

inline episode::Episode document(const std::string& id, std::string text) {
  episode::Episode made;
  made.id = id;
  made.source_agent = "people";
  made.num_steps = 1;
  made.action.resize(1);
  made.action[0].text.push_back(std::move(text));
  return made;
}

/// A folder of data sets that is filled step by step.
class PlanData {
 public:
  using Episodes = std::function<episode::Episode(int64_t)>;

  /// Data set `name` with episodes made by `make(0..count)`, in shards of about `shard_bytes`.
  void add(const std::string& name, const episode::TaskSpec& task, int64_t count, const Episodes& make,
           uint64_t shard_bytes = 16'000) {
    episode::DatasetWriter writer(folder_.path() / name, {name, "Made for a test.", "", "test"}, {task}, shard_bytes);
    for (int64_t e = 0; e < count; ++e) writer.add(0, make(e));
    writer.finish();
    for (const Path& shard : writer.shards()) tokenize_shard(shard, shared_data().text());
  }
  /// Episodes of `low` to `high` steps.
  void add_numbers(const std::string& name, int64_t step_tokens, int64_t count, int64_t low, int64_t high) {
    const episode::TaskSpec task = numbers_task("control/" + name, step_tokens);
    add(name, task, count, [&, rng = Rng(hash_name(name))](int64_t e) mutable {
      return plain_episode(task, name + std::to_string(e), low + rng.below(high - low + 1));
    });
  }
  /// Documents of `low` to `high` words.
  void add_documents(const std::string& name, int64_t count, int64_t low, int64_t high) {
    add(name, document_task("text/" + name), count, [&, rng = Rng(hash_name(name))](int64_t e) mutable {
      return document(name + std::to_string(e), sentence(rng, low + rng.below(high - low + 1)));
    });
  }
  /// The King James Bible in documents of 5 to 200 lines.
  void add_bible() {
    std::ifstream file(GATO_SOURCE_DIR "/data/text/kjv.txt");
    Rng rng(5);
    std::vector<std::string> documents;
    std::string line;
    for (int64_t left = 0; std::getline(file, line); --left) {
      if (left == 0) {
        documents.emplace_back();
        left = 5 + rng.below(196);
      }
      documents.back() += line + "\n";
    }
    add(
        "bible", document_task("text/bible"), static_cast<int64_t>(documents.size()),
        [&](int64_t e) { return document("bible" + std::to_string(e), documents[static_cast<size_t>(e)]); }, 200'000);
  }

  [[nodiscard]] Path folder() const { return folder_.path(); }
  [[nodiscard]] DataConfig config(int64_t row_tokens, std::vector<MixtureEntry> mixture) const {
    DataConfig config;
    config.datasets = {folder_.path().string()};
    config.row_tokens = row_tokens;
    config.validation_share = 0;
    config.schedule = {{0, std::move(mixture)}};
    return config;
  }
  [[nodiscard]] std::vector<std::shared_ptr<const Source>> sources(const DataConfig& config,
                                                                   Split split = Split::kTraining) const {
    return open_sources(config, shared_data().vocabulary(), &shared_data().text(), split);
  }
  [[nodiscard]] std::shared_ptr<const RowPlan> plan(const DataConfig& config, uint64_t seed = 1) const {
    return std::make_shared<const RowPlan>(config, sources(config), seed);
  }

 private:
  gato::test::TempFolder folder_;
};

/// What the rows of blocks [first, end) hold together.
struct Contents {
  int64_t planned = 0, dropped = 0, filled = 0;
  std::vector<PlannedSequence> sequences;
  std::vector<int64_t> tokens;  ///< By source.

  Contents(const RowPlan& plan, int64_t first, int64_t end) : tokens(plan.sources().size()) {
    for (int64_t b = first; b < end; ++b) {
      const auto block = plan.block(b);
      planned += block->planned_tokens;
      dropped += block->dropped_tokens;
      for (const PlannedRow& row : block->rows) {
        for (const PlannedSequence& sequence : row.sequences) {
          filled += sequence.tokens;
          tokens[static_cast<size_t>(sequence.source)] += sequence.tokens;
          sequences.push_back(sequence);
        }
      }
    }
    fill = static_cast<double>(filled) / static_cast<double>((end - first) * kBlockRows * plan.config().row_tokens);
    drop = static_cast<double>(dropped) / static_cast<double>(std::max<int64_t>(1, planned));
  }
  double fill = 0, drop = 0;
};

/// Who acted in an episode. (Numbers of agents are a shard's own.)
inline std::string agent_of(const Source& source, int64_t episode) {
  int64_t s = 0;
  while (source.first_episode_of_shard(s + 1) <= episode) ++s;
  return source.shard(s).reader->source_agents()[source.source_agent(episode)];
}

inline std::vector<Window> windows_of(const PlannedSequence& sequence) {
  std::vector<Window> windows = {sequence.window};
  windows.insert(windows.end(), sequence.group.begin(), sequence.group.end());
  return windows;
}

}  // namespace gato::data::test

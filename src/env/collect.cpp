#include "gato/env/collect.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>

#include "env/collect_manifest.h"
#include "env/reference_play.h"
#include "env/text_corpus.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/progress.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/core/version.h"
#include "gato/env/remote.h"
#include "gato/env/rollout.h"
#include "gato/episode/shard.h"

namespace gato::env {

namespace {

using episode::DatasetWriter;
using episode::Episode;

/// Episodes recorded before they are written in order; bounds the memory they take.
constexpr int64_t kBlockEpisodes = 64;
constexpr int64_t kReferenceEpisodes = 100;  // where CollectOptions names no number
constexpr int64_t kMostFailuresNamed = 3;
constexpr const char* kDoing = "collecting demonstrations; finished data sets are kept, and the same command goes on";

Path dataset_folder(const Path& out, std::string id) {
  std::replace(id.begin(), id.end(), '/', '-');
  return out / id;
}

std::string episode_id(const std::string& task, int64_t index) {
  std::string digits = std::to_string(index);
  if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
  return cat(task, "/", digits);
}

template <class T>
void append_bytes(std::string& out, const std::vector<T>& values) {
  out += cat(values.size(), ":");
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

/// Changes when anything that was seen, done or earned changes.
std::string digest_of(const Episode& episode) {
  std::string bytes;
  for (const auto* group : {&episode.observation, &episode.action, &episode.label}) {
    for (const episode::Column& column : *group) {
      append_bytes(bytes, column.continuous);
      append_bytes(bytes, column.discrete);
      for (const std::string& text : column.text) bytes += cat(text.size(), ":", text);
      for (const Image& image : column.images) append_bytes(bytes, image.pixels);
    }
  }
  append_bytes(bytes, episode.reward);
  return digest128(bytes);
}

/// Changes when the specification changes in anything but the measured scores.
std::string digest_of(const TaskSpec& spec) {
  std::string text = cat(spec.id, "|", spec.description, "|", static_cast<int>(spec.scoring), "|", spec.partial_view,
                         "|", spec.max_steps, "|", spec.licence);
  for (const auto* group : {&spec.observation, &spec.action}) {
    text += "|fields";
    for (const episode::FieldSpec& field : *group) {
      text += cat("|", field.name, "|", episode::modality_name(field.modality), "|", field.num_values, "|", field.unit,
                  "|", static_cast<int>(field.codec), "|");
      append_bytes(text, field.shape);
      append_bytes(text, field.low);
      append_bytes(text, field.high);
    }
  }
  return digest128(text);
}

/// Places of play, one per thread.
struct Player {
  std::unique_ptr<Environment> environment;
  std::unique_ptr<Expert> expert;
};

/// Records the demonstrations of one task into its data set.
class TaskCollector {
 public:
  TaskCollector(const TaskEntry& entry, const SuiteTask& task, const CollectOptions& options)
      : entry_(entry),
        options_(options),
        folder_(dataset_folder(options.out, entry.id)),
        episodes_(std::max<int64_t>(1, std::llround(static_cast<double>(task.episodes) * options.episodes_scale))) {
    noise_.levels = task.noise;
    const int64_t most = options.threads > 0 ? options.threads : thread_budget();
    for (int64_t i = 0; i < std::min(most, episodes_); ++i) {
      Player player;
      player.environment = make_environment(entry.id);
      player.expert = entry.make_expert(*player.environment);
      players_.push_back(std::move(player));
    }
  }

  CollectSummary run() {
    const Json settings = this->settings();
    if (const auto finished = find_finished_dataset(folder_, settings)) return *finished;
    begin_dataset(folder_);
    const int64_t reference = reference_episodes();
    Progress progress(entry_.id, episodes_ + 2 * reference, "episodes");
    TaskSpec spec = players_.front().environment->spec();
    if (measured_before()) {
      spec.expert = entry_.known->expert;
      spec.random = entry_.known->random;
    } else {
      spec.expert = measure(ReferenceAgent::kExpert, reference, progress);
      spec.random = measure(ReferenceAgent::kRandom, reference, progress);
    }
    summary_.task = entry_.id;
    summary_.expert = spec.expert;
    summary_.random = spec.random;
    DatasetWriter writer(folder_, dataset_info(spec), {spec});
    record_all(writer, progress);
    writer.finish();
    commit_dataset(folder_, settings, writer.shards(), summary_);
    return summary_;
  }

 private:
  [[nodiscard]] Json settings() {
    const std::optional<Episode> first = record(players_.front(), 0);
    Json settings = {
        {"kind", "demonstrations"},
        {"gato", version()},
        {"task", entry_.id},
        {"specification", digest_of(players_.front().environment->spec())},
        {"seed", options_.seed},
        {"episodes", episodes_},
        {"noise", noise_.levels},
        {"noise_correlation", noise_.correlation},
        {"random_action_share", noise_.random_action_share},
        {"reference_episodes", reference_episodes()},
        // An environment or expert that behaves otherwise than before makes new data under the same settings.
        {"first_episode", first ? digest_of(*first) : "failed"}};
    if (measured_before()) settings["references"] = digest_of_references();
    return settings;
  }

  [[nodiscard]] static episode::DatasetInfo dataset_info(const TaskSpec& spec) {
    return {spec.id, spec.description, spec.licence, cat("gato ", version(), " collect")};
  }

  [[nodiscard]] bool measured_before() const {
    return !options_.reference_episodes && entry_.known && entry_.known->random.episodes > 0;
  }
  [[nodiscard]] int64_t reference_episodes() const {
    return measured_before() ? 0 : options_.reference_episodes.value_or(kReferenceEpisodes);
  }

  episode::ReturnRecord measure(ReferenceAgent agent, int64_t episodes, Progress& progress) {
    const auto seeds = seeds_for(SeedUse::kReference, options_.seed, entry_.id, episodes);
    return return_record(play_reference_episodes(entry_, agent, seeds, options_.threads, [&] { progress.add(); }));
  }

  [[nodiscard]] std::string digest_of_references() const {
    std::string text;
    for (const episode::ReturnRecord& record : {entry_.known->expert, entry_.known->random}) {
      append_bytes(text, std::vector<double>{record.mean, record.standard_error});
      text += cat(record.episodes, "|");
    }
    return digest128(text);
  }

  /// Nothing, and a line in the log, where the environment itself failed.
  std::optional<Episode> record(Player& player, int64_t index) {
    const uint64_t seed = seed_for(SeedUse::kData, options_.seed, entry_.id, index);
    std::string failure;
    auto episode =
        record_episode(*player.environment, *player.expert, noise_, seed, episode_id(entry_.id, index), failure);
    if (!episode && ++failures_named_ <= kMostFailuresNamed) {
      log::warning("env", entry_.id, ": episode ", index, " is left out: ", failure);
    }
    return episode;
  }

  /// Episodes [first, first + count) in order, recorded by all players; nothing in the place of those that failed.
  std::vector<std::optional<Episode>> record_block(int64_t first, int64_t count, Progress& progress) {
    std::vector<std::optional<Episode>> block(static_cast<size_t>(count));
    std::atomic<int64_t> next = 0;
    const auto play = [&](int64_t player) {
      for (int64_t i = next++; i < count; i = next++) {
        throw_if_stopped(kDoing);
        block[static_cast<size_t>(i)] = record(players_[static_cast<size_t>(player)], first + i);
        progress.add();
      }
    };
    parallel_for(static_cast<int64_t>(players_.size()), play, options_.threads);
    return block;
  }

  void record_all(DatasetWriter& writer, Progress& progress) {
    for (int64_t first = 0; first < episodes_; first += kBlockEpisodes) {
      const int64_t count = std::min(kBlockEpisodes, episodes_ - first);
      for (const std::optional<Episode>& episode : record_block(first, count, progress)) {
        if (!episode) {
          ++summary_.failed;
          continue;
        }
        writer.add(0, *episode);
        ++summary_.episodes;
        summary_.steps += episode->num_steps;
        summary_.mean_return += episode->total_return();
      }
    }
    if (summary_.episodes == 0) {
      throw EnvironmentError(cat("Task ", entry_.id, ": all ", episodes_, " episodes failed; see the messages above."));
    }
    summary_.mean_return /= static_cast<double>(summary_.episodes);
  }

  const TaskEntry& entry_;
  const CollectOptions& options_;
  Path folder_;
  int64_t episodes_;
  ActionNoise noise_;
  std::vector<Player> players_;
  CollectSummary summary_;
  std::atomic<int64_t> failures_named_ = 0;
};

Json text_settings(const SuiteText& text, const std::vector<Path>& files) {
  Json digests = Json::array();
  for (const Path& file : files) digests.push_back(digest128_of_file(file));
  return {{"kind", "text"},      {"gato", version()},
          {"task", text.name},   {"specification", digest_of(corpus_spec(text))},
          {"files", text.files}, {"separator", text.separator},
          {"digests", digests}};
}

/// Records a corpus; every document is an episode of one step.
CollectSummary collect_text(const SuiteText& text, const CollectOptions& options) {
  const Path folder = dataset_folder(options.out, text.name);
  const std::vector<Path> files = corpus_files(text);
  const Json settings = text_settings(text, files);
  if (const auto finished = find_finished_dataset(folder, settings)) return *finished;
  begin_dataset(folder);
  const TaskSpec spec = corpus_spec(text);
  CollectSummary summary;
  summary.task = text.name;
  DatasetWriter writer(folder, {spec.id, spec.description, spec.licence, cat("gato ", version(), " collect")}, {spec});
  Progress progress(text.name, 0, "documents");
  for (const Path& file : files) {
    for (std::string& document : read_documents(file, text.separator)) {
      throw_if_stopped(kDoing);
      Episode episode;
      episode.id = episode_id(text.name, summary.episodes++);
      episode.source_agent = "author";
      episode.num_steps = 1;
      episode.action.resize(1);
      episode.action[0].text.push_back(std::move(document));
      episode.terminated = true;
      writer.add(0, episode);
      progress.add();
    }
  }
  summary.steps = summary.episodes;
  writer.finish();
  commit_dataset(folder, settings, writer.shards(), summary);
  return summary;
}

void check_options(const CollectOptions& options) {
  if (options.out.empty()) throw ConfigError("No folder was named to collect into.");
  if (options.reference_episodes.value_or(0) < 0) {
    throw ConfigError(cat("The number of reference episodes is ", *options.reference_episodes, ", must be 0 or more."));
  }
  if (!(options.episodes_scale > 0 && options.episodes_scale <= 1e6)) {
    throw ConfigError(cat("The scale of episodes is ", options.episodes_scale, ", must be above 0."));
  }
  if (options.threads < 0) throw ConfigError(cat("The number of threads is ", options.threads, ", must be 0 or more."));
}

}  // namespace

std::vector<CollectSummary> collect(const Suite& suite, const CollectOptions& options) {
  check_options(options);
  const std::map<std::string, SuiteTask> tasks = resolve_tasks(suite);
  make_folders(options.out);
  const FileLock lock(options.out / ".collect.lock", "Wait for it, or collect into another folder.");
  std::vector<CollectSummary> summaries;
  std::vector<std::string> given_up;
  for (const auto& [id, task] : tasks) {
    if (task.episodes == 0) continue;
    const TaskEntry& entry = find_task(id);
    if (!entry.make_expert) {
      log::warning("env", "Task ", id, " has no expert: no demonstrations are recorded.");
      continue;
    }
    throw_if_stopped(kDoing);
    try {
      summaries.push_back(TaskCollector(entry, task, options).run());
    } catch (const EnvironmentError& error) {  // other tasks can do without its workers
      log::error("env", error.what());
      given_up.push_back(id);
    }
  }
  for (const SuiteText& text : suite.texts) summaries.push_back(collect_text(text, options));
  if (!given_up.empty()) {
    throw EnvironmentError(cat("The environments of ", join(given_up, ", "), " kept failing, see above; the ",
                               summaries.size(), " other data sets are complete, and the same command tries again."));
  }
  return summaries;
}

}  // namespace gato::env

#include "play.h"

#include <algorithm>
#include <chrono>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/version.h"
#include "gato/env/remote.h"
#include "gato/kernels/cpu_path.h"
#include "gato/kernels/device.h"
#include "joined_play.h"
#include "logged_batch.h"

namespace gato::eval {
namespace {

constexpr int64_t kReferenceEpisodes = 100;
constexpr int kPicturesPerEpisode = 8;  // tasks of one step and those with answers show that many more episodes
constexpr int64_t kMostFrames = 60;
constexpr int32_t kMostSide = 192;  // pixels of a shown frame

run::ReferenceReturn to_record(const episode::ReturnRecord& record) {
  return {record.mean, record.standard_error, record.episodes};
}

run::ReferenceReturn measure_reference(const std::string& task, env::ReferenceAgent agent,
                                       const std::function<void()>& on_step) {
  const auto seeds = env::seeds_for(env::SeedUse::kReference, 0, task, kReferenceEpisodes);
  return to_record(env::return_record(env::roll_out_reference(task, agent, seeds, on_step)));
}

std::string machine_kind(at::Device device) {
  if (!device.is_cpu()) return kernels::gpu_properties(device).name;
  switch (kernels::cpu_path()) {
    case kernels::CpuPath::kPlain:
      return "cpu plain";
    case kernels::CpuPath::kAvx2:
      return "cpu avx2";
    case kernels::CpuPath::kAvx512:
      return "cpu avx512";
  }
  return "cpu";
}

/// Of what bears on the numbers.
std::map<std::string, std::string> versions(at::Device device) {
  std::map<std::string, std::string> names{{"gato", version()}, {"compiler", compiler_version()}};
  if (!device.is_cpu()) names["gpu"] = kernels::gpu_properties(device).name;
  return names;
}

run::TaskResult blank_result(const Agent& agent, const std::string& suite, const std::string& task) {
  run::TaskResult result;
  result.task = task;
  result.checkpoint = agent.path().filename().string();
  result.step = agent.step();
  result.suite = suite;
  result.versions = versions(agent.model().store().device());
  for (const auto& [name, version] : env::packages_of(task)) result.versions[name] = version;
  return result;
}

/// Expert and random returns as recorded with the demonstrations or the environment; measured now for tasks without
/// any.
void add_references(const Agent& agent, const episode::TaskSpec& spec, const std::function<void()>& on_step,
                    run::TaskResult& result) {
  const episode::TaskSpec* trained = agent.trained_task(spec.id);
  if (trained != nullptr && trained->random.episodes > 0) {
    result.expert = to_record(trained->expert);
    result.random = to_record(trained->random);
    return;
  }
  if (const auto& known = env::find_task(spec.id).known; known && known->random.episodes > 0) {
    result.expert = to_record(known->expert);
    result.random = to_record(known->random);
    return;
  }
  result.random = measure_reference(spec.id, env::ReferenceAgent::kRandom, on_step);
  if (!env::find_task(spec.id).make_expert) return;
  result.expert = measure_reference(spec.id, env::ReferenceAgent::kExpert, on_step);
}

/// A policy that says when it acts.
class WatchedPolicy : public env::Policy {
 public:
  WatchedPolicy(env::Policy& policy, const std::function<void()>& on_step) : policy_(policy), on_step_(on_step) {}
  void begin_episode(int slot, uint64_t seed) override { policy_.begin_episode(slot, seed); }
  std::vector<episode::StepValues> act(std::span<const int> slots,
                                       std::span<const episode::StepValues> observations) override {
    if (on_step_) on_step_();
    return policy_.act(slots, observations);
  }

 private:
  env::Policy& policy_;
  const std::function<void()>& on_step_;
};

int slots_of(const TaskToPlay& task, const std::vector<TaskToPlay>& tasks, int64_t slots) {
  const int64_t share = std::max<int64_t>(1, slots / static_cast<int64_t>(tasks.size()));
  return static_cast<int>(std::min(task.rollouts, share));
}

PolicyOptions policy_options(const TaskToPlay& task, const PlayOptions& options) {
  PolicyOptions policy;
  policy.decoding = task.settings.decoding;
  policy.temperature = task.settings.temperature;
  policy.top_p = task.settings.top_p;
  policy.cuda_graph = options.cuda_graph;
  policy.demonstration = options.demonstration;
  return policy;
}

env::RolloutOptions rollout_options(const TaskToPlay& task, const episode::TaskSpec& spec, const PlayOptions& options) {
  env::RolloutOptions rollouts;
  rollouts.seeds = evaluation_seeds(options.seed, task.task, task.first, task.rollouts);
  rollouts.record_frames = options.record_frames;
  rollouts.frame_stride = static_cast<int>(std::max<int64_t>(1, spec.max_steps / 100));
  if (options.on_progress) {
    rollouts.on_progress = [&options, &task](int64_t done) { options.on_progress(task.task, done, task.rollouts); };
  }
  return rollouts;
}

run::PlayRecord play_record(const Agent& agent, const std::vector<TaskToPlay>& tasks, const PlayOptions& options) {
  run::PlayRecord play;
  play.seed = options.seed;
  play.slots = options.slots;
  for (const TaskToPlay& task : tasks) play.together.push_back({task.task, task.first, task.rollouts});
  play.cuda_graph = options.cuda_graph;
  play.model = agent.model_digest();
  play.machine = machine_kind(agent.model().store().device());
  return play;
}

run::TaskResult result_of(const Agent& agent, const TaskToPlay& task, const episode::TaskSpec& spec,
                          const std::vector<env::RolloutResult>& episodes, const PlayOptions& options) {
  run::TaskResult result = blank_result(agent, options.suite, task.task);
  result.shard = task.shard;
  result.num_shards = task.num_shards;
  result.scoring =
      spec.scoring == episode::Scoring::kExactMatch ? run::TaskScoring::kExactMatch : run::TaskScoring::kReturn;
  result.decoding = {decoding_name(task.settings.decoding),
                     task.settings.temperature,
                     agent.context_steps(task.task),
                     options.demonstration ? "demonstration" : "none",
                     task.settings.top_p,
                     kernels::weight_type_name(agent.acting()->type())};
  for (const auto& episode : episodes) {
    result.rollouts.push_back({episode.seed, episode.episode_return, episode.length, episode.success,
                               episode.exact_match, episode.answer, episode.reference, episode.failure});
  }
  add_references(agent, spec, options.on_step, result);
  return result;
}

}  // namespace

const char* decoding_name(env::Decoding decoding) {
  for (const auto& [name, value] : config_enum(static_cast<const env::Decoding*>(nullptr))) {
    if (value == decoding) return name;
  }
  return "default";
}

std::vector<uint64_t> evaluation_seeds(uint64_t seed, const std::string& task, int64_t first, int64_t rollouts) {
  std::vector<uint64_t> seeds;
  for (int64_t i = first; i < first + rollouts; ++i) {
    seeds.push_back(env::seed_for(env::SeedUse::kEvaluation, seed, task, i));
  }
  return seeds;
}

namespace {

/// First episodes of a part of a task that are shown: those of all its rollouts begin with the first part.
int64_t first_shown(const TaskToPlay& task, const episode::TaskSpec& spec, const PlayOptions& options) {
  const bool is_short = spec.max_steps == 1 || spec.scoring == episode::Scoring::kExactMatch;
  const int64_t wanted = options.record_episodes * (is_short ? kPicturesPerEpisode : 1);
  return std::clamp<int64_t>(wanted - task.first, 0, task.rollouts);
}

ShownEpisode shown_episode(LoggedBatch& batch, const LoggedEpisode& logged, const env::RolloutResult& played,
                           const std::string& kind, const std::function<void()>& on_step) {
  ShownEpisode shown;
  shown.item.task = batch.spec().id;
  shown.item.seed = logged.seed;
  shown.item.kind = kind;
  shown.item.question = logged.question;
  shown.item.answer = played.answer;
  shown.item.reference = played.reference;
  shown.item.exact_match = played.exact_match.value_or(false);
  shown.item.episode_return = logged.episode_return;
  shown.item.length = static_cast<int64_t>(logged.actions.size());
  shown.item.success = logged.success;
  shown.frames = batch.frames_of(logged, kMostFrames, kMostSide, on_step);
  return shown;
}

/// The first episodes, the best and the worst, each once. Where all have the same return none is best.
std::vector<std::pair<LoggedEpisode, std::string>> episodes_to_show(const LoggedBatch& batch, bool with_extremes) {
  std::vector<std::pair<LoggedEpisode, std::string>> episodes;
  for (const LoggedEpisode& episode : batch.first()) episodes.emplace_back(episode, with_extremes ? "first" : "");
  const auto& best = batch.best();
  const auto& worst = batch.worst();
  if (!with_extremes || !best || best->episode_return == worst->episode_return) return episodes;
  for (const auto& [extreme, kind] : {std::pair{&*best, "best"}, {&*worst, "worst"}}) {
    const auto same = std::find_if(episodes.begin(), episodes.end(), [&extreme = extreme](const auto& episode) {
      return episode.first.number == extreme->number;
    });
    if (same != episodes.end()) {
      same->second += cat(", ", kind);
    } else {
      episodes.emplace_back(*extreme, kind);
    }
  }
  return episodes;
}

/// Plays the episodes worth showing again. What fails here costs pictures, not the result.
std::vector<ShownEpisode> shown_episodes(LoggedBatch& batch, const std::vector<env::RolloutResult>& played,
                                         const std::function<void()>& on_step) {
  const bool with_extremes = batch.spec().scoring != episode::Scoring::kExactMatch;
  std::vector<ShownEpisode> shown;
  try {
    for (const auto& [episode, kind] : episodes_to_show(batch, with_extremes)) {
      ShownEpisode one = shown_episode(batch, episode, played.at(static_cast<size_t>(episode.number)), kind, on_step);
      if (!one.frames.empty() || !with_extremes) shown.push_back(std::move(one));
    }
  } catch (const env::EnvironmentError& error) {
    log::warning("eval", batch.spec().id, ": not all episodes are shown: ", error.what());
  }
  return shown;
}

}  // namespace

std::vector<PlayedTask> play_together(const Agent& agent, const std::vector<TaskToPlay>& tasks,
                                      const PlayOptions& options) {
  GATO_CHECK(!tasks.empty(), "nothing to play");
  const auto begin = std::chrono::steady_clock::now();
  std::vector<JoinedTask> joined;
  std::vector<SlotGroup> groups;
  std::vector<LoggedBatch*> logs;
  for (const TaskToPlay& task : tasks) {
    const int slots = slots_of(task, tasks, options.slots);
    auto batch = env::make_environment_batch(task.task, slots);
    groups.push_back({batch->spec(), slots, policy_options(task, options)});
    env::RolloutOptions rollouts = rollout_options(task, groups.back().task, options);
    const int64_t shown = first_shown(task, groups.back().task, options);
    auto logged = std::make_unique<LoggedBatch>(std::move(batch), shown);
    logs.push_back(logged.get());
    joined.push_back({std::move(logged), std::move(rollouts)});
  }
  const auto policy = make_model_policy(agent, groups);
  WatchedPolicy watched(*policy, options.on_step);
  auto episodes = play_joined(joined, watched);
  std::vector<PlayedTask> played;
  for (size_t t = 0; t < tasks.size(); ++t) {
    run::TaskResult result = result_of(agent, tasks[t], groups[t].task, episodes[t], options);
    result.play = play_record(agent, tasks, options);
    result.play->first = tasks[t].first;
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    played.push_back({std::move(result), std::move(episodes[t]), {}});
  }
  if (options.record_episodes == 0) return played;
  for (size_t t = 0; t < tasks.size(); ++t) {
    played[t].shown = shown_episodes(*logs[t], played[t].episodes, options.on_step);
  }
  return played;
}

std::vector<run::TaskResult> text_results(const Agent& agent, const std::string& suite,
                                          const std::vector<std::string>& texts, const std::function<void()>& on_step) {
  std::vector<run::TaskResult> results;
  const auto losses = agent.heldout_losses(on_step);
  for (const std::string& text : texts) {
    const auto found = losses.find(text);
    if (found == losses.end()) {
      log::warning("eval", text, ": ", agent.path().string(), " carries no held-out documents of it");
      continue;
    }
    run::TaskResult result = blank_result(agent, suite, text);
    result.scoring = run::TaskScoring::kLoss;
    result.loss =
        run::TextLoss{found->second.nats_per_token, found->second.tokens, found->second.unigram_nats_per_token};
    results.push_back(std::move(result));
  }
  return results;
}

namespace {

void write_shown(const Path& results, const PlayedTask& played) {
  std::vector<MediaItem> items;
  for (const ShownEpisode& shown : played.shown) {
    MediaItem item = shown.item;
    const auto number = static_cast<int64_t>(items.size());
    if (!shown.frames.empty()) write_frames(results, played.result.shard, number, shown.frames, item);
    items.push_back(std::move(item));
  }
  write_media(results, played.result.task, played.result.shard, items);
}

}  // namespace

void keep_media(const Path& results, const PlayedTask& played) {
  if (played.shown.empty()) return;
  try {
    write_shown(results, played);
  } catch (const Error& error) {
    log::warning("eval", played.result.task, ": its pictures are not kept: ", error.what());
  }
}

}  // namespace gato::eval

#include "gato/eval/job_player.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <mutex>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/threads.h"
#include "gato/kernels/device.h"
#include "gato/run/run_folder.h"
#include "gif.h"
#include "play.h"
#include "write_text.h"

namespace gato::eval {
namespace {

env::Decoding decoding_of(const std::string& rule) {
  for (const auto& [name, value] : config_enum(static_cast<const env::Decoding*>(nullptr))) {
    if (rule == name) return value;
  }
  throw DataError(cat("\"", rule, "\" is no decoding rule"));
}

std::optional<kernels::WeightType> weights_of(const std::string& name) {
  for (const auto& [known, type] : config_enum(static_cast<const kernels::WeightType*>(nullptr))) {
    if (name == known) return type;
  }
  return std::nullopt;
}

TaskToPlay task_of(const run::JobPart& part) {
  TaskToPlay task{part.task.task, part.first, part.task.rollouts, part.shard, part.num_shards, {}};
  task.settings.decoding = decoding_of(part.task.rule);
  task.settings.temperature = part.task.temperature;
  task.settings.top_p = part.task.top_p;
  return task;
}

}  // namespace

JobPlayer::JobPlayer(Path run, const JobPlayerOptions& options)
    : run_(std::move(run)), device_(kernels::open_device(options.device)), cuda_graph_(options.cuda_graph) {
  if (cuda_graph_ && device_.is_cpu()) throw ConfigError("--cuda-graph is for a GPU, but the agent acts on the CPU");
  at::set_num_threads(thread_budget());
}

const Agent& JobPlayer::agent(const run::JobBatch& batch) {
  const std::string wanted = cat(batch.checkpoint, " ", batch.settings.weights);
  if (wanted == loaded_) return *agent_;
  agent_.reset();  // two at once may not fit
  loaded_.clear();
  const Path path = run::RunFolder(run_).checkpoints_path() / batch.checkpoint;
  agent_ = std::make_unique<Agent>(path, weights_of(batch.settings.weights), device_);
  loaded_ = wanted;
  ++models_loaded_;
  log::info("eval", "loaded ", path.string());
  return *agent_;
}

std::vector<run::TaskResult> JobPlayer::operator()(const run::JobBatch& batch, const run::Job& job,
                                                   const std::function<bool()>& is_wanted) {
  std::mutex mutex;  // tasks that are played together have a thread each
  const std::function<void()> on_step = [&] {
    const std::lock_guard lock(mutex);
    if (!is_wanted()) throw Interrupted("the job is not wanted any more");
  };
  on_step();
  const Agent& player = agent(batch);
  on_step();
  std::vector<TaskToPlay> tasks;
  std::vector<std::string> texts;
  for (const run::JobPart& part : job.parts) {
    if (part.is_text()) {
      texts.push_back(part.task.task);
    } else {
      tasks.push_back(task_of(part));
    }
  }
  std::vector<run::TaskResult> results;
  if (!texts.empty()) results = text_results(player, batch.suite, texts, on_step);
  const Path folder = run::RunFolder(run_).results_path(batch.step, batch.suite);
  if (batch.settings.record_episodes > 0) {
    for (const run::TaskResult& text : results) keep_text_samples(folder, player, text.task);
  }
  if (tasks.empty()) return results;
  PlayOptions options;
  options.suite = batch.suite;
  options.seed = batch.settings.seed;
  options.slots = batch.settings.slots;
  options.record_episodes = static_cast<int>(batch.settings.record_episodes);
  options.demonstration = batch.settings.prompt == "demonstration";
  options.cuda_graph = cuda_graph_;
  options.on_step = on_step;
  for (PlayedTask& played : play_together(player, tasks, options)) {
    keep_media(folder, played);
    const run::TaskResult& result = played.result;
    log::info("eval", batch.checkpoint, "  ", result.task, "  shard ", result.shard + 1, "/", result.num_shards, "  ",
              result.rollouts.size(), " rollouts in ", format_seconds(result.seconds));
    results.push_back(std::move(played.result));
  }
  return results;
}

namespace {

std::string outcome_text(const run::RolloutRecord& rollout) {
  std::string text = cat("return ", rollout.episode_return, ", ", rollout.length, " steps");
  if (rollout.success) text += *rollout.success ? ", success" : ", no success";
  if (!rollout.answer.empty()) text += cat(", answer \"", rollout.answer, "\"");
  return text;
}

std::vector<std::string> differences_of(const run::TaskResult& recorded, const run::TaskResult& again) {
  std::vector<std::string> lines;
  if (recorded.play->machine != again.play->machine) {
    lines.push_back(cat("this machine is another: ", again.play->machine, ", then it was ", recorded.play->machine));
  }
  if (recorded.rollouts.size() != again.rollouts.size()) {
    lines.push_back(
        cat("the result holds ", recorded.rollouts.size(), " rollouts, and ", again.rollouts.size(), " were played"));
  }
  for (size_t i = 0; i < std::min(recorded.rollouts.size(), again.rollouts.size()); ++i) {
    const run::RolloutRecord &then = recorded.rollouts[i], &now = again.rollouts[i];
    if (then == now) continue;
    lines.push_back(cat("rollout ", recorded.play->first + static_cast<int64_t>(i), " (seed ", then.seed,
                        "): ", outcome_text(then), "; again: ", outcome_text(now)));
  }
  return lines;
}

/// Enlarged by a whole number to about 200 pixels.
int scale_of(const episode::Image& frame) {
  return std::max(1, 200 / std::max(1, std::max(frame.width, frame.height)));
}

Path write_animation(const Path& folder, const std::string& task, int64_t rollout,
                     const std::vector<episode::Image>& frames) {
  std::string name = task;
  std::replace(name.begin(), name.end(), '/', '-');
  const Path path = (folder.empty() ? Path(".") : folder) / cat(name, "-", rollout, ".gif");
  write_file_atomic(path, encode_gif(frames, 7, scale_of(frames[0])));
  return path;
}

/// Results in the folder of a range of episodes. Files of other tasks are not looked into: one of them may be damaged.
std::vector<run::TaskResult> results_of(const Path& folder, const run::EpisodeRange& range) {
  const std::string name = run::result_file_name(range.task, 0);
  const std::string prefix = name.substr(0, name.rfind("0.json"));
  std::vector<run::TaskResult> results;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with(prefix) || !file.ends_with(".json")) continue;
    run::TaskResult result = run::read_result(entry.path());
    if (result.task == range.task && result.play && result.play->first == range.first) {
      results.push_back(std::move(result));
    }
  }
  return results;
}

/// The tasks that were played together, as the result says; those beside it with its own decoding rule, which a suite
/// may have set otherwise: their results say.
std::vector<TaskToPlay> tasks_of(const run::TaskResult& recorded, const Path& folder) {
  std::vector<TaskToPlay> tasks;
  for (const run::EpisodeRange& range : recorded.play->together) {
    TaskToPlay task{range.task, range.first, range.rollouts, 0, 1, {}};
    const run::TaskResult* played = &recorded;
    std::vector<run::TaskResult> others;
    if (range.task != recorded.task) {  // another range of the same task is decoded alike
      others = results_of(folder, range);
      if (others.empty())
        throw ConfigError(cat(folder.string(), ": the result of ", range.task, ", which was played ", "together with ",
                              recorded.task, ", is missing"));
      played = &others[0];
    }
    task.settings.decoding = decoding_of(played->decoding.rule);
    task.settings.temperature = played->decoding.temperature;
    task.settings.top_p = played->decoding.top_p;
    tasks.push_back(std::move(task));
  }
  return tasks;
}

}  // namespace

ReplayOutcome replay_result(const ReplayOptions& options) {
  ReplayOutcome outcome;
  outcome.recorded = run::parse_task_result(read_file(options.result), options.result.string());
  const run::TaskResult& recorded = outcome.recorded;
  if (!recorded.play) {
    throw ConfigError(cat(options.result.string(),
                          " does not record how it was played: it is of a text, or of an older "
                          "version; evaluate again with --again"));
  }
  const Path folder = std::filesystem::absolute(options.result).parent_path();
  Path checkpoint = options.checkpoint;
  if (checkpoint.empty()) {  // <run>/eval/results/step-N@SUITE/FILE
    checkpoint =
        run::RunFolder(folder.parent_path().parent_path().parent_path()).checkpoints_path() / recorded.checkpoint;
  }
  at::set_num_threads(thread_budget());
  const Agent agent(checkpoint, weights_of(recorded.decoding.weights), kernels::open_device(options.device));
  if (agent.model_digest() != recorded.play->model) {
    throw ConfigError(cat(checkpoint.string(), " holds another model than the one that played ",
                          options.result.string(), "; give the right one with --checkpoint"));
  }
  const std::vector<TaskToPlay> tasks = tasks_of(recorded, folder);
  PlayOptions play;
  play.suite = recorded.suite;
  play.seed = recorded.play->seed;
  play.slots = recorded.play->slots;
  play.demonstration = recorded.decoding.prompt == "demonstration";
  play.cuda_graph = recorded.play->cuda_graph && !agent.model().store().device().is_cpu();
  play.record_episodes = 0;
  play.record_frames = static_cast<int>(options.rollout) + 1;
  for (PlayedTask& played : play_together(agent, tasks, play)) {
    if (played.result.task != recorded.task || played.result.play->first != recorded.play->first) continue;
    const auto rollout = static_cast<size_t>(options.rollout);
    if (rollout >= played.episodes.size()) {
      throw ConfigError(cat("--rollout ", rollout, ": the result holds ", played.episodes.size(), " rollouts"));
    }
    const auto& frames = played.episodes[rollout].frames;
    if (!frames.empty()) {  // named by its number in the task: shards keep out of each other's way
      outcome.animation = write_animation(options.out, recorded.task, recorded.play->first + options.rollout, frames);
    }
    outcome.again = std::move(played.result);
  }
  outcome.differences = differences_of(recorded, outcome.again);
  return outcome;
}

}  // namespace gato::eval

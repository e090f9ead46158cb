#include "gato/eval/evaluate.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/progress.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/env/remote.h"
#include "gato/eval/agent.h"
#include "gato/kernels/attention_route.h"
#include "gato/kernels/device.h"
#include "gato/run/run_folder.h"
#include "play.h"
#include "write_text.h"

namespace gato::eval {

Path resolve_checkpoint(const Path& path) {
  if (std::filesystem::exists(path / checkpoint::kManifestName)) return std::filesystem::canonical(path);
  const run::RunFolder folder(path);
  if (std::filesystem::is_directory(folder.checkpoints_path())) {
    const auto newest = checkpoint::newest_valid(folder.checkpoints_path());
    if (newest) return std::filesystem::canonical(newest->path);
    throw CheckpointError(
        cat(folder.checkpoints_path().string(), " holds no valid checkpoint yet; train with `gato-train` first"));
  }
  throw ConfigError(
      cat(path.string(), " is neither a checkpoint (a folder with ", checkpoint::kManifestName, ") nor a run folder"));
}

namespace {

/// The model's device for people: "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)".
std::string device_name(at::Device device) {
  return device.is_cpu() ? "cpu" : cat(device.str(), " (", kernels::gpu_properties(device).name, ")");
}

/// One evaluation under way.
class Evaluation {
 public:
  Evaluation(const EvaluateOptions& options, const Agent& agent, Path out)
      : options_(options), agent_(agent), out_(std::move(out)) {}

  /// Whether a result of just these episodes, played as `settings` (null for texts) and the options say with this
  /// checkpoint, is there; a damaged one counts as none.
  [[nodiscard]] bool has_result(const std::string& task, const std::vector<uint64_t>& seeds,
                                const env::SuiteTask* settings) const {
    const Path file = out_ / run::result_file_name(task, 0);
    if (options_.again || !std::filesystem::exists(file)) return false;
    try {
      const auto result = run::parse_task_result(read_file(file), file.string());
      const auto same_seed = [](const run::RolloutRecord& rollout, uint64_t seed) { return rollout.seed == seed; };
      return result.task == task && result.checkpoint == agent_.path().filename().string() &&
             result.suite == options_.suite.name && (settings == nullptr || is_played_so(result, *settings)) &&
             std::equal(result.rollouts.begin(), result.rollouts.end(), seeds.begin(), seeds.end(), same_seed);
    } catch (const DataError&) {
      return false;
    }
  }

  [[nodiscard]] bool is_played_so(const run::TaskResult& result, const env::SuiteTask& settings) const {
    return result.play && result.play->slots == options_.slots && result.play->model == agent_.model_digest() &&
           result.decoding.rule == decoding_name(settings.decoding) &&
           result.decoding.temperature == settings.temperature && result.decoding.top_p == settings.top_p;
  }

  [[nodiscard]] std::vector<uint64_t> seeds_of(const std::string& task, const env::SuiteTask& settings) const {
    const int64_t rollouts = options_.rollouts > 0 ? options_.rollouts : settings.rollouts;
    return evaluation_seeds(options_.seed, task, 0, rollouts);
  }

  void play(const std::string& task, const env::SuiteTask& settings) {
    const auto rollouts = static_cast<int64_t>(seeds_of(task, settings).size());
    PlayOptions play;
    play.suite = options_.suite.name;
    play.seed = options_.seed;
    play.slots = options_.slots;
    play.record_episodes = options_.record_episodes;
    play.demonstration = options_.demonstration;
    play.cuda_graph = options_.cuda_graph;
    Progress progress(task, rollouts, "episodes");
    play.on_progress = [&](const std::string&, int64_t done, int64_t) { progress.set(done); };
    const PlayedTask played = play_together(agent_, {{task, 0, rollouts, 0, 1, settings}}, play).at(0);
    progress.finish();
    keep_media(out_, played);
    run::write_result(out_, played.result);
    remove_other_shards(task);
  }

  /// Of the same task divided otherwise, as a queue does: they are the same episodes again.
  void remove_other_shards(const std::string& task) const {
    for (int64_t shard = 1; std::filesystem::remove(out_ / run::result_file_name(task, shard)); ++shard) {
    }
  }

  void score_texts(const std::vector<std::string>& tasks) {
    std::vector<std::string> missing;
    for (const std::string& task : tasks) {
      if (!has_result(task, {}, nullptr)) missing.push_back(task);
    }
    if (missing.empty()) return;
    for (const run::TaskResult& result : text_results(agent_, options_.suite.name, missing)) {
      run::write_result(out_, result);
      if (options_.record_episodes > 0) keep_text_samples(out_, agent_, result.task);
    }
  }

 private:
  const EvaluateOptions& options_;
  const Agent& agent_;
  Path out_;
};

bool wanted(const EvaluateOptions& options, const std::string& task) {
  if (options.tasks.empty()) return true;
  return std::any_of(options.tasks.begin(), options.tasks.end(),
                     [&](const std::string& pattern) { return matches_pattern(pattern, task); });
}

/// Throws ConfigError for a pattern of `options.tasks` that matches nothing in the suite.
void check_patterns(const EvaluateOptions& options, const std::vector<std::string>& names) {
  for (const std::string& pattern : options.tasks) {
    const auto matches = [&](const std::string& name) { return matches_pattern(pattern, name); };
    if (std::any_of(names.begin(), names.end(), matches)) continue;
    throw ConfigError(
        cat("--task ", pattern, " matches nothing in suite ", options.suite.name, ", which has: ", join(names, ", ")));
  }
}

}  // namespace

EvaluateOutcome evaluate(const EvaluateOptions& asked) {
  EvaluateOptions options = asked;
  at::set_num_threads(thread_budget());
  const auto tasks = env::resolve_tasks(options.suite);
  std::vector<std::string> names;
  for (const auto& [task, settings] : tasks) names.push_back(task);
  for (const env::SuiteText& text : options.suite.texts) names.push_back(text.name);
  check_patterns(options, names);
  const Path checkpoint = resolve_checkpoint(options.checkpoint);
  const at::Device device = kernels::open_device(options.device);
  if (options.cuda_graph && device.is_cpu()) {
    throw ConfigError(
        cat("--cuda-graph is for a GPU, but the agent acts on the CPU (--device ", options.device, "); leave it out"));
  }
  const Agent agent(checkpoint, options.weights, device);
  if (agent.acting()->type() != model::ActingWeights::type_of(agent.model())) {
    options.suite.name += cat("-", kernels::weight_type_name(agent.acting()->type()));
  }
  if (options.demonstration) options.suite.name += "-prompted";
  // <run>/checkpoints/step-N
  const run::RunFolder folder(checkpoint.parent_path().parent_path());
  EvaluateOutcome outcome;
  outcome.out = options.out.empty() ? folder.results_path(agent.step(), options.suite.name) : options.out;
  make_folders(outcome.out);
  log::info("eval", "plays suite ", options.suite.name, " with ", checkpoint.string(), " and ",
            kernels::weight_type_name(agent.acting()->type()), " weights on ", device_name(device), "; results go to ",
            outcome.out.string());
  if (!kernels::kernels_are_proven(device)) {
    log::info("eval", "attention over cached tokens goes by plain operations, which are slower: our kernels are not ",
              "proven on this GPU until `tools/test --gpu` has passed on it");
  }
  Evaluation evaluation(options, agent, outcome.out);
  std::vector<std::string> given_up;
  for (const auto& [task, settings] : tasks) {
    throw_if_stopped("evaluation");
    if (settings.rollouts == 0 || !wanted(options, task)) continue;
    if (evaluation.has_result(task, evaluation.seeds_of(task, settings), &settings)) {
      log::info("eval", task, ": result is there already");
      continue;
    }
    try {
      evaluation.play(task, settings);
    } catch (const env::EnvironmentError& error) {  // other tasks can do without its workers
      log::error("eval", error.what());
      given_up.push_back(task);
    }
  }
  std::vector<std::string> texts;
  for (const env::SuiteText& text : options.suite.texts) {
    if (wanted(options, text.name)) texts.push_back(text.name);
  }
  evaluation.score_texts(texts);
  const std::vector<run::TaskResult> results = run::read_results(outcome.out);
  if (results.empty() && given_up.empty()) {
    throw ConfigError(cat("nothing was evaluated: no task of suite ", options.suite.name,
                          options.tasks.empty() ? " has rollouts" : " matches " + join(options.tasks, ", ")));
  }
  if (!results.empty()) {
    outcome.summary = run::summarise(results);
    run::write_summary(outcome.out, outcome.summary);
    if (folder.exists() && options.out.empty()) run::append_scores(folder.scores_path(), outcome.summary);
  }
  if (!given_up.empty()) {
    throw env::EnvironmentError(cat("The environments of ", join(given_up, ", "),
                                    " kept failing, see above; what else ", "was played is in ", outcome.out.string(),
                                    ", and the same command tries again."));
  }
  return outcome;
}

namespace {

std::string cell(const std::optional<double>& value, int digits) { return value ? format_fixed(*value, digits) : "-"; }

std::string pad(std::string text, size_t width, bool left) {
  const std::string space(width > text.size() ? width - text.size() : 0, ' ');
  return left ? text + space : space + text;
}

}  // namespace

std::string summary_table(const run::Summary& summary) {
  std::vector<std::vector<std::string>> rows = {
      {"task", "score", "95 % interval", "return", "expert", "random", "success", "rollouts"}};
  for (const auto& [task, line] : summary.tasks) {
    std::string score = cell(line.score, 1);
    if (line.loss) score = cat(format_fixed(line.loss->nats_per_token, 3), " nats");
    std::string interval =
        line.ci95 ? cat(format_fixed(line.ci95->first, 1), " - ", format_fixed(line.ci95->second, 1)) : "-";
    if (line.loss) interval = cat("unigram ", format_fixed(line.loss->unigram_nats_per_token, 3));
    rows.push_back({task, score, interval, cell(line.mean_return, 2), cell(line.expert_return, 2),
                    cell(line.random_return, 2), cell(line.success_rate, 2),
                    line.rollouts > 0 ? cat(line.rollouts) : "-"});
  }
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string table;
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c)
      table += pad(row[c], widths[c], c == 0) + (c + 1 < row.size() ? "  " : "\n");
  }
  for (const auto& [domain, line] : summary.domains)
    table += cat("domain ", domain, ": ", format_fixed(line.score, 1), " (", line.tasks, " tasks)\n");
  if (summary.mean_score) {
    table += cat("mean over domains: ", format_fixed(*summary.mean_score, 1),
                 "; tasks at 25, 50, 75, 100 % of the expert: ");
    std::vector<std::string> counts;
    for (const auto& [share, tasks] : summary.tasks_at) counts.push_back(cat(tasks));
    table += join(counts, ", ") + "\n";
  }
  return table;
}

}  // namespace gato::eval

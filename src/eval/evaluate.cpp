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
#include "gato/core/version.h"
#include "gato/env/rollout.h"
#include "gato/eval/agent.h"
#include "gato/kernels/attention_route.h"
#include "gato/kernels/device.h"
#include "gato/run/run_folder.h"
#include "media.h"

namespace gato::eval {
namespace {

constexpr int64_t kReferenceEpisodes = 100;
constexpr int kPicturesPerEpisode = 8;  // tasks of one step show that many more episodes

/// The checkpoint folder that `path` means.
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

run::ReferenceReturn to_record(const episode::ReturnRecord& record) {
  return {record.mean, record.standard_error, record.episodes};
}

run::ReferenceReturn measure_reference(const std::string& task, env::ReferenceAgent agent) {
  const auto seeds = env::seeds_for(env::SeedUse::kReference, 0, task, kReferenceEpisodes);
  double sum = 0, squares = 0;
  const auto results = env::roll_out_reference(task, agent, seeds);
  for (const auto& result : results) {
    sum += result.episode_return;
    squares += result.episode_return * result.episode_return;
  }
  const auto n = static_cast<double>(results.size());
  const double variance = std::max(0.0, squares / n - sum / n * sum / n);
  return {sum / n, std::sqrt(variance / n), static_cast<int64_t>(results.size())};
}

const char* decoding_name(env::Decoding decoding) {
  for (const auto& [name, value] : config_enum(static_cast<const env::Decoding*>(nullptr))) {
    if (value == decoding) return name;
  }
  return "default";
}

/// The model's device for people: "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)".
std::string device_name(at::Device device) {
  return device.is_cpu() ? "cpu" : cat(device.str(), " (", kernels::gpu_properties(device).name, ")");
}

/// Of what bears on the numbers.
std::map<std::string, std::string> versions(at::Device device) {
  std::map<std::string, std::string> names{{"gato", version()}, {"compiler", compiler_version()}};
  if (!device.is_cpu()) names["gpu"] = kernels::gpu_properties(device).name;
  return names;
}

/// One evaluation under way.
class Evaluation {
 public:
  Evaluation(const EvaluateOptions& options, const Agent& agent, Path out)
      : options_(options), agent_(agent), out_(std::move(out)) {}

  run::TaskResult blank_result(const std::string& task) const {
    run::TaskResult result;
    result.task = task;
    result.checkpoint = agent_.path().filename().string();
    result.step = agent_.step();
    result.suite = options_.suite.name;
    result.versions = versions(agent_.model().store().device());
    return result;
  }

  /// Whether a result of just these episodes with this checkpoint is there; a damaged one counts as none.
  [[nodiscard]] bool has_result(const std::string& task, const std::vector<uint64_t>& seeds) const {
    const Path file = out_ / run::result_file_name(task, 0);
    if (options_.again || !std::filesystem::exists(file)) return false;
    try {
      const auto result = run::parse_task_result(read_file(file), file.string());
      const auto same_seed = [](const run::RolloutRecord& rollout, uint64_t seed) { return rollout.seed == seed; };
      return result.task == task && result.checkpoint == agent_.path().filename().string() &&
             result.suite == options_.suite.name &&
             std::equal(result.rollouts.begin(), result.rollouts.end(), seeds.begin(), seeds.end(), same_seed);
    } catch (const DataError&) {
      return false;
    }
  }

  [[nodiscard]] std::vector<uint64_t> seeds_of(const std::string& task, const env::SuiteTask& settings) const {
    const int64_t rollouts = options_.rollouts > 0 ? options_.rollouts : settings.rollouts;
    return env::seeds_for(env::SeedUse::kEvaluation, options_.seed, task, rollouts);
  }

  void play(const std::string& task, const env::SuiteTask& settings) {
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<uint64_t> seeds = seeds_of(task, settings);
    const auto rollouts = static_cast<int64_t>(seeds.size());
    const int slots = static_cast<int>(std::min<int64_t>(rollouts, options_.slots));
    auto batch = env::make_environment_batch(task, slots);
    const episode::TaskSpec spec = batch->spec();
    PolicyOptions policy_options;
    policy_options.decoding = settings.decoding;
    policy_options.temperature = settings.temperature;
    policy_options.top_p = settings.top_p;
    policy_options.cuda_graph = options_.cuda_graph;
    auto policy = make_model_policy(agent_, spec, slots, policy_options);

    env::RolloutOptions rollout_options;
    rollout_options.seeds = seeds;
    rollout_options.record_frames = options_.record_episodes * (spec.max_steps == 1 ? kPicturesPerEpisode : 1);
    rollout_options.frame_stride = static_cast<int>(std::max<int64_t>(1, spec.max_steps / 100));
    Progress progress(task, rollouts, "episodes");
    rollout_options.on_progress = [&](int64_t done) { progress.set(done); };
    const auto played = env::roll_out(*batch, *policy, rollout_options);
    progress.finish();

    run::TaskResult result = blank_result(task);
    result.scoring =
        spec.scoring == episode::Scoring::kExactMatch ? run::TaskScoring::kExactMatch : run::TaskScoring::kReturn;
    result.decoding = {decoding_name(settings.decoding),
                       settings.temperature,
                       agent_.context_steps(task),
                       "none",
                       settings.top_p,
                       kernels::weight_type_name(agent_.acting()->type())};
    for (const auto& episode : played) {
      result.rollouts.push_back({episode.seed, episode.episode_return, episode.length, episode.success,
                                 episode.exact_match, episode.answer, episode.reference});
    }
    add_references(spec, result);
    keep_media(task, played);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    run::write_result(out_, result);
  }

  /// Expert and random returns as recorded with the demonstrations; measured now for tasks without any.
  void add_references(const episode::TaskSpec& spec, run::TaskResult& result) const {
    const episode::TaskSpec* trained = agent_.trained_task(spec.id);
    if (trained != nullptr && trained->random.episodes > 0) {
      result.expert = to_record(trained->expert);
      result.random = to_record(trained->random);
      return;
    }
    result.random = measure_reference(spec.id, env::ReferenceAgent::kRandom);
    if (env::find_task(spec.id).make_expert) result.expert = measure_reference(spec.id, env::ReferenceAgent::kExpert);
  }

  void keep_media(const std::string& task, const std::vector<env::RolloutResult>& played) const {
    std::vector<MediaItem> items;
    for (const env::RolloutResult& episode : played) {
      if (episode.frames.empty()) continue;
      MediaItem item = write_frames(out_, task, static_cast<int64_t>(items.size()), episode.frames);
      item.seed = episode.seed;
      item.answer = episode.answer;
      item.reference = episode.reference;
      item.exact_match = episode.exact_match.value_or(false);
      items.push_back(std::move(item));
    }
    write_media(out_, task, items);
  }

  void score_texts(const std::vector<std::string>& tasks) {
    std::vector<std::string> missing;
    for (const std::string& task : tasks) {
      if (!has_result(task, {})) missing.push_back(task);
    }
    if (missing.empty()) return;
    const auto losses = agent_.heldout_losses();
    for (const std::string& task : missing) {
      const auto found = losses.find(task);
      if (found == losses.end()) {
        log::warning("eval", task, ": ", agent_.path().string(), " carries no held-out documents of it");
        continue;
      }
      run::TaskResult result = blank_result(task);
      result.scoring = run::TaskScoring::kLoss;
      result.loss =
          run::TextLoss{found->second.nats_per_token, found->second.tokens, found->second.unigram_nats_per_token};
      run::write_result(out_, result);
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
  for (const auto& [task, settings] : tasks) {
    throw_if_stopped("evaluation");
    if (settings.rollouts == 0 || !wanted(options, task)) continue;
    if (evaluation.has_result(task, evaluation.seeds_of(task, settings))) {
      log::info("eval", task, ": result is there already");
      continue;
    }
    evaluation.play(task, settings);
  }
  std::vector<std::string> texts;
  for (const env::SuiteText& text : options.suite.texts) {
    if (wanted(options, text.name)) texts.push_back(text.name);
  }
  evaluation.score_texts(texts);
  const std::vector<run::TaskResult> results = run::read_results(outcome.out);
  if (results.empty()) {
    throw ConfigError(cat("nothing was evaluated: no task of suite ", options.suite.name,
                          options.tasks.empty() ? " has rollouts" : " matches " + join(options.tasks, ", ")));
  }
  outcome.summary = run::summarise(results);
  run::write_summary(outcome.out, outcome.summary);
  if (folder.exists() && options.out.empty()) run::append_scores(folder.scores_path(), outcome.summary);
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
                 "; tasks at 50 or above: ", summary.tasks_at_50, "\n");
  }
  return table;
}

}  // namespace gato::eval

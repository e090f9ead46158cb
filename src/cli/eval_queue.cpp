#include <algorithm>
#include <iostream>
#include <map>
#include <memory>

#include "eval_queue_verbs.h"
#include "evaluation_plan.h"
#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/run/evaluation_queue.h"
#include "gato/run/evaluation_worker.h"
#include "program.h"

namespace gato::cli {
namespace {

using run::EvaluationQueue;
using run::JobState;
using run::QueuedBatch;

constexpr const char* kPerson = "gato-eval";  // who cancels and retries, in the queue's files

/// Which jobs a verb is about.
struct Selection {
  std::string run, suite;
  int64_t step = -1;
  std::vector<size_t> jobs;

  [[nodiscard]] bool has(const QueuedBatch& batch) const {
    return (step < 0 || batch.batch().step == step) && (suite.empty() || batch.batch().suite == suite);
  }
  [[nodiscard]] bool has(size_t job) const {
    return jobs.empty() || std::find(jobs.begin(), jobs.end(), job) != jobs.end();
  }
};

void add_selection(CLI::App& verb, Selection& selection) {
  verb.add_option("--run", selection.run, "Run folder")->required()->check(CLI::ExistingDirectory);
  verb.add_option("--step", selection.step, "Only the checkpoint of this step")->check(CLI::NonNegativeNumber);
  verb.add_option("--suite", selection.suite, "Only this suite");
}

std::string task_names(const run::Job& job) {
  std::vector<std::string> names;
  for (const run::JobPart& part : job.parts) {
    names.push_back(part.num_shards == 1
                        ? part.task.task
                        : cat(part.task.task, " ", part.first, "-", part.first + part.task.rollouts - 1));
  }
  return join(names, ", ");
}

void print_batch(const QueuedBatch& batch, bool all) {
  std::map<JobState, int64_t> counts;
  for (size_t job = 0; job < batch.batch().jobs.size(); ++job) ++counts[batch.status(job).state];
  std::vector<std::string> parts;
  for (const auto& [state, count] : counts) parts.push_back(cat(count, " ", run::job_state_name(state)));
  std::cout << batch.name() << ": " << (parts.empty() ? "no jobs" : join(parts, ", ")) << "\n";
  for (size_t job = 0; job < batch.batch().jobs.size(); ++job) {
    const run::JobStatus status = batch.status(job);
    const bool is_news = status.state == JobState::kFailed || status.state == JobState::kRunning || status.attempts > 0;
    if (!all && !is_news) continue;
    std::cout << "  job " << job << "  " << run::job_state_name(status.state) << "  "
              << task_names(batch.batch().jobs[job]);
    if (!status.worker.empty()) std::cout << "  by " << status.worker;
    std::cout << "\n";
    for (size_t i = 0; i < status.reasons.size(); ++i) {
      std::cout << "    attempt " << i + 1 << " of " << batch.batch().settings.max_attempts << ": " << status.reasons[i]
                << "\n";
    }
  }
}

int show_status(const Selection& selection, bool all) {
  EvaluationQueue queue(selection.run);
  bool any = false;
  for (const QueuedBatch* batch : queue.all_batches()) {
    if (!selection.has(*batch)) continue;
    any = true;
    print_batch(*batch, all);
  }
  if (!any) std::cout << "nothing is queued\n";
  const auto workers = run::read_workers(queue.folder());
  for (const run::WorkerState& worker : workers) std::cout << "worker " << worker.name << ": " << worker.doing << "\n";
  if (workers.empty()) std::cout << "no workers; `gato-eval --run " << selection.run << " --watch` is one\n";
  return kDone;
}

/// Applies `change` to all jobs of a selection; says how many it changed. Exit code 1 when there was none.
int change_jobs(const Selection& selection, const char* what,
                const std::function<bool(EvaluationQueue&, QueuedBatch&, size_t)>& change) {
  EvaluationQueue queue(selection.run);
  int64_t changed = 0;
  for (QueuedBatch* batch : queue.all_batches()) {
    if (!selection.has(*batch)) continue;
    for (size_t job = 0; job < batch->batch().jobs.size(); ++job) {
      if (selection.has(job)) changed += change(queue, *batch, job) ? 1 : 0;
    }
  }
  std::cout << changed << (changed == 1 ? " job" : " jobs") << " " << what << "\n";
  return changed > 0 ? kDone : kFailed;
}

/// A verb that changes jobs.
std::function<int()> add_change(CLI::App& app, const char* name, const char* description, const char* what,
                                const std::function<bool(EvaluationQueue&, QueuedBatch&, size_t)>& change) {
  auto selection = std::make_shared<Selection>();
  auto* verb = app.add_subcommand(name, description);
  add_selection(*verb, *selection);
  verb->add_option("--job", selection->jobs, "Only jobs of these numbers, as status shows them");
  return [=] { return verb->parsed() ? change_jobs(*selection, what, change) : -1; };
}

struct EnqueueArguments {
  std::string run;
  std::vector<int64_t> steps;
  run::EvaluationConfig config;
};

std::vector<int64_t> all_steps(const run::RunFolder& folder) {
  std::vector<int64_t> steps;
  for (const auto& entry : std::filesystem::directory_iterator(folder.checkpoints_path())) {
    if (const auto step = checkpoint::parse_step_name(entry.path().filename().string())) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

int enqueue(const EnqueueArguments& arguments) {
  const run::RunFolder folder(arguments.run);
  const run::EvaluationPlan plan = evaluation_plan(arguments.config, 0, "");
  EvaluationQueue queue(arguments.run);
  int64_t jobs = 0;
  for (const int64_t step : arguments.steps.empty() ? all_steps(folder) : arguments.steps) {
    if (!std::filesystem::exists(folder.checkpoints_path() / checkpoint::step_name(step) / checkpoint::kManifestName)) {
      throw ConfigError(cat("there is no checkpoint of step ", step, " in ", folder.checkpoints_path().string()));
    }
    for (const run::PlannedSuite& suite : plan.suites) {
      const run::JobBatch batch = make_batch(plan, suite, step);
      if (queue.enqueue(batch)) jobs += static_cast<int64_t>(batch.jobs.size());
    }
  }
  std::cout << jobs << " jobs queued\n";
  return kDone;
}

}  // namespace

std::function<int()> add_status(CLI::App& app) {
  auto selection = std::make_shared<Selection>();
  auto all = std::make_shared<bool>(false);
  auto* verb = app.add_subcommand("status", "Show a run's evaluation queue: counts, running and failed jobs, workers");
  add_selection(*verb, *selection);
  verb->add_flag("--all", *all, "Every job");
  return [=] { return verb->parsed() ? show_status(*selection, *all) : -1; };
}

std::function<int()> add_enqueue(CLI::App& app) {
  auto arguments = std::make_shared<EnqueueArguments>();
  run::EvaluationConfig& config = arguments->config;
  auto* verb = app.add_subcommand("enqueue", "Queue evaluations of checkpoints that are there");
  verb->add_option("--run", arguments->run, "Run folder")->required()->check(CLI::ExistingDirectory);
  verb->add_option("--suite", config.suites, "Name in configs/suites, or a file")->required();
  verb->add_option("--step", arguments->steps, "Checkpoints; default: all");
  verb->add_option("--rollouts", config.rollouts, "Episodes per task; 0: as the suite says");
  verb->add_option("--rollouts-per-job", config.rollouts_per_job, "Episodes that one job plays; 0: all of a task");
  verb->add_option("--tasks-together", config.tasks_together, "Tasks of one job, which share forward passes");
  verb->add_option("--slots", config.slots, "Environments per forward pass");
  verb->add_option("--seed", config.seed, "Seed of the episodes");
  verb->add_option("--prompt", config.prompt, "none or demonstration");
  verb->add_option("--weights", config.weights, "fp32, bf16 or int8; default: as trained");
  verb->add_option("--record", config.record, "Episodes per task whose pictures are kept");
  return [=] {
    if (!verb->parsed()) return -1;
    ConfigProblems problems;
    validate_config(arguments->config, problems);
    problems.throw_if_any();
    return enqueue(*arguments);
  };
}

std::function<int()> add_retry(CLI::App& app) {
  return add_change(
      app, "retry", "Try failed and cancelled jobs anew", "to be tried anew",
      [](EvaluationQueue& queue, QueuedBatch& batch, size_t job) { return queue.retry(batch, job, kPerson); });
}

std::function<int()> add_cancel(CLI::App& app) {
  return add_change(
      app, "cancel", "Cancel jobs that are not done; a worker that plays one ends at the next episode", "cancelled",
      [](EvaluationQueue& queue, QueuedBatch& batch, size_t job) { return queue.cancel(batch, job, kPerson); });
}

}  // namespace gato::cli

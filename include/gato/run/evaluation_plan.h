#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/config.h"
#include "gato/run/results.h"  // DecodingRecord
#include "gato/run/run_folder.h"

/// Which checkpoints of a run are evaluated on what, and how: `eval/plan.json` (docs/formats/evaluation_queue.md).
namespace gato::run {

/// Evaluation beside training (`eval.*` in a config file).
struct EvaluationConfig {
  std::vector<std::string> suites;  ///< Names or files, as gato-eval --suite takes them; empty: nothing is evaluated.
  int64_t every = 0;                ///< Steps between evaluated checkpoints; 0: only the last one of the run.
  int64_t rollouts = 0;             ///< Episodes per task; 0: as the suite says.
  int64_t rollouts_per_job = 50;    ///< Episodes of a task that one job plays; 0: all of them.
  int64_t tasks_together = 1;       ///< Tasks of a job, whose environments share the model's forward passes.
  int64_t slots = 64;               ///< Environments per forward pass.
  int64_t seed = 0;                 ///< Of the episodes.
  std::string prompt = "none";      ///< "none", or "demonstration": one from the checkpoint in front of every context.
  std::string weights;              ///< fp32, bf16 or int8; "": as trained.
  int64_t record = 1;               ///< Episodes per task whose pictures are kept.
  int64_t attempts = 3;             ///< How often a job may fail before it is given up.
  int64_t workers = 0;              ///< gato-eval processes that gato-train starts beside itself.
  int64_t worker_threads = 1;       ///< Threads of each of them.
  int64_t stall_seconds = 900;      ///< How long one may not come on: it hangs then, is ended and started again.
};
GATO_CONFIG(EvaluationConfig,
            GATO_FIELD(suites, "Suites that checkpoints are evaluated on, names or files; empty: nothing is."),
            GATO_FIELD(every, "Steps between evaluated checkpoints; 0: only the last one of the run."),
            GATO_FIELD(rollouts, "Episodes per task; 0: as the suite says."),
            GATO_FIELD(rollouts_per_job, "Episodes of a task that one job plays; 0: all of them."),
            GATO_FIELD(tasks_together, "Tasks of one job, whose environments share the model's forward passes."),
            GATO_FIELD(slots, "Environments per forward pass."), GATO_FIELD(seed, "Seed of the episodes."),
            GATO_FIELD(prompt, "none, or demonstration: one from the checkpoint in front of every context."),
            GATO_FIELD(weights, "Type of the weights that act: fp32, bf16, int8; empty: as trained."),
            GATO_FIELD(record, "Episodes per task whose pictures are kept for the report."),
            GATO_FIELD(attempts, "How often a job may fail before it is given up."),
            GATO_FIELD(workers, "gato-eval processes that gato-train starts beside itself."),
            GATO_FIELD(worker_threads, "Threads of each of these."),
            GATO_FIELD(stall_seconds, "How long one of these may not come on before it is ended and started again."))
void validate_config(const EvaluationConfig& config, ConfigProblems& problems);

/// How the jobs of a plan or batch are played: all that bears on the rollouts besides checkpoint, task and seeds.
struct PlaySettings {
  uint64_t seed = 0;
  int64_t slots = 64;           ///< Environments per forward pass, at most; > 0.
  std::string prompt = "none";  ///< "none" or "demonstration".
  std::string weights = {};     ///< "fp32", "bf16", "int8" or "": as trained.
  int64_t record_episodes = 1;  ///< Per task, from its first episode.
  int64_t max_attempts = 3;     ///< > 0.
  bool operator==(const PlaySettings&) const = default;
};

/// A task as a suite wants it played.
struct PlannedTask {
  std::string task;
  int64_t rollouts = 50;  ///< > 0.
  std::string rule = "default";
  double temperature = 1, top_p = 1;
  bool operator==(const PlannedTask&) const = default;
};

struct PlannedSuite {
  std::string name;
  std::vector<PlannedTask> tasks;
  std::vector<std::string> texts;  ///< Tasks judged by the loss of held-out documents that checkpoints carry.
  bool operator==(const PlannedSuite&) const = default;
};

struct EvaluationPlan {
  int64_t every = 0;      ///< Steps between evaluated checkpoints; 0: only the last.
  int64_t last_step = 0;  ///< Of the run.
  int64_t rollouts_per_job = 50, tasks_together = 1;
  PlaySettings settings;
  std::vector<PlannedSuite> suites;
  /// Whether the checkpoint of `step` is to be evaluated.
  [[nodiscard]] bool is_due(int64_t step) const;
  bool operator==(const EvaluationPlan&) const = default;
};

[[nodiscard]] std::string to_json(const EvaluationPlan& plan);
/// Strict; DataError naming `origin` and the key.
[[nodiscard]] EvaluationPlan parse_evaluation_plan(std::string_view json, const std::string& origin);

/// Stores the plan in the run folder; nothing is written when it is there already.
void write_plan(const RunFolder& folder, const EvaluationPlan& plan);
[[nodiscard]] std::optional<EvaluationPlan> read_plan(const RunFolder& folder);  ///< Nothing when there is none.

}  // namespace gato::run

#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gato/core/file.h"  // Path

/// Results of evaluations and the tables computed from them (docs/formats/scores.md).
namespace gato::run {

/// One episode of an evaluation.
struct RolloutRecord {
  uint64_t seed = 0;
  double episode_return = 0;        ///< Non-finite values are stored as null and read as NaN.
  int64_t length = 0;               ///< Steps, >= 0.
  std::optional<bool> success;      ///< Where the environment defines it.
  std::optional<bool> exact_match;  ///< Tasks judged by exact match: whether answer equals reference.
  std::string answer, reference;    ///< For those tasks. Bytes that are not valid UTF-8 are stored as U+FFFD.
  /// Why the environment itself failed (its process died, hung or raised an error); "" for episodes that were played.
  /// Failed ones count for nothing but themselves.
  std::string failure = {};
  bool operator==(const RolloutRecord&) const = default;
};

/// Mean return of the expert or of random actions, measured by this project.
struct ReferenceReturn {
  double mean = 0;
  double standard_error = 0;
  int64_t episodes = 0;  ///< 0: not measured.
  bool operator==(const ReferenceReturn&) const = default;
};

/// Loss on held-out documents of a text task.
struct TextLoss {
  double nats_per_token = 0;          ///< Mean over tokens.
  int64_t tokens = 0;                 ///< > 0.
  double unigram_nats_per_token = 0;  ///< Of a unigram model on the same tokens.
  bool operator==(const TextLoss&) const = default;
};

/// How a task is judged; the names in files are "return", "exact_match", "loss".
enum class TaskScoring : uint8_t { kReturn, kExactMatch, kLoss };

/// How actions were chosen from the model's distribution.
struct DecodingRecord {
  std::string rule = "default";  ///< As in the suite file: default, greedy, mean, sample.
  double temperature = 1.0;      ///< > 0.
  int64_t context_steps = 0;     ///< Upper bound of steps kept in the context; 0: as many as a row holds.
  std::string prompt = "none";   ///< Where demonstrations in the prompt came from.
  double top_p = 1.0;            ///< In (0, 1]; 1: every choice may be sampled.
  std::string weights = "";  ///< Type of the weights that acted, "bf16"; empty in results before they were recorded.
  bool operator==(const DecodingRecord&) const = default;
};

/// Episodes [first, first + rollouts) of a task.
struct EpisodeRange {
  std::string task;
  int64_t first = 0, rollouts = 0;
  bool operator==(const EpisodeRange&) const = default;
};

/// What else bears on the rollouts: the same again gives the same ones on a machine of the same kind.
struct PlayRecord {
  uint64_t seed = 0;                   ///< Of the evaluation; a rollout's own comes from it, the task and its number.
  int64_t first = 0;                   ///< Number of the first rollout.
  int64_t slots = 1;                   ///< Environments per forward pass, at most.
  int64_t prefill_chunk = 0;           ///< Tokens that a context is computed in at a time; 0: all at once.
  std::vector<EpisodeRange> together;  ///< All that shared forward passes, this task included.
  bool cuda_graph = false;
  std::string model;    ///< XXH3-128 of model.safetensors.
  std::string machine;  ///< Loops that ran: "cpu avx512", or the GPU's name.
  bool operator==(const PlayRecord&) const = default;
};

/// What one evaluation job found: one (checkpoint, suite, task, shard of rollouts).
struct TaskResult {
  std::string task;        ///< "domain/name".
  std::string checkpoint;  ///< Folder name, "step-00001000".
  int64_t step = 0;
  std::string suite;  ///< Letters, digits, "_", "-" and ".".
  int64_t shard = 0;  ///< In [0, num_shards).
  int64_t num_shards = 1;
  TaskScoring scoring = TaskScoring::kReturn;
  DecodingRecord decoding;
  std::vector<RolloutRecord> rollouts;  ///< Seeds differ. Empty for tasks with a loss only.
  ReferenceReturn expert, random;
  std::optional<TextLoss> loss;
  std::optional<PlayRecord> play;               ///< Absent in results before it was recorded, and of texts.
  std::map<std::string, std::string> versions;  ///< Of the environment, libraries and this project.
  double seconds = 0;                           ///< Wall time the job took.
  bool operator==(const TaskResult&) const = default;
};

/// JSON text, one value per line. Throws DataError naming the field for values outside their stated range.
[[nodiscard]] std::string to_json(const TaskResult& result);
/// Strict inverse: DataError naming `origin` and the key for unknown, missing or ill-typed keys and bad values.
[[nodiscard]] TaskResult parse_task_result(std::string_view json, const std::string& origin);

/// File name of a result: the task with '/' as '-', then ".shard-0.json".
[[nodiscard]] std::string result_file_name(const std::string& task, int64_t shard);
/// Writes a result into `folder` (RunFolder::results_path(step, suite), or any other), atomically. Replaces an earlier
/// result of the same task and shard; DataError when the file belongs to another task.
void write_result(const Path& folder, const TaskResult& result);
/// The same, unless a result of the same rollouts played in the same way is there (only the machine may differ): then
/// that one stays, and the answer is false. Of several processes that write at once, one is told true. What cannot be
/// read is replaced.
bool write_result_once(const Path& folder, const TaskResult& result);
/// One result. DataError naming the file; IoError.
[[nodiscard]] TaskResult read_result(const Path& file);
/// All results in `folder`, sorted by (task, shard). A damaged file is a DataError that names it.
[[nodiscard]] std::vector<TaskResult> read_results(const Path& folder);

/// One task's line in a table. Values that do not apply are absent.
struct TaskSummary {
  TaskScoring scoring = TaskScoring::kReturn;
  std::optional<double> score;                    ///< Percent; see summarise().
  std::optional<std::pair<double, double>> ci95;  ///< 95 % confidence interval of the score.
  int64_t rollouts = 0;
  std::optional<double> mean_return, expert_return, random_return;
  std::optional<double> success_rate;                     ///< In [0, 1], over the rollouts that say.
  std::optional<std::pair<double, double>> success_ci95;  ///< Wilson's 95 % interval of it.
  std::optional<double> exact_match;                      ///< In [0, 1].
  std::optional<TextLoss> loss;
  std::string note;  ///< Why there is no score, or what is missing; "" otherwise.
  bool operator==(const TaskSummary&) const = default;
};

struct DomainSummary {
  double score = 0;   ///< Mean over the domain's tasks with a score.
  int64_t tasks = 0;  ///< How many those are.
  /// 95 % interval of it: every task's rollouts drawn anew, the tasks as they are. Absent in older files.
  std::optional<std::pair<double, double>> ci95 = {};
  bool operator==(const DomainSummary&) const = default;
};

/// The table of one (checkpoint, suite).
struct Summary {
  std::string checkpoint;
  int64_t step = 0;
  std::string suite;
  std::map<std::string, TaskSummary> tasks;
  std::map<std::string, DomainSummary> domains;  ///< Domains with at least one scored task.
  std::optional<double> mean_score;              ///< Mean over domains; absent when no task has a score.
  int64_t tasks_at_50 = 0;                       ///< Tasks with a score >= 50.
  /// Tasks with a score of at least 25, 50, 75 and 100 percent of the expert, by these numbers; empty in older files.
  std::map<int64_t, int64_t> tasks_at = {};
  std::optional<std::pair<double, double>> mean_ci95 = {};  ///< Of mean_score, as that of domains.
  bool operator==(const Summary&) const = default;
};

/// Computes the table. Tasks judged by return: score = 100 x (mean - random) / (expert - random), with the percentile
/// bootstrap of confidence.h over rollouts (expert and random taken as exact). By exact match: score = 100 x share,
/// with the Wilson interval. By loss: no score. No score either, and a note, where the expert is not better than
/// random by more than two standard errors, either was not measured, or a return is not finite. Rollouts that failed
/// are left out, with a note. Shards of one task are joined. The result does not depend on the order of `results`.
/// DataError when they do not belong together: other checkpoints or suites, a shard or seed twice, shards that disagree
/// on scoring or references.
[[nodiscard]] Summary summarise(const std::vector<TaskResult>& results);

/// The same, but a task whose shards do not belong together gets a line without rollouts and score whose note says why.
[[nodiscard]] Summary summarise_what_agrees(const std::vector<TaskResult>& results);

[[nodiscard]] std::string to_json(const Summary& summary);  ///< As design.md section 9 gives it, indented.
[[nodiscard]] Summary parse_summary(std::string_view json, const std::string& origin);  ///< Strict, like results.

/// Writes `folder`/summary.json atomically.
void write_summary(const Path& folder, const Summary& summary);

/// One line of scores.jsonl.
struct ScoreLine {
  double time = 0;  ///< Seconds since 1970.
  Summary summary;
};

/// Appends the summary to scores.jsonl as one durable line.
void append_scores(const Path& scores_file, const Summary& summary);
/// Reads scores.jsonl: the last line of each (step, suite), sorted by (suite, step). A missing file gives none; damaged
/// lines are skipped with a warning.
[[nodiscard]] std::vector<ScoreLine> read_scores(const Path& scores_file);

}  // namespace gato::run

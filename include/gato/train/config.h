#pragma once
#include <cstdint>
#include <string>

#include "gato/core/config.h"
#include "gato/data/mixture.h"
#include "gato/kernels/attention_route.h"
#include "gato/model/config.h"
#include "gato/run/evaluation_plan.h"
#include "gato/tokenizer/config.h"

namespace gato::train {

/// AdamW with linear warm-up and cosine decay (paper appendix D; gato_spec 5.1).
struct OptimizerConfig {
  double learning_rate = 1e-4;   ///< At the end of the warm-up.
  double final_share = 0.1;      ///< Of learning_rate, at the last step.
  int64_t warmup_steps = 15000;  ///< Linear from 1e-7; 0: none.
  double beta_1 = 0.9;
  double beta_2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< Not on tables, biases and norms.
  double clip_norm = 1.0;     ///< Largest norm of the gradient; 0: no clipping.
};
GATO_CONFIG(OptimizerConfig, GATO_FIELD(learning_rate, "Learning rate at the end of the warm-up."),
            GATO_FIELD(final_share, "Learning rate at the last step, as a share of the largest."),
            GATO_FIELD(warmup_steps, "Steps of linear warm-up; 0: none."), GATO_FIELD(beta_1, "AdamW's first beta."),
            GATO_FIELD(beta_2, "AdamW's second beta."), GATO_FIELD(epsilon, "AdamW's epsilon."),
            GATO_FIELD(weight_decay, "Decoupled weight decay of matrices and convolutions, not of tables."),
            GATO_FIELD(clip_norm, "Largest norm of the gradient of the mean loss; 0: no clipping."))
void validate_config(const OptimizerConfig& config, ConfigProblems& problems);

/// Rows per forward pass: a number (0: all rows of the process), or `auto`: as many as memory allows, measured when a
/// run begins and kept for the rest of it.
struct MicroBatchRows {
  static constexpr int64_t kAuto = -1;
  int64_t rows = 0;
  [[nodiscard]] bool is_auto() const { return rows == kAuto; }
  /// Rows per forward pass of a process with `process_rows` rows per step; auto, where nothing was measured, is all.
  [[nodiscard]] int64_t of(int64_t process_rows) const { return rows > 0 ? rows : process_rows; }
};
bool parse_config_value(const ConfigNode& node, MicroBatchRows& value, std::string& expected);
std::string config_value_yaml(const MicroBatchRows& value);

/// Which scores are the best.
enum class BestIs { kMax, kMin };
GATO_CONFIG_ENUM(BestIs, 2, {"max", BestIs::kMax}, {"min", BestIs::kMin})

/// The training loop.
struct LoopConfig {
  int64_t steps = 1000000;
  int64_t batch_rows = 512;              ///< Rows per step, over all processes.
  MicroBatchRows micro_batch_rows = {};  ///< Rows per forward pass. Gradients are accumulated.
  bool recompute = false;        ///< Backward computes the blocks again: the same numbers, less memory, a third slower.
  bool shard_optimizer = false;  ///< Whether a process keeps its part alone of moments and bf16's masters.
  bool cuda_graph = false;       ///< Whether a GPU gets a micro-batch's work as one CUDA graph: docs/programs.md.
  std::string device = "auto";   ///< auto (a GPU where there is one), cpu, cuda or cuda:N.
  int64_t seed = 0;              ///< Of parameters, data order and stochastic depth.
  double soft_target_bins = 0;   ///< Standard deviation, in bins, of soft targets for continuous actions; 0: hard.
  int64_t log_every = 100;       ///< Steps between lines on the console and points in metrics.jsonl.
  int64_t validate_every = 1000;  ///< Steps between validations; 0: only at the end.
  int64_t validation_rows = 64;
  int64_t checkpoint_every = 1000;  ///< Steps between checkpoints; one is always saved at the end and on a stop signal.
  int64_t keep_checkpoints = 3;     ///< Newest checkpoints kept; at least 2.
  int64_t keep_every = 0;           ///< Also every checkpoint whose step is divisible by this; 0: none.
  int64_t keep_best = 0;            ///< Also as many with the best `best_by`.
  std::string best_by = "validation/loss";  ///< A metric, or SUITE:mean_score, SUITE:tasks_at_50, SUITE:TASK.
  BestIs best_is = BestIs::kMin;
  bool background_save = true;   ///< Whether training goes on while a checkpoint is written, from a copy in memory.
  int64_t save_failures = 3;     ///< Saves in a row that may fail before the run stops.
  bool verify_last_save = true;  ///< Whether the checkpoint of a finished run is read back before it counts.
  std::string init_from;         ///< Weights that a new run begins with; "": random ones.
  std::vector<std::string> init_include = {"*"};  ///< Patterns of parameters taken from there,
  std::vector<std::string> init_exclude = {};     ///< but not these.
  bool init_strict = true;                        ///< Whether what is missing, left over or misshapen is an error.
  double max_minutes = 0;                         ///< Save and stop (exit code 75) after this time; 0: no limit.
  int64_t threads = 0;                            ///< Threads of the process; 0: GATO_NUM_THREADS or all processors.
  int64_t demonstration_steps = 64;               ///< Steps of demonstrations per task kept in checkpoints.
  int64_t heldout_tokens = 20000;                 ///< Tokens of held-out documents per text task kept in checkpoints.
  int64_t check_replicas_every = 1000;            ///< Steps between comparisons of all processes' parameters; 0: none.
  int64_t max_failures_per_step = 3;  ///< Attempts in a row that may fail at one step (then exit code 93); 0: any.
  double hang_seconds = 60;           ///< The least that a step may take, and 10 times the median, before exit code 76.
  double long_hang_seconds = 1800;    ///< What start, first step, validation and saving may take.
};
GATO_CONFIG(
    LoopConfig, GATO_FIELD(steps, "Updates of the whole run."),
    GATO_FIELD(batch_rows, "Rows per update, over all processes."),
    GATO_FIELD(micro_batch_rows,
               "Rows per forward pass; 0: all rows of the process; auto: as many as memory allows, measured "
               "when a run begins."),
    GATO_FIELD(recompute,
               "Whether backward computes the blocks again instead of keeping what is inside them: the same "
               "numbers with much less memory, a third slower."),
    GATO_FIELD(shard_optimizer,
               "Whether each of several processes keeps and updates a part alone of AdamW's state and, with bf16, "
               "of the fp32 masters (ZeRO-1): the same numbers with less memory."),
    GATO_FIELD(cuda_graph,
               "Whether a GPU gets the blocks, head and loss of a micro-batch, forward and backward, as one "
               "CUDA graph: the same numbers but for rounding, less work for the CPU. Not with "
               "relative positions or cuDNN's attention."),
    GATO_FIELD(device, "auto (a GPU where there is one), cpu, cuda or cuda:N."),
    GATO_FIELD(seed, "Seed of parameters, data order and stochastic depth."),
    GATO_FIELD(soft_target_bins, "Standard deviation in bins of soft targets for continuous actions; 0: hard targets."),
    GATO_FIELD(log_every, "Steps between lines on the console and points in metrics.jsonl."),
    GATO_FIELD(validate_every, "Steps between validations; 0: only at the end."),
    GATO_FIELD(validation_rows, "Rows per validation."), GATO_FIELD(checkpoint_every, "Steps between checkpoints."),
    GATO_FIELD(keep_checkpoints, "Newest checkpoints kept; at least 2."),
    GATO_FIELD(keep_every, "Also keep every checkpoint whose step is divisible by this; 0: none."),
    GATO_FIELD(keep_best, "Also keep as many checkpoints with the best `best_by`; 0: none."),
    GATO_FIELD(best_by,
               "What is best: a metric such as validation/loss, or of an evaluation SUITE:mean_score, "
               "SUITE:tasks_at_50 or SUITE:TASK (a task's score)."),
    GATO_FIELD(best_is, "max or min."),
    GATO_FIELD(background_save,
               "Whether training goes on while a checkpoint is written, from a copy of parameters and moments "
               "in memory (12 bytes per parameter)."),
    GATO_FIELD(save_failures, "Saves in a row that may fail before the run stops; at least 1."),
    GATO_FIELD(verify_last_save,
               "Whether the checkpoint of a finished run is read back from the disk before it counts."),
    GATO_FIELD(init_from,
               "Weights that a new run begins with: a checkpoint, a run folder, an export or a safetensors "
               "file; empty: random ones."),
    GATO_FIELD(init_include, "Patterns of the parameters that are taken from train.init_from."),
    GATO_FIELD(init_exclude, "Patterns of parameters that are not, though they match init_include."),
    GATO_FIELD(init_strict,
               "Whether parameters that train.init_from lacks, has too many or of another shape are an error; "
               "false: they are listed, and what fits is taken."),
    GATO_FIELD(max_minutes, "Save and stop with exit code 75 after this time; 0: no limit."),
    GATO_FIELD(threads, "Threads; 0: GATO_NUM_THREADS or all processors."),
    GATO_FIELD(demonstration_steps, "Steps of demonstrations per task kept in checkpoints."),
    GATO_FIELD(heldout_tokens, "Tokens of held-out documents per text task kept in checkpoints."),
    GATO_FIELD(check_replicas_every,
               "Steps between comparisons of the parameters of all processes, which must be the same bit for "
               "bit; 0: never."),
    GATO_FIELD(max_failures_per_step,
               "Attempts in a row that may fail at the same step before the run refuses to go on with exit "
               "code 93; 0: any number."),
    GATO_FIELD(hang_seconds,
               "Seconds that a step may take at least before the run ends with exit code 76 as hanging; 10 "
               "times the median step where that is more."),
    GATO_FIELD(long_hang_seconds,
               "The same for the start, the first step, a validation and a save, which may take longer."))
void validate_config(const LoopConfig& config, ConfigProblems& problems);

/// Rows of a step that each of `processes` takes. Throws ConfigError, naming the nearest sizes that work, when they do
/// not divide evenly.
[[nodiscard]] int64_t rows_per_process(const LoopConfig& config, int64_t processes);

/// Rows per forward pass of each of `processes`: train.micro_batch_rows, or the largest number below it that divides a
/// process's rows.
[[nodiscard]] int64_t micro_rows(const LoopConfig& config, int64_t processes);

/// How the processes of a run exchange (docs/distributed.md).
struct CommunicatorOptions {
  double connect_seconds = 120;   ///< How long processes wait for each other at the start; > 0.
  double timeout_seconds = 60;    ///< How long one operation may wait for another process; > 0.
  double bucket_mib = 0;          ///< Gradients exchanged at a time, in MiB of fp32; 0: by model and processes.
  std::string interface = {};     ///< Network interface ("eth0"); "": the one by which the master is reached.
  std::string launcher = "auto";  ///< Whose variables say which process this is: detect_launch().
};
GATO_CONFIG(CommunicatorOptions,
            GATO_FIELD(connect_seconds, "Seconds that processes wait for each other at the start."),
            GATO_FIELD(timeout_seconds,
                       "Seconds that an operation may wait for another process before the run ends with exit code 76."),
            GATO_FIELD(bucket_mib,
                       "MiB of gradients that are exchanged at a time while backward goes on; 0: by model and "
                       "number of processes."),
            GATO_FIELD(interface,
                       "Network interface between the processes, such as eth0; empty: the one by which the master is "
                       "reached."),
            GATO_FIELD(launcher,
                       "Who started the processes: auto (what the environment says), none (one process, whatever it "
                       "says), torchrun, slurm, openmpi, pmi or env (RANK and WORLD_SIZE)."))
void validate_config(const CommunicatorOptions& options, ConfigProblems& problems);

struct RunConfig {
  std::string dir;  ///< Run folder; "": runs/<stem of the last config file>.
};
GATO_CONFIG(RunConfig, GATO_FIELD(dir, "Run folder; empty: runs/<stem of the last config file>."))

/// Everything `gato-train` reads from its config files.
struct TrainingConfig {
  RunConfig run;
  kernels::KernelsConfig kernels;
  tokenizer::TokenizerConfig tokenizer;
  data::DataConfig data;
  model::ModelConfig model;
  OptimizerConfig optimizer;
  LoopConfig train;
  CommunicatorOptions comm;
  run::EvaluationConfig eval;
};
GATO_CONFIG(TrainingConfig, GATO_FIELD(run, "The run folder."), GATO_FIELD(kernels, "Choices among equal kernels."),
            GATO_FIELD(tokenizer, "Tokens."), GATO_FIELD(data, "Training rows."), GATO_FIELD(model, "The transformer."),
            GATO_FIELD(optimizer, "AdamW."), GATO_FIELD(train, "The training loop."),
            GATO_FIELD(comm, "Exchange between processes."),
            GATO_FIELD(eval, "Evaluation of the run's checkpoints beside training."))
void validate_config(const TrainingConfig& config, ConfigProblems& problems);

/// Why `train.cuda_graph` does not go with the other settings, naming the one in the way; "" when it does or is off.
[[nodiscard]] std::string why_no_cuda_graph(const TrainingConfig& config);

/// Learning rate of update `step` (from 1): linear from 1e-7 over the warm-up, then cosine to final_share at the last
/// step.
[[nodiscard]] double learning_rate(const OptimizerConfig& config, int64_t step, int64_t steps);

}  // namespace gato::train

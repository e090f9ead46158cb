#include "gato/train/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gato/core/error.h"

#include "gato/core/excerpt.h"
#include "gato/core/launch.h"

namespace gato::train {
namespace {

class RangeChecks {
 public:
  explicit RangeChecks(ConfigProblems& problems) : problems_(problems) {}
  void operator()(const char* name, double value, double low, double high) {
    if (!(value >= low && value <= high))
      problems_.add(name, cat("is ", value, ", but must be in [", low, ", ", high, "]"));
  }

 private:
  ConfigProblems& problems_;
};

}  // namespace

bool parse_config_value(const ConfigNode& node, MicroBatchRows& value, std::string& expected) {
  expected = "auto or a number of rows from 0";
  if (node.kind == ConfigNode::Kind::kScalar && node.scalar == "auto") {
    value.rows = MicroBatchRows::kAuto;
    return true;
  }
  int64_t rows = 0;
  std::string ignored;
  if (!detail::parse_scalar(node, rows, ignored) || rows < 0) return false;
  value.rows = rows;
  return true;
}

std::string config_value_yaml(const MicroBatchRows& value) { return value.is_auto() ? "auto" : cat(value.rows); }

void validate_config(const OptimizerConfig& config, ConfigProblems& problems) {
  RangeChecks in_range(problems);
  in_range("learning_rate", config.learning_rate, 0, 10);
  in_range("final_share", config.final_share, 0, 1);
  in_range("warmup_steps", static_cast<double>(config.warmup_steps), 0, 1e12);
  in_range("beta_1", config.beta_1, 0, 0.999999);
  in_range("beta_2", config.beta_2, 0, 0.999999);
  in_range("epsilon", config.epsilon, 1e-20, 1);
  in_range("weight_decay", config.weight_decay, 0, 10);
  in_range("clip_norm", config.clip_norm, 0, 1e9);
}

void validate_config(const LoopConfig& config, ConfigProblems& problems) {
  RangeChecks in_range(problems);
  const auto count = [&](const char* name, int64_t value, int64_t low) {
    in_range(name, static_cast<double>(value), static_cast<double>(low), 1e15);
  };
  count("steps", config.steps, 1);
  count("batch_rows", config.batch_rows, 1);
  count("seed", config.seed, 0);
  in_range("soft_target_bins", config.soft_target_bins, 0, 256);
  count("log_every", config.log_every, 1);
  count("validate_every", config.validate_every, 0);
  count("validation_rows", config.validation_rows, 0);
  count("checkpoint_every", config.checkpoint_every, 1);
  count("keep_checkpoints", config.keep_checkpoints, 2);
  count("keep_every", config.keep_every, 0);
  count("keep_best", config.keep_best, 0);
  count("save_failures", config.save_failures, 1);
  if (config.keep_best > 0 && config.best_by.empty()) problems.add("best_by", "must name a score for keep_best");
  in_range("max_minutes", config.max_minutes, 0, 1e9);
  in_range("threads", static_cast<double>(config.threads), 0, 4096);
  count("demonstration_steps", config.demonstration_steps, 0);
  count("heldout_tokens", config.heldout_tokens, 0);
  count("check_replicas_every", config.check_replicas_every, 0);
  count("max_failures_per_step", config.max_failures_per_step, 0);
  in_range("hang_seconds", config.hang_seconds, 1, 1e6);
  in_range("long_hang_seconds", config.long_hang_seconds, 1, 1e6);
  if (const int64_t rows = config.micro_batch_rows.rows; rows > 0 && config.batch_rows % rows != 0) {
    problems.add("micro_batch_rows", cat("is ", rows, ", which does not divide batch_rows ", config.batch_rows));
  }
}

int64_t rows_per_process(const LoopConfig& config, int64_t processes) {
  GATO_CHECK(processes >= 1, processes, " processes");
  if (config.batch_rows % processes == 0) return config.batch_rows / processes;
  const int64_t below = config.batch_rows / processes * processes;
  std::vector<std::string> numbers;
  for (int64_t n = processes - 1; n >= 1 && numbers.size() < 2; --n) {
    if (config.batch_rows % n == 0) numbers.push_back(cat(n));
  }
  for (int64_t n = processes + 1; n <= config.batch_rows; ++n) {
    if (config.batch_rows % n == 0) {
      numbers.push_back(cat(n));
      break;
    }
  }
  throw ConfigError(cat("train.batch_rows: ", config.batch_rows, " rows do not divide evenly among ", processes,
                        " processes; a run with this batch can go on with ", join(numbers, " or "),
                        " processes, a new run with ", processes, " processes can have ",
                        below > 0 ? cat(below, " or ") : "", below + processes, " rows"));
}

int64_t micro_rows(const LoopConfig& config, int64_t processes) {
  const int64_t rows = rows_per_process(config, processes);
  int64_t micro = std::min(rows, config.micro_batch_rows.of(rows));
  while (rows % micro != 0) --micro;
  return micro;
}

void validate_config(const CommunicatorOptions& options, ConfigProblems& problems) {
  constexpr double kShortest = 0.1, kLongest = 24 * 3600;  // seconds
  RangeChecks in_range(problems);
  in_range("connect_seconds", options.connect_seconds, kShortest, kLongest);
  in_range("timeout_seconds", options.timeout_seconds, kShortest, kLongest);
  in_range("bucket_mib", options.bucket_mib, 0, 1024);
  const std::vector<std::string> launchers(std::begin(kLaunchers), std::end(kLaunchers));
  if (std::find(launchers.begin(), launchers.end(), options.launcher) == launchers.end()) {
    problems.add("launcher", cat("is \"", excerpt(options.launcher), "\"; write one of ", join(launchers, ", ")));
  }
}

std::string why_no_cuda_graph(const TrainingConfig& config) {
  if (!config.train.cuda_graph) return "";
  if (config.train.device == "cpu") return "is for a GPU, but train.device is cpu";
  if (config.model.position == model::PositionEncoding::kRelative) {
    return "does not go with model.position relative, which is computed by plain operations; use rotary or none";
  }
  if (!kernels::can_be_captured(config.kernels.attention)) {
    return cat("does not go with kernels.attention ", kernels::route_name(config.kernels.attention),
               ", which cannot be captured; use auto, own or flash");
  }
  return "";
}

void validate_config(const TrainingConfig& config, ConfigProblems& problems) {
  const std::string problem = why_no_cuda_graph(config);
  if (problem.empty()) return;
  problems.push("train");
  problems.add("cuda_graph", problem);
  problems.pop();
}

double learning_rate(const OptimizerConfig& config, int64_t step, int64_t steps) {
  constexpr double kStart = 1e-7;  // gato_spec 5.1
  if (step <= config.warmup_steps) {
    const double share = static_cast<double>(step) / static_cast<double>(config.warmup_steps);
    return kStart + (config.learning_rate - kStart) * share;
  }
  const double span = static_cast<double>(std::max<int64_t>(1, steps - config.warmup_steps));
  const double share = std::min(1.0, static_cast<double>(step - config.warmup_steps) / span);
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * share));
  return config.learning_rate * (config.final_share + (1 - config.final_share) * cosine);
}

}  // namespace gato::train

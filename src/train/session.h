#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpointing.h"
#include "gato/data/batch.h"
#include "gato/data/open.h"
#include "gato/run/metrics.h"
#include "gato/run/run_folder.h"
#include "gato/run/tensorboard.h"
#include "gato/train/trainer.h"

namespace gato::train {

[[nodiscard]] data::OpenedData open_data(const TrainingConfig& config);
[[nodiscard]] model::ModelShape model_shape(const tokenizer::Vocabulary& vocabulary);

/// Losses of label positions, gathered by domain.
class DomainLosses {
 public:
  explicit DomainLosses(const data::RowPlan& plan);
  void add(const at::Tensor& nll, const std::vector<int32_t>& sources);
  void clear();
  [[nodiscard]] std::map<std::string, double> means() const;  ///< Of the domains that had labels.
  [[nodiscard]] double mean() const;                          ///< Over all labels; NaN when there were none.

 private:
  std::vector<std::string> domains_;  // by source
  std::vector<double> sums_;
  std::vector<int64_t> counts_;
};

/// What the rows of some steps were made of, by task: shares of tokens, of labels and of summed loss weights.
class ShareMeter {
 public:
  explicit ShareMeter(const data::RowPlan& plan);
  void add(const data::Batch& batch);
  void clear();
  struct Shares {
    double tokens = 0, labels = 0, loss = 0;  ///< Each sums to 1 over the tasks.
  };
  [[nodiscard]] std::map<std::string, Shares> shares() const;  ///< By task id, of tasks that had a token.
  [[nodiscard]] double fill() const;                           ///< Share of positions that are not padding.

 private:
  struct Count {
    int64_t tokens = 0, labels = 0;
    double loss = 0;
  };
  std::vector<std::string> tasks_;  // by source
  std::vector<Count> counts_;
  int64_t positions_ = 0;
};

/// One call of train(): opens or resumes the run, then steps until done.
class Session {
 public:
  Session(const TrainingConfig& config, const std::vector<std::string>& command);
  TrainingOutcome run();

 private:
  using Clock = std::chrono::steady_clock;

  void check_same_run(const checkpoint::Checkpoint& checkpoint) const;
  void check_same_data();
  void resume_or_start();
  void print_shares() const;
  void step(const data::Batch& batch);
  bool update(double weight_sum, double summed_loss);
  void refuse_step(const std::string& why);
  void log_point();
  void validate();
  [[nodiscard]] bool validated_before() const;
  void save();
  [[nodiscard]] bool out_of_time() const;

  TrainingConfig config_;
  std::string config_yaml_;
  run::RunFolder folder_;
  data::OpenedData data_;
  std::unique_ptr<model::Model> model_;
  OptimizerState optimizer_;
  StaticFiles static_files_;
  TrainingState state_;
  int64_t attempt_ = 0;
  std::unique_ptr<run::MetricsWriter> metrics_;
  std::unique_ptr<run::TensorBoardWriter> tensorboard_;
  std::unique_ptr<data::Loader> loader_;

  // Of the present call
  Clock::time_point start_;
  double seconds_before_ = 0;
  int64_t tokens_before_ = 0, last_saved_step_ = -1, last_validated_step_ = -1;
  int64_t refused_in_a_row_ = 0;
  std::map<std::string, double> validation_loss_;

  // Since the last log point
  DomainLosses losses_;
  ShareMeter shares_;
  Clock::time_point window_start_;
  int64_t window_tokens_ = 0, window_steps_ = 0;
  double gradient_norm_ = 0, window_waited_ = 0;
};

}  // namespace gato::train

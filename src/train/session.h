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
#include "gato/run/step_log.h"
#include "gato/run/tensorboard.h"
#include "gato/train/trainer.h"
#include "meters.h"
#include "step.h"

namespace gato::train {

[[nodiscard]] data::OpenedData open_data(const TrainingConfig& config);
[[nodiscard]] model::ModelShape model_shape(const tokenizer::Vocabulary& vocabulary);

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
  void note(const data::Batch& batch, const StepResult& result);
  void refuse_step(const std::string& why);
  void roll_back();
  void log_point();
  void validate();
  [[nodiscard]] bool validated_before() const;
  void save();
  [[nodiscard]] bool out_of_time() const;
  [[nodiscard]] int64_t refused_in_a_row() const;

  TrainingConfig config_;
  std::string config_yaml_;
  run::RunFolder folder_;
  data::OpenedData data_;
  std::unique_ptr<model::Model> model_;
  OptimizerState optimizer_;
  StaticFiles static_files_;
  TrainingState state_;
  std::unique_ptr<Stepper> stepper_;
  int64_t attempt_ = 0;
  std::unique_ptr<run::MetricsWriter> metrics_;
  std::unique_ptr<run::TensorBoardWriter> tensorboard_;
  std::unique_ptr<run::StepLogWriter> step_log_;
  std::unique_ptr<data::Loader> loader_;

  // Of the present call
  Clock::time_point start_;
  double seconds_before_ = 0;
  int64_t tokens_before_ = 0, last_saved_step_ = -1, last_validated_step_ = -1;
  std::map<std::string, double> validation_loss_;

  // Since the last log point
  LabelMeter losses_;
  ShareMeter shares_;
  Clock::time_point window_start_;
  int64_t window_tokens_ = 0, window_steps_ = 0;
  double gradient_norm_ = 0, window_waited_ = 0;
  double worst_loss_z_ = 0, worst_norm_z_ = 0;
  Outliers loss_outliers_, norm_outliers_;
};

}  // namespace gato::train

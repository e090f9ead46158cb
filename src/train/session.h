#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "background_save.h"
#include "checkpointing.h"
#include "gato/data/batch.h"
#include "gato/data/open.h"
#include "gato/kernels/device.h"
#include "gato/kernels/memory.h"
#include "gato/run/metrics.h"
#include "gato/run/run_folder.h"
#include "gato/run/step_log.h"
#include "gato/run/tensorboard.h"
#include "gato/train/trainer.h"
#include "meters.h"
#include "run_guard.h"
#include "step.h"

namespace gato::train {

[[nodiscard]] data::OpenedData open_data(const TrainingConfig& config);  ///< As for a new run.
/// Opens the data of a run that has used `consumed_rows` rows, as its schedule.json says where there is one.
[[nodiscard]] data::OpenedData open_data(const TrainingConfig& config, const run::RunFolder& folder,
                                         int64_t consumed_rows);
/// The list of episodes that cannot be read, at `list`; null when the configuration says to stop at the first one.
/// `writes` as of data::Quarantine.
[[nodiscard]] std::shared_ptr<data::Quarantine> open_quarantine(const TrainingConfig& config, const data::RowPlan& plan,
                                                                const Path& list, bool writes = true);
[[nodiscard]] model::ModelShape model_shape(const tokenizer::Vocabulary& vocabulary);

/// One call of train(): opens or resumes the run, then steps until done.
class Session {
 public:
  Session(const TrainingConfig& config, RunGuard& guard, const std::vector<std::string>& command,
          int64_t profiled_steps);
  TrainingOutcome run();

 private:
  using Clock = std::chrono::steady_clock;

  /// The checkpoint to go on from and how many rows it has used.
  struct Start {
    std::optional<checkpoint::CheckpointInfo> checkpoint;
    int64_t next_row = 0;
  };
  /// What is special about a save.
  enum class SaveCare {
    kUsual,
    kVerified,  ///< It is read back before it counts.
    kHurried,   ///< It is all that there is time for.
  };
  void make_model();
  [[nodiscard]] Start find_start();
  void check_same_run(const checkpoint::Checkpoint& checkpoint, const TrainingState& state);
  void measure_micro_batch();
  void choose_attention();
  void record_data();
  void tell_loader(double waited_share) const;
  void print_shares() const;
  [[nodiscard]] StepInput fetch_input();
  [[nodiscard]] StepInput next_input();
  void fail_on_purpose(StepInput& input);
  void profile_steps();
  void step(const StepInput& input);
  [[noreturn]] void out_of_memory(const data::Batch& batch, const std::string& cause);
  void note(const data::Batch& batch, const StepResult& result);
  void refuse_step(const std::string& why);
  void roll_back();
  void log_point();
  void validate();
  [[nodiscard]] bool validated_before() const;
  void make_saver();
  void begin_save(SaveCare care = SaveCare::kUsual);
  void save_now(SaveCare care = SaveCare::kUsual);
  void report(const SaveOutcome& outcome);
  [[nodiscard]] bool out_of_time() const;
  [[nodiscard]] int64_t refused_in_a_row() const;

  RunGuard& guard_;
  const at::Device device_;        // first: opened before anything asks LibTorch for a GPU
  kernels::CachingMemory memory_;  // tensors come and go while it lives
  TrainingConfig config_;
  std::string config_yaml_;
  run::RunFolder folder_;
  Start began_;
  data::OpenedData data_;
  std::shared_ptr<data::Quarantine> quarantine_;
  std::unique_ptr<model::Model> model_;
  OptimizerState optimizer_;
  std::shared_ptr<const StaticFiles> static_files_;
  TrainingState state_;
  std::unique_ptr<Stepper> stepper_;
  std::unique_ptr<BackgroundSaver> saver_;  // reads the model and the optimizer: gone before they are
  int64_t attempt_ = 0;
  std::unique_ptr<run::MetricsWriter> metrics_;
  std::unique_ptr<run::TensorBoardWriter> tensorboard_;
  std::unique_ptr<run::StepLogWriter> step_log_;
  std::unique_ptr<data::Loader> loader_;
  std::unique_ptr<InputPreparer> inputs_;
  std::optional<StepInput> ahead_;  // of the next step, on its way to a GPU

  // Of the present call
  Clock::time_point start_;
  double seconds_before_ = 0;
  int64_t profiled_steps_ = 0, first_step_ = 0;
  int64_t tokens_before_ = 0, last_saved_step_ = -1, last_tried_step_ = -1, last_validated_step_ = -1;
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

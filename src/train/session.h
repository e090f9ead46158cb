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
#include "process_facts.h"
#include "run_guard.h"
#include "shared_parameters.h"
#include "step.h"
#include "step_signals.h"
#include "training_clock.h"

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
  Session(const TrainingConfig& config, const Launch& launch, RunGuard& guard, const std::vector<std::string>& command,
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
  // Of many processes (session_processes.cpp)
  [[nodiscard]] bool is_alone() const { return processes_->alone(); }
  [[nodiscard]] bool is_first() const { return processes_->rank() == 0; }
  [[nodiscard]] SaveRank place() const { return {processes_->rank(), processes_->size()}; }
  [[nodiscard]] std::string from_first(const std::string& text, const char* name) const;
  void wait_for_work_of_others(const char* work) const;
  void meet() const;
  [[nodiscard]] Path choose_initial_weights() const;
  [[nodiscard]] StepSignals own_signals();
  [[nodiscard]] StepSignals fetch_and_signal();
  void take(const StepSignals& agreed);
  [[nodiscard]] bool begin_step(StepInput& input);
  [[nodiscard]] bool share_damage();
  [[nodiscard]] bool stop_agreed() const;
  void commit_save();
  void settle_save();
  void tell_times(run::MetricValues& values, const TrainingClock::Stretch& stretch, double data_waited);

  // Before the first step (session_start.cpp)
  void make_model();
  void make_saver();
  void load_start();
  void open_records(const std::vector<std::string>& command);
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
  void begin_save(SaveCare care = SaveCare::kUsual);
  void save_now(SaveCare care = SaveCare::kUsual);
  void report(const SaveOutcome& outcome);
  void write_metrics(const run::MetricValues& values, int64_t step, int64_t tokens);
  [[nodiscard]] bool out_of_time() const;
  [[nodiscard]] int64_t refused_in_a_row() const;

  RunGuard& guard_;
  const Launch launch_;
  const at::Device device_;        // first: opened before anything asks LibTorch for a GPU
  kernels::CachingMemory memory_;  // tensors come and go while it lives
  TrainingConfig config_;
  std::shared_ptr<Communicator> processes_;
  std::string config_yaml_;
  run::RunFolder folder_;
  Start began_;
  data::OpenedData data_;
  std::shared_ptr<data::Quarantine> quarantine_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<SharedParameters> shared_;
  OptimizerState optimizer_;
  std::shared_ptr<const StaticFiles> static_files_;
  TrainingState state_;
  std::unique_ptr<Stepper> stepper_;
  std::unique_ptr<BackgroundSaver> saver_;  // reads the model and the optimizer: gone before they are
  int64_t attempt_ = 0;
  std::unique_ptr<run::MetricsWriter> metrics_;  // these three with rank 0 alone
  std::unique_ptr<run::TensorBoardWriter> tensorboard_;
  std::unique_ptr<run::StepLogWriter> step_log_;
  std::unique_ptr<data::Loader> loader_;
  std::unique_ptr<InputPreparer> inputs_;
  std::optional<StepInput> ahead_;  // of the next step, on its way to a GPU

  // Of the present call
  Clock::time_point start_;
  StepSignals agreed_;           // with the last step
  bool has_agreed_ = false;      // there was one
  bool save_is_asked_ = false;   // by a signal to some process
  bool commit_is_due_ = false;   // a save of several processes was started and not yet committed
  bool outcome_is_due_ = false;  // a save of several processes was started and not yet reported
  int64_t save_failures_ = 0;    // in a row, alike at all processes
  StragglerWatch stragglers_;
  double seconds_before_ = 0;
  int64_t profiled_steps_ = 0, first_step_ = 0;
  int64_t tokens_before_ = 0, last_saved_step_ = -1, last_tried_step_ = -1, last_validated_step_ = -1;
  std::map<std::string, double> validation_loss_;
  std::string last_save_problem_ = "it never began";

  // Since the last log point
  LabelMeter losses_;
  ShareMeter shares_;
  TrainingClock clock_{[this] { return processes_->seconds_waited(); }};
  int64_t window_tokens_ = 0, window_steps_ = 0;
  double gradient_norm_ = 0, window_waited_ = 0;
  double worst_loss_z_ = 0, worst_norm_z_ = 0;
  Outliers loss_outliers_, norm_outliers_;
};

}  // namespace gato::train

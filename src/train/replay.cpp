#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention_record.h"
#include "gato/checkpoint/safetensors.h"
#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/kernels/device.h"
#include "session.h"

namespace gato::train {
namespace {

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }

/// The newest checkpoint before `step`; nothing: the run starts from its initial parameters.
std::optional<checkpoint::CheckpointInfo> checkpoint_before(const Path& folder, int64_t step) {
  std::optional<checkpoint::CheckpointInfo> found;
  for (const checkpoint::CheckpointInfo& info : checkpoint::list_checkpoints(folder)) {
    if (info.step < step && (!found || info.step > found->step)) found = info;
  }
  return found;
}

/// Every parameter with its gradient's norm, largest first.
std::string gradient_table(const model::ParameterStore& store, double weight_sum) {
  struct Line {
    double norm;
    std::string name;
    int64_t broken;
  };
  std::vector<Line> lines;
  const at::Tensor gradients = store.gradients().cpu();
  for (const model::Segment& segment : store.segments()) {
    const at::Tensor gradient = gradients.slice(0, segment.offset, segment.offset + segment.size);
    const int64_t broken = segment.size - at::isfinite(gradient).sum().item<int64_t>();
    lines.push_back({gradient.to(at::kDouble).norm().item<double>() / weight_sum, segment.name, broken});
  }
  std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return std::make_pair(a.broken, a.norm) > std::make_pair(b.broken, b.norm);
  });
  std::string text = "gradient norm by parameter:\n";
  for (const Line& line : lines) {
    text += cat("  ", line.norm, "  ", line.name, line.broken > 0 ? cat("  (", line.broken, " not finite)") : "", "\n");
  }
  return text;
}

bool equals_checkpoint(const model::ParameterStore& store, const Path& path) {
  const checkpoint::SafetensorsReader reader(path / "model.safetensors");
  const at::Tensor values = store.values().cpu();
  for (const checkpoint::TensorView& tensor : model::export_flat(store, values, "")) {
    std::vector<std::byte> stored(tensor.data.size());
    reader.read(tensor.name, stored);
    if (!std::equal(stored.begin(), stored.end(), tensor.data.begin())) return false;
  }
  return true;
}

TrainingConfig config_of_run(const run::RunFolder& folder) {
  if (!folder.exists()) {
    throw ConfigError(cat(folder.root().string(), " is no run folder: ", folder.config_path().string(),
                          " is missing; give the folder that gato-train made"));
  }
  auto config = read_config<TrainingConfig>(load_yaml(folder.config_path().string()));
  config.run.dir = folder.root().string();
  return config;
}

/// A run's model, data and state, read and never written.
class Replayer {
 public:
  Replayer(const TrainingConfig& config, const run::RunFolder& folder)
      : config_(config),
        folder_(folder),
        data_(open_data(config, folder, std::numeric_limits<int64_t>::max())),
        meter_(*data_.plan) {
    model_ = std::make_unique<model::Model>(config.model, model_shape(*data_.vocabulary),
                                            static_cast<uint64_t>(config.train.seed), model::Model::Purpose::kTraining,
                                            kernels::open_device(config.train.device));
    optimizer_ = {at::zeros_like(model_->store().values()), at::zeros_like(model_->store().values())};
    set_attention(config, model_->store().device(), folder.root() / kAttentionFile);
  }

  Replay run(int64_t step) {
    Replay replay;
    const auto steps = run::read_steps(folder_.steps_path());
    const auto start = checkpoint_before(folder_.checkpoints_path(), step);
    if (start) state_ = load_checkpoint(start->path, *model_, optimizer_);
    replay.from_step = state_.step;
    const data::RowBuilder builder(data_.plan, true, known_damage());
    check_named_route(config_, builder.build(state_.next_row, 1), model_->store().device());
    Stepper stepper(config_, *model_, optimizer_);
    const InputPreparer inputs(model_->store().device(), config_);
    std::string lines;
    while (state_.step < step) {
      throw_if_stopped("replay");
      meter_.clear();
      const StepInput input = inputs.prepare(builder.build(state_.next_row, config_.train.batch_rows));
      inputs.wait_for(input);
      const StepResult result = stepper.run(input, state_, meter_);
      weight_sum_ = input.batch.loss_weight_sum;
      lines += compare(result, steps, replay);
    }
    replay.report = report(replay, start, lines);
    return replay;
  }

 private:
  /// The run's list of what it left out. What is found now goes on a list in memory only.
  [[nodiscard]] std::shared_ptr<data::Quarantine> known_damage() const {
    const auto list = open_quarantine(config_, *data_.plan, "");
    if (list && std::filesystem::exists(folder_.quarantine_path())) {
      for (const data::QuarantineEntry& entry :
           data::Quarantine(folder_.quarantine_path(), std::numeric_limits<int64_t>::max()).entries())
        list->add(entry);
    }
    return list;
  }

  std::string compare(const StepResult& result, const std::vector<run::StepRecord>& steps, Replay& replay) const {
    const auto record =
        std::find_if(steps.begin(), steps.end(), [&](const run::StepRecord& r) { return r.step == state_.step; });
    std::string verdict = "not recorded";
    if (record != steps.end()) {
      ++replay.compared;
      const bool same = same_bits(record->loss, result.loss) && same_bits(record->gradient_norm, result.gradient_norm);
      replay.same_numbers = replay.same_numbers && same;
      verdict = same ? "as recorded" : cat("recorded: loss ", record->loss, ", gradient norm ", record->gradient_norm);
    }
    return cat("step ", state_.step, ": loss ", result.loss, ", gradient norm ", result.gradient_norm,
               result.refused.empty() ? "" : ", refused", " (", verdict, ")\n");
  }

  std::string report(Replay& replay, const std::optional<checkpoint::CheckpointInfo>& start,
                     const std::string& lines) const {
    std::string text =
        cat(start ? cat("from ", start->path.string()) : "from the initial parameters", ", rows ",
            state_.next_row - config_.train.batch_rows, " to ", state_.next_row - 1, " in step ", state_.step, "\n");
    text += lines;
    text += "loss by task, nats per label:\n";
    for (const auto& [task, loss] : meter_.task_means()) text += cat("  ", loss, "  ", task, "\n");
    text += gradient_table(model_->store(), weight_sum_);
    for (const checkpoint::CheckpointInfo& info : checkpoint::list_checkpoints(folder_.checkpoints_path())) {
      if (info.step != state_.step) continue;
      replay.compared_parameters = true;
      replay.same_parameters = equals_checkpoint(model_->store(), info.path);
      text += cat("parameters after the step ", replay.same_parameters ? "equal" : "DIFFER FROM", " those of ",
                  info.path.string(), "\n");
    }
    return text;
  }

  const TrainingConfig& config_;
  const run::RunFolder& folder_;
  data::OpenedData data_;
  std::unique_ptr<model::Model> model_;
  OptimizerState optimizer_;
  TrainingState state_;
  LabelMeter meter_;
  double weight_sum_ = 1;
};

}  // namespace

Replay replay(const std::string& run_dir, int64_t step) {
  const run::RunFolder folder(run_dir);
  const TrainingConfig config = config_of_run(folder);
  if (step < 1 || step > config.train.steps)
    throw ConfigError(cat("--step must be in 1 .. ", config.train.steps, " (train.steps), is ", step));
  set_thread_budget(static_cast<int>(config.train.threads));
  at::set_num_threads(thread_budget());
  return Replayer(config, folder).run(step);
}

}  // namespace gato::train

#include "gato/train/overfit.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <map>
#include <string_view>
#include <unordered_map>

#include "attention_record.h"
#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/kernels/device.h"
#include "gato/tokenizer/sequence.h"
#include "gato/train/trainer.h"
#include "session.h"

namespace gato::train {
namespace {

constexpr int64_t kWarmupSteps = 20;

/// What `config` becomes when nothing but the data limits the loss.
TrainingConfig overfit_config(TrainingConfig config, int64_t steps) {
  config.model.stochastic_depth = 0;
  config.model.dropout = 0;
  config.optimizer.weight_decay = 0;
  config.optimizer.final_share = 1;
  config.optimizer.warmup_steps = std::min(kWarmupSteps, steps / 2);
  config.train.soft_target_bins = 0;
  config.train.steps = steps;
  return config;
}

/// Steps at which the loss is told: 1, 2, 5, 10, 20, 50, ...
bool is_milestone(int64_t step) {
  while (step % 10 == 0) step /= 10;
  return step == 1 || step == 2 || step == 5;
}

/// Hashes of patches by their flat position.
std::unordered_map<int64_t, uint64_t> patch_hashes(const data::Batch& batch) {
  std::unordered_map<int64_t, uint64_t> hashes;
  for (size_t p = 0; p < batch.patch_index.size(); ++p) {
    const std::string_view bytes(
        reinterpret_cast<const char*>(batch.patches.data()) + p * static_cast<size_t>(tokenizer::kPatchBytes),
        static_cast<size_t>(tokenizer::kPatchBytes));
    hashes[batch.patch_index[p]] = mix_seed(
        hash_name(bytes), {static_cast<uint64_t>(batch.patch_rows[p]), static_cast<uint64_t>(batch.patch_columns[p])});
  }
  return hashes;
}

}  // namespace

double lowest_loss(const data::Batch& batch, bool action_inputs) {
  const auto patches = patch_hashes(batch);
  std::unordered_map<uint64_t, std::map<int32_t, double>> weights_behind;  // context -> target -> weight
  uint64_t context = 0;
  for (int64_t i = 0; i < batch.rows * batch.row_tokens; ++i) {
    const auto t = static_cast<size_t>(i);
    if (batch.loss_weights[t] != 0) {
      weights_behind[context][batch.targets[t]] += static_cast<double>(batch.loss_weights[t]);
    }
    const bool hidden = !action_inputs && batch.local_positions[t] == static_cast<int32_t>(model::kActionPositionRow);
    const auto patch = patches.find(i);
    const bool starts = batch.sequence_starts[t] == static_cast<int32_t>(i % batch.row_tokens);
    context = mix_seed(starts ? 0 : context,
                       {static_cast<uint64_t>(hidden ? -1 : batch.ids[t]),
                        static_cast<uint64_t>(batch.local_positions[t]), patch == patches.end() ? 0 : patch->second});
  }
  double loss = 0, total = 0;
  for (const auto& [hash, targets] : weights_behind) {
    double sum = 0;
    for (const auto& [target, weight] : targets) sum += weight;
    for (const auto& [target, weight] : targets) loss -= weight * std::log(weight / sum);
    total += sum;
  }
  return total > 0 ? loss / total : 0;
}

OverfitOutcome overfit_one_batch(const TrainingConfig& original, const OverfitOptions& options,
                                 const std::function<void(int64_t step, double loss)>& report) {
  GATO_CHECK(options.steps > 0 && options.tolerance > 0, "overfitting needs steps and a tolerance, got ", options.steps,
             " and ", options.tolerance);
  const TrainingConfig config = overfit_config(original, options.steps);
  const at::Device device = kernels::open_device(config.train.device);
  set_attention(config, device);
  const data::OpenedData data = open_data(config);
  set_thread_budget(static_cast<int>(config.train.threads));
  at::set_num_threads(thread_budget());
  const InputPreparer inputs(device, config);
  const StepInput input = inputs.prepare(data::RowBuilder(data.plan, true).build(0, config.train.batch_rows));
  const data::Batch& batch = input.batch;
  check_named_route(config, batch, device);
  if (batch.loss_weight_sum <= 0) throw DataError("the first batch of the run has no label to learn from");

  model::Model model(config.model, model_shape(*data.vocabulary), static_cast<uint64_t>(config.train.seed),
                     model::Model::Purpose::kTraining, device);
  inputs.wait_for(input);
  OptimizerState optimizer{at::zeros_like(model.store().values()), at::zeros_like(model.store().values())};
  Stepper stepper(config, model, optimizer);
  LabelMeter meter(*data.plan);
  TrainingState state;
  OverfitOutcome outcome;
  outcome.lowest = lowest_loss(batch, config.model.action_inputs);
  while (!outcome.reached && state.step < options.steps) {
    throw_if_stopped("overfitting one batch");
    const StepResult result = stepper.run(input, state, meter);
    if (!result.refused.empty()) {
      throw DivergedError(cat("step ", state.step, " on the first batch is not finite (", result.refused,
                              "); lower optimizer.learning_rate or set optimizer.clip_norm"));
    }
    outcome.loss = result.loss;
    outcome.steps = state.step;
    if (state.step == 1) outcome.first_loss = result.loss;
    outcome.reached = result.loss <= outcome.lowest + options.tolerance;
    if (report && (is_milestone(state.step) || outcome.reached || state.step == options.steps)) {
      report(state.step, result.loss);
    }
  }
  return outcome;
}

}  // namespace gato::train

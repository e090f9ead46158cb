#include "updater.h"

#include "captured_step.h"
#include "micro_batch.h"

namespace gato::train {
namespace {

kernels::AdamWSettings settings_of(const OptimizerConfig& config) {
  return {.beta_1 = config.beta_1,
          .beta_2 = config.beta_2,
          .epsilon = config.epsilon,
          .weight_decay = config.weight_decay,
          .clip_norm = config.clip_norm};
}

}  // namespace

Updater::Updater(const TrainingConfig& config, model::Model& model, OptimizerState& optimizer)
    : config_(config), model_(model), optimizer_(optimizer), numbers_(model.store().device()) {
  for (const model::Segment& segment : model.store().segments()) {
    if (segment.trainable) spans_.push_back({segment.offset, segment.size, segment.decay});
  }
}

void Updater::begin(double weight_sum, const std::vector<at::Tensor>& losses, const TrainingState& state) {
  numbers_.begin(weight_sum, learning_rate(config_.optimizer, state.step, config_.train.steps), state.updates);
  for (const at::Tensor& loss : losses) numbers_.add_loss(loss);
}

void Updater::measure() {
  run(captured_norm_, [this] { kernels::squared_norm(model_.store().gradients(), numbers_.squared_norm()); });
}

void Updater::update() {
  run(captured_update_, [this] {
    model_.store().update(optimizer_.first_moment, optimizer_.second_moment, spans_, settings_of(config_.optimizer),
                          numbers_);
  });
}

void Updater::run(std::unique_ptr<kernels::CapturedWork>& captured, const std::function<void()>& work) {
  if (!config_.train.cuda_graph) return work();
  if (captured != nullptr) return captured->replay();
  const auto happened = std::make_shared<bool>(false);
  const auto noted = [work, happened] {
    work();
    *happened = true;
  };
  try {
    captured = capture_for_training(model_.store().device(), noted);
  } catch (const std::exception& error) {
    // Recording comes after the first call, which has changed the parameters: then the step is done, and the next one
    // tries again. Whoever hears of a failure may take them for unchanged.
    if (!*happened || !is_out_of_memory(error)) throw;
  }
}

}  // namespace gato::train

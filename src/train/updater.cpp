#include "updater.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "captured_step.h"
#include "gato/core/error.h"
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

at::Tensor stretch(const at::Tensor& flat, int64_t offset, int64_t size) {
  return flat.defined() ? flat.slice(0, offset, offset + size) : flat;
}

/// Trainable parameters in `part`, counted from its begin; of some a piece.
std::vector<kernels::UpdateSpan> spans_in(const OwnPart& part, const std::vector<model::Segment>& segments) {
  std::vector<kernels::UpdateSpan> spans;
  for (const model::Segment& segment : segments) {
    const int64_t begin = std::max(part.offset, segment.offset);
    const int64_t end = std::min(part.offset + part.size, segment.offset + segment.size);
    if (segment.trainable && begin < end) spans.push_back({begin - part.offset, end - begin, segment.decay});
  }
  return spans;
}

}  // namespace

Updater::Updater(const TrainingConfig& config, const SharedParameters& shared, model::Model& model,
                 OptimizerState& optimizer)
    : config_(config), model_(model), optimizer_(optimizer), numbers_(model.store().device()) {
  GATO_CHECK(optimizer.first_moment.numel() == shared.own_elements(), "moments of ", optimizer.first_moment.numel(),
             " elements for parts of ", shared.own_elements());
  for (const OwnPart& part : shared.parts()) parts_.push_back({part, spans_in(part, model.store().segments())});
  if (parts_.size() > 1) {
    norms_ = at::zeros({static_cast<int64_t>(parts_.size())}, numbers_.sums().options());
  }
}

void Updater::begin(double weight_sum, const std::vector<at::Tensor>& losses, const TrainingState& state) {
  numbers_.begin(weight_sum, learning_rate(config_.optimizer, state.step, config_.train.steps), state.updates);
  for (const at::Tensor& loss : losses) numbers_.add_loss(loss);
}

void Updater::measure() {
  run(captured_norm_, [this] { measure_parts(); });
}

void Updater::update() {
  run(captured_update_, [this] { update_parts(); });
}

void Updater::measure_parts() {
  const at::Tensor& gradients = model_.store().gradients();
  if (parts_.size() == 1) {
    const OwnPart& part = parts_.front().place;
    return kernels::squared_norm(stretch(gradients, part.offset, part.size), numbers_.squared_norm());
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    const OwnPart& part = parts_[i].place;
    kernels::squared_norm(stretch(gradients, part.offset, part.size), stretch(norms_, static_cast<int64_t>(i), 1));
  }
  numbers_.squared_norm().copy_(norms_.sum().view({1}));
}

void Updater::update_parts() {
  const model::ParameterStore& store = model_.store();
  const kernels::AdamWSettings settings = settings_of(config_.optimizer);
  for (const Part& part : parts_) {
    const auto& [offset, size, local] = part.place;
    const at::Tensor& masters = store.masters();
    const at::Tensor values = masters.defined() ? stretch(masters, local, size) : stretch(store.values(), offset, size);
    kernels::adamw_update(values, stretch(store.gradients(), offset, size),
                          stretch(optimizer_.first_moment, local, size), stretch(optimizer_.second_moment, local, size),
                          part.spans, settings, numbers_, stretch(store.compute(), offset, size));
  }
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

#include "captured_step.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/profile.h"
#include "gato/kernels/attention_route.h"
#include "gato/kernels/device.h"

namespace gato::train {
namespace {

/// The route of the model's attention, which depends on its type and shape.
kernels::AttentionRoute attention_route(const model::Model& model) {
  const model::ModelConfig& shape = model.config();
  const auto type = shape.precision == model::Precision::kBf16 ? at::kBFloat16 : at::kFloat;
  const at::TensorOptions options = model.store().values().options().dtype(type);
  return kernels::route_of(at::empty({1, 1, 3, shape.heads, shape.head_dim}, options));
}

bool same_sizes(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || a.sizes() == b.sizes());
}

at::Tensor memory_like(const at::Tensor& x) { return x.defined() ? at::empty_like(x) : at::Tensor(); }

}  // namespace

std::unique_ptr<kernels::CapturedWork> capture_for_training(at::Device device, std::function<void()> work,
                                                            const kernels::CapturedWork* beside) {
  try {
    return kernels::capture(device, std::move(work), beside);
  } catch (const DeviceError& error) {
    throw DeviceError(cat(error.what(), " (train.cuda_graph: false does without)"));
  }
}

/// What a graph reads and writes: the same memory at every replay.
struct CapturedStep::Memory {
  at::Tensor x, x_gradient;  // embedded vectors
  model::BlockInput blocks;
  model::LossInput where;
  MicroResult result;

  /// Embedded vectors share the memory of `beside`, of another graph, where they have the same size.
  Memory(const at::Tensor& embedded, const model::BlockInput& input, const model::LossInput& loss, const Memory* beside)
      : blocks(input) {
    const bool shared = beside != nullptr && same_sizes(beside->x, embedded);
    x = shared ? beside->x : at::empty_like(embedded);
    x_gradient = shared ? beside->x_gradient : at::empty_like(embedded);
    blocks.sequence_starts = memory_like(input.sequence_starts);
    blocks.bounds.boundaries = memory_like(input.bounds.boundaries);
    blocks.branch_factors = memory_like(input.branch_factors);
    blocks.dropout_keys = memory_like(input.dropout_keys);  // blocks.rotary stays: it never changes
    where = {memory_like(loss.positions), memory_like(loss.targets), memory_like(loss.weights)};
    const int64_t positions = loss.positions.numel();
    result = {at::empty({}, x.options()), at::empty({positions}, x.options()),
              at::empty({positions}, x.options().dtype(at::kDouble))};
  }

  [[nodiscard]] bool fits(const at::Tensor& embedded, const model::BlockInput& input,
                          const model::LossInput& loss) const {
    return same_sizes(x, embedded) && same_sizes(blocks.sequence_starts, input.sequence_starts) &&
           same_sizes(blocks.bounds.boundaries, input.bounds.boundaries) &&
           blocks.bounds.longest == input.bounds.longest && same_sizes(blocks.branch_factors, input.branch_factors) &&
           same_sizes(where.positions, loss.positions);
  }

  void fill(const at::Tensor& embedded, const model::BlockInput& input, const model::LossInput& loss) const {
    const auto copy = [](const at::Tensor& to, const at::Tensor& from) {
      if (to.defined()) to.copy_(from);
    };
    copy(x, embedded);
    copy(blocks.sequence_starts, input.sequence_starts);
    copy(blocks.bounds.boundaries, input.bounds.boundaries);
    copy(blocks.branch_factors, input.branch_factors);
    copy(blocks.dropout_keys, input.dropout_keys);
    copy(where.positions, loss.positions);
    copy(where.targets, loss.targets);
    copy(where.weights, loss.weights);
  }

  /// What is captured.
  void compute(const model::Model& model, const model::ForwardOptions& options, double soft_target_bins) const {
    const c10::AutoGradMode on(true);
    const at::Tensor leaf = x.detach().requires_grad_(true);
    const at::Tensor hidden = model.transform(leaf, blocks, options);
    const MicroResult computed =
        differentiate(model, model.head_loss(hidden, where, soft_target_bins), hidden, where.positions);
    x_gradient.copy_(leaf.grad());
    result.loss.copy_(computed.loss);
    result.nll.copy_(computed.nll);
    result.gradient_squares.copy_(computed.gradient_squares);
  }
};

CapturedStep::CapturedStep(const TrainingConfig& config, const model::Model& model) : config_(config), model_(model) {
  GATO_CHECK(config.train.cuda_graph, "train.cuda_graph is off");
  std::string problem = why_no_cuda_graph(config);
  const at::Device device = model.store().device();
  if (problem.empty() && !kernels::can_capture(device)) {
    problem = cat("is for a GPU, but the model is on ", device.str(), " (train.device is ", config.train.device, ")");
  }
  if (!problem.empty()) throw ConfigError(cat("train.cuda_graph ", problem));
}

/// Boundaries of sequences are input only where attention takes them: their number would need graphs of its own.
model::BlockInput CapturedStep::block_input(const BatchTensors& tensors, const model::ForwardOptions& options) const {
  const kernels::AttentionRoute route = attention_route(model_);
  if (!kernels::can_be_captured(route)) {
    throw ConfigError(cat("train.cuda_graph does not go with attention by ", kernels::route_name(route),
                          ", which cannot be captured; set kernels.attention to own or flash"));
  }
  model::BlockInput input = model_.block_input(tensors.input, options);
  if (route != kernels::AttentionRoute::kFlash) input.bounds = {};
  return input;
}

MicroResult CapturedStep::run(const BatchTensors& tensors, const model::ForwardOptions& options) {
  const int64_t positions = tensors.loss.positions.numel();
  GATO_CHECK(positions % kLossStep == 0 || positions == tensors.input.ids.numel(), positions,
             " loss positions: a captured step takes tensors of pad_sizes()");
  const at::Tensor embedded = model_.embed(tensors.input);
  const at::Tensor x = embedded.detach();
  const model::BlockInput blocks = block_input(tensors, options);
  const auto found = std::find_if(graphs_.begin(), graphs_.end(),
                                  [&](const Graph& graph) { return graph.memory->fits(x, blocks, tensors.loss); });
  if (found != graphs_.end()) {
    const profile::Scope scope("graph of the blocks");
    std::rotate(found, found + 1, graphs_.end());
    graphs_.back().memory->fill(x, blocks, tensors.loss);
    graphs_.back().work->replay();
  } else {
    const Memory* beside = graphs_.empty() ? nullptr : graphs_.back().memory.get();
    auto memory = std::make_shared<Memory>(x, blocks, tensors.loss, beside);
    memory->fill(x, blocks, tensors.loss);
    record(std::move(memory), options);
  }
  const Memory& memory = *graphs_.back().memory;
  if (embedded.requires_grad()) torch::autograd::backward({embedded}, {memory.x_gradient});
  return {memory.result.loss.clone(), memory.result.nll.clone(), memory.result.gradient_squares.clone()};
}

/// Recording calls the work once for real, so that nothing is left to replay.
void CapturedStep::record(std::shared_ptr<Memory> memory, const model::ForwardOptions& options) {
  const profile::Scope scope("recording a graph");
  if (graphs_.size() == kMostGraphs) graphs_.erase(graphs_.begin());
  const kernels::CapturedWork* beside = graphs_.empty() ? nullptr : graphs_.back().work.get();
  model::ForwardOptions fixed;  // without numbers of steps and rows, which have gone into factors and keys
  fixed.training = options.training;
  fixed.recompute = options.recompute;
  const auto compute = [&model = model_, memory, fixed, bins = config_.train.soft_target_bins] {
    memory->compute(model, fixed, bins);
  };
  auto work = capture_for_training(model_.store().device(), compute, beside);
  log::debug("train", "recorded a CUDA graph for ", memory->where.positions.numel(), " loss positions");
  graphs_.push_back({std::move(memory), std::move(work)});
}

}  // namespace gato::train

#pragma once
#include <ATen/ATen.h>

#include "gato/core/config.h"
#include "train/checkpointing.h"

/// A model of 16 k parameters with moments, whose values follow from a number: what tests of saving and loading use.
namespace gato::train::test {

inline TrainingConfig tiny_config() {
  TrainingConfig config;
  config.tokenizer.private_discrete = true;
  config.model.layers = 1;
  config.model.width = 4;
  config.model.heads = 1;
  config.model.head_dim = 4;
  config.model.hidden = 8;
  config.model.patch_channels = 2;
  config.model.stochastic_depth = 0;
  return config;
}

struct SmallState {
  explicit SmallState(uint64_t seed, std::vector<FlatRange> ranges = {})
      : model(tiny_config().model, {3073, 1024, 1024}, seed, model::Model::Purpose::kTraining) {
    optimizer.ranges = std::move(ranges);
    int64_t elements = optimizer.ranges.empty() ? model.store().values().numel() : 0;
    for (const FlatRange& range : optimizer.ranges) elements += range.end - range.begin;
    optimizer.first_moment = at::zeros({elements}, at::kFloat);
    optimizer.second_moment = at::zeros({elements}, at::kFloat);
  }

  /// Gives every element of the moments (padding apart) a value of its own that follows from `number`.
  void fill(double number) {
    for (const auto& [moment, scale] : {std::pair{optimizer.first_moment, 1.0}, {optimizer.second_moment, 3.0}}) {
      moment.copy_(expected(number * scale));
    }
  }

  /// What a whole moment holds at this process's elements.
  [[nodiscard]] at::Tensor expected(double number) const {
    const at::Tensor whole = at::zeros_like(model.store().values());
    for (const model::Segment& segment : model.store().segments()) {
      whole.narrow(0, segment.offset, segment.size)
          .copy_(at::arange(segment.size, at::kFloat) * 0.001 + number + static_cast<double>(segment.offset));
    }
    if (optimizer.ranges.empty()) return whole;
    std::vector<at::Tensor> parts;
    for (const FlatRange& range : optimizer.ranges) parts.push_back(whole.slice(0, range.begin, range.end));
    return at::cat(parts);
  }

  [[nodiscard]] bool has(double number) const {
    return optimizer.first_moment.equal(expected(number)) && optimizer.second_moment.equal(expected(3 * number));
  }

  model::Model model;
  OptimizerState optimizer;
};

/// Part `rank` of every stretch of 1000 elements, as a divided optimizer has of every bucket.
inline std::vector<FlatRange> part_of_buckets(const model::ParameterStore& store, int64_t rank, int64_t size) {
  constexpr int64_t kStretch = 1000;
  std::vector<FlatRange> ranges;
  for (int64_t begin = 0; begin < store.values().numel(); begin += kStretch) {
    const int64_t length = std::min(kStretch, store.values().numel() - begin);
    ranges.push_back({begin + length * rank / size, begin + length * (rank + 1) / size});
  }
  return ranges;
}

inline SaveRequest request_of(int64_t step) {
  SaveRequest request;
  request.state.step = request.state.updates = step;
  request.state.next_row = 4 * step;
  request.config_yaml = dump_config(tiny_config());
  request.attempt = 1;
  return request;
}

}  // namespace gato::train::test

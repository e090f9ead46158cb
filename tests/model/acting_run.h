#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "gato/model/decoder.h"
#include "model/decoder_tokens.h"
#include "model/gpu_config.h"

// A decoder's calls of many kinds, to compare devices by.
namespace gato::model::testing {

/// Hidden states and logits of every call, one after the other.
using Outputs = std::vector<float>;

inline void keep_outputs(const Decoder& decoder, const at::Tensor& hidden, Outputs& outputs) {
  for (const at::Tensor& x : {hidden.to(at::kCPU, at::kFloat), decoder.logits(hidden, 41, 30).cpu()}) {
    outputs.insert(outputs.end(), x.const_data_ptr<float>(), x.const_data_ptr<float>() + x.numel());
  }
}

/// One token of each of `slots`, or more where `counts` says so, from where the slot is.
inline void append(Decoder& decoder, const std::vector<int64_t>& slots, const std::vector<size_t>& counts,
                   const std::vector<Tokens>& sequences, Outputs& outputs) {
  std::vector<DecoderInput> inputs;
  for (size_t i = 0; i < slots.size(); ++i) {
    const auto held = static_cast<size_t>(decoder.length(slots[i]));
    inputs.push_back(sequences[static_cast<size_t>(slots[i])].part(held, held + counts[i]));
  }
  keep_outputs(decoder, decoder.append(slots, inputs), outputs);
}

struct ActingCase {
  PositionEncoding position = PositionEncoding::kRotary;
  Precision precision = Precision::kBf16;
  kernels::WeightType weights = kernels::WeightType::kBf16;
  std::optional<at::ScalarType> cache = std::nullopt;
};

/// An agent's life: prompts of several lengths, short ones beside long ones, single tokens of some slots, a window that
/// is full and starts anew with its newer half, a slot that is emptied.
inline Outputs act(const ActingCase& of, at::Device device = at::kCPU) {
  ModelConfig config = gpu_config(of.precision);
  config.position = of.position;
  const Model model(config, small_shape(), 7, Model::Purpose::kInference, device);
  constexpr int64_t kWindow = 300;  // more than one block of the split kernel
  Decoder decoder(std::make_shared<const ActingWeights>(model, of.weights), 3, kWindow, of.cache);
  const std::vector<Tokens> sequences{make_tokens(300, 1), make_tokens(90, 2), make_tokens(40, 3)};
  Outputs outputs;
  append(decoder, {0, 2}, {70, 5}, sequences, outputs);
  append(decoder, {1}, {17}, sequences, outputs);
  for (int step = 0; step < 2; ++step) append(decoder, {2, 0, 1}, {1, 1, 1}, sequences, outputs);
  append(decoder, {0, 1}, {190, 2}, sequences, outputs);  // slot 0 holds 262
  append(decoder, {0, 1, 2}, {1, 16, 20}, sequences, outputs);
  append(decoder, {0}, {1}, sequences, outputs);
  decoder.truncate(1, 9);
  append(decoder, {1}, {3}, sequences, outputs);
  decoder.reset(0);  // the newer half anew, from position 0 on
  const std::vector<int64_t> slot{0};
  keep_outputs(decoder, decoder.append(slot, std::vector<DecoderInput>{sequences[0].part(240, 264)}), outputs);
  keep_outputs(decoder, decoder.append(slot, std::vector<DecoderInput>{sequences[0].part(264, 265)}), outputs);
  return outputs;
}

/// What devices may differ by where activations are bf16 or fp32; the numbers are around 1.
constexpr double kNarrowDifference = 0.06, kWideDifference = 2e-5;

inline double largest_difference(const Outputs& a, const Outputs& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    most = std::max(most, difference);
  }
  return most;
}

}  // namespace gato::model::testing

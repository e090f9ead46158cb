#include "gato/model/acting_weights.h"

#include "model/layout.h"

namespace gato::model {

using kernels::PackedLinear;
using kernels::Parameter;
using kernels::WeightType;

namespace {

int64_t bytes_of(const PackedLinear& linear) {
  int64_t bytes = static_cast<int64_t>(linear.panels.nbytes());
  if (linear.scales.defined()) bytes += static_cast<int64_t>(linear.scales.nbytes());
  if (linear.bias.defined()) bytes += static_cast<int64_t>(linear.bias.nbytes());
  return bytes;
}

}  // namespace

WeightType ActingWeights::type_of(const Model& model) {
  return model.config().precision == Precision::kBf16 ? WeightType::kBf16 : WeightType::kFp32;
}

ActingWeights::ActingWeights(const Model& model, WeightType type) : model_(&model), type_(type) {
  const auto get = [&](const std::string& name) { return model.store().parameter(name); };
  const auto pack = [&](const std::string& name) {
    return kernels::pack_linear(get(name + ".weight"), get(name + ".bias"), type);
  };
  const bool relative = model.config().position == PositionEncoding::kRelative;
  if (relative) relative_biases_ = {get("relative.content_bias"), get("relative.position_bias")};
  for (int64_t layer = 0; layer < model.config().layers; ++layer) {
    const std::string p = block_prefix(layer);
    blocks_.push_back({get(p + "attention_norm.gain"),
                       get(p + "attention_norm.offset"),
                       get(p + "feed_norm.gain"),
                       get(p + "feed_norm.offset"),
                       pack(p + "attention.qkv"),
                       pack(p + "attention.out"),
                       pack(p + "feed.up"),
                       pack(p + "feed.down"),
                       {}});
    if (relative) blocks_.back().distance = get(p + "attention.distance.weight");
  }
  final_gain_ = get("final_norm.gain");
  final_offset_ = get("final_norm.offset");
  head_ = kernels::pack_linear(get(model.config().tied ? "token_table" : "head.weight"), {},
                               type == WeightType::kFp32 ? WeightType::kFp32 : WeightType::kBf16);
}

int64_t ActingWeights::bytes() const {
  int64_t bytes = bytes_of(head_);
  for (const Block& b : blocks_) bytes += bytes_of(b.qkv) + bytes_of(b.out) + bytes_of(b.up) + bytes_of(b.down);
  return bytes;
}

}  // namespace gato::model

#include "gato/model/acting_weights.h"

#include <ATen/ops/empty.h>

#include "gato/core/error.h"
#include "gato/kernels/device.h"
#include "gato/kernels/linear.h"
#include "gato/kernels/optimizer.h"
#include "model/layout.h"

namespace gato::model {

using kernels::Parameter;
using kernels::WeightType;

ActingLinear::ActingLinear(Parameter weight, Parameter bias, WeightType type) {
  if (!kernels::has_device_operations(weight.value.device())) {
    packed_ = kernels::pack_linear(weight, bias, type);
    for (const at::Tensor& part : {packed_.panels, packed_.scales, packed_.bias}) {
      if (part.defined()) copied_bytes_ += static_cast<int64_t>(part.nbytes());
    }
    return;
  }
  if (type == WeightType::kInt8) {
    throw ConfigError(
        "int8 weights act on the CPU alone: take bf16 or fp32 weights on a GPU (--weights bf16), or the CPU "
        "(--device cpu)");
  }
  weight_ = std::move(weight);
  bias_ = std::move(bias);
  if (type == WeightType::kBf16 && !weight_.compute.defined()) {
    weight_.compute = at::empty(weight_.value.sizes(), weight_.value.options().dtype(at::kBFloat16));
    kernels::round_to_bf16(weight_.value.view(-1), weight_.compute.view(-1));
    copied_bytes_ = static_cast<int64_t>(weight_.compute.nbytes());
  }
}

at::Tensor ActingLinear::operator()(const at::Tensor& x) const {
  return weight_.defined() ? kernels::linear(x, weight_, bias_) : kernels::packed_linear(x, packed_);
}

at::Tensor ActingLinear::outputs(const at::Tensor& x, int64_t first, int64_t count) const {
  GATO_CHECK(count >= 0, "a negative number of outputs: ", count);
  const at::Tensor y = at::empty({x.size(0), count}, x.options().dtype(at::kFloat));
  if (!weight_.defined()) {
    kernels::packed_linear_into(x, packed_, y, first);
    return y;
  }
  const at::Tensor& weight = x.scalar_type() == at::kBFloat16 ? weight_.compute : weight_.value;
  GATO_CHECK(weight.defined(), "x is bf16, the linear map fp32");
  GATO_CHECK(first >= 0 && first + count <= weight.size(0), "outputs [", first, ", ", first + count,
             ") lie outside of ", weight.size(0));
  kernels::matmul_into(x, weight.slice(0, first, first + count).t(), y, 0);
  return bias_.defined() ? y + bias_.value.slice(0, first, first + count) : y;
}

int64_t ActingLinear::bytes() const { return copied_bytes_; }

WeightType ActingWeights::type_of(const Model& model) {
  return model.config().precision == Precision::kBf16 ? WeightType::kBf16 : WeightType::kFp32;
}

ActingWeights::ActingWeights(const Model& model, WeightType type) : model_(&model), type_(type) {
  const auto get = [&](const std::string& name) { return model.store().parameter(name); };
  const auto map = [&](const std::string& name) {
    return ActingLinear(get(name + ".weight"), get(name + ".bias"), type);
  };
  const bool relative = model.config().position == PositionEncoding::kRelative;
  if (relative) relative_biases_ = {get("relative.content_bias"), get("relative.position_bias")};
  for (int64_t layer = 0; layer < model.config().layers; ++layer) {
    const std::string p = block_prefix(layer);
    blocks_.push_back({get(p + "attention_norm.gain"),
                       get(p + "attention_norm.offset"),
                       get(p + "feed_norm.gain"),
                       get(p + "feed_norm.offset"),
                       map(p + "attention.qkv"),
                       map(p + "attention.out"),
                       map(p + "feed.up"),
                       map(p + "feed.down"),
                       {}});
    if (relative) blocks_.back().distance = get(p + "attention.distance.weight");
  }
  final_gain_ = get("final_norm.gain");
  final_offset_ = get("final_norm.offset");
  head_ = ActingLinear(get(model.config().tied ? "token_table" : "head.weight"), {},
                       type == WeightType::kFp32 ? WeightType::kFp32 : WeightType::kBf16);
}

int64_t ActingWeights::bytes() const {
  int64_t bytes = head_.bytes();
  for (const Block& b : blocks_) bytes += b.qkv.bytes() + b.out.bytes() + b.up.bytes() + b.down.bytes();
  return bytes;
}

}  // namespace gato::model

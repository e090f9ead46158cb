#pragma once
#include <vector>

#include "gato/kernels/packed_linear.h"
#include "gato/model/model.h"

namespace gato::model {

/// A linear map for acting: a packed copy on the CPU; on a GPU the parameters themselves. Const and thread-safe.
class ActingLinear {
 public:
  ActingLinear() = default;
  /// Throws ConfigError for int8 on a GPU.
  ActingLinear(kernels::Parameter weight, kernels::Parameter bias, kernels::WeightType type);

  /// x weight^T + bias for `x` [n, inputs] of activation_type(type); of x's type.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
  /// Outputs [first, first + count) in fp32.
  [[nodiscard]] at::Tensor outputs(const at::Tensor& x, int64_t first, int64_t count) const;
  [[nodiscard]] int64_t bytes() const;  ///< Of the copies.

 private:
  kernels::PackedLinear packed_;      // CPU
  kernels::Parameter weight_, bias_;  // GPU
  int64_t copied_bytes_ = 0;
};

/// A model's linear maps, laid out for acting. Const and thread-safe: any number of decoders share one. On the CPU they
/// are copies, which later changes of the model's parameters do not reach; on a GPU they are the model's own memory,
/// with bf16 copies only where the model has none.
///
/// With kBf16 and kInt8 activations between the maps are bf16, as in training with bf16; with kInt8 the blocks' maps
/// are int8 and the head bf16, since errors of logits are errors of actions. Embeddings, norms and patches use the
/// model's own fp32 parameters.
class ActingWeights {
 public:
  /// The model must outlive it. Throws ContractError for int8 when a parameter is not finite, and ConfigError for int8
  /// when the model is on a GPU, where acting has fp32 and bf16.
  ActingWeights(const Model& model, kernels::WeightType type);

  /// Of the type that the model computes with.
  explicit ActingWeights(const Model& model) : ActingWeights(model, type_of(model)) {}

  /// What the model computes with: bf16 where its configuration says so, else fp32.
  [[nodiscard]] static kernels::WeightType type_of(const Model& model);

  [[nodiscard]] const Model& model() const { return *model_; }
  [[nodiscard]] kernels::WeightType type() const { return type_; }
  [[nodiscard]] int64_t bytes() const;  ///< Of the copies.

  /// The maps of one block, and its norms' parameters, which are the model's.
  struct Block {
    kernels::Parameter attention_gain, attention_offset, feed_gain, feed_offset;
    ActingLinear qkv, out, up, down;
    kernels::Parameter distance;  // relative positions only
  };
  [[nodiscard]] const Block& block(int64_t layer) const { return blocks_[static_cast<size_t>(layer)]; }
  [[nodiscard]] const kernels::Parameter& final_gain() const { return final_gain_; }
  [[nodiscard]] const kernels::Parameter& final_offset() const { return final_offset_; }
  [[nodiscard]] const kernels::RelativeBiases& relative_biases() const { return relative_biases_; }
  [[nodiscard]] const ActingLinear& head() const { return head_; }

 private:
  const Model* model_;
  kernels::WeightType type_;
  std::vector<Block> blocks_;
  kernels::Parameter final_gain_, final_offset_;
  kernels::RelativeBiases relative_biases_;
  ActingLinear head_;
};

}  // namespace gato::model

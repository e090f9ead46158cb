#pragma once
#include <ATen/ATen.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gato/kernels/layer_norm.h"
#include "gato/kernels/reference.h"
#include "gato/model/model.h"
#include "support/tensor_compare.h"

namespace gato::model::testing {

using gato::testing::all_close;
using gato::testing::random_integers;
using gato::testing::random_normal;
using gato::testing::random_sequence_starts;
using gato::testing::same_bits;
using gato::testing::Tolerance;
using gato::testing::tolerance_of;

inline std::string position_name(PositionEncoding position) {
  switch (position) {
    case PositionEncoding::kRotary:
      return "rotary";
    case PositionEncoding::kRelative:
      return "relative";
    case PositionEncoding::kNone:
      return "none";
  }
  return "unknown";
}

inline ModelConfig small_config() {
  ModelConfig config;
  config.layers = 2;
  config.width = 24;
  config.heads = 2;
  config.head_dim = 10;
  config.hidden = 44;
  config.patch_channels = 6;
  config.stochastic_depth = 0;
  return config;
}

inline ModelShape small_shape() { return {90, 40, 32}; }

/// Rows of random sequences, with patches among the tokens and losses at some positions that do not end a sequence.
struct SmallBatch {
  ModelInput input;
  LossInput where;
};

inline SmallBatch small_batch(int64_t rows, int64_t tokens, uint64_t seed, int64_t longest = 9) {
  SmallBatch batch;
  ModelInput& in = batch.input;
  in.ids = random_integers({rows, tokens}, 0, small_shape().vocabulary_size, seed, at::kInt);
  in.sequence_starts = random_sequence_starts(rows, tokens, longest, seed + 1);
  in.local_positions = random_integers({rows, tokens}, -1, kLocalPositionRows, seed + 2, at::kInt);
  const at::Tensor is_patch = random_integers({rows * tokens}, 0, 5, seed + 3).eq(0);
  in.ids.view(-1).masked_fill_(is_patch, -1);
  in.patch_index = is_patch.nonzero().view(-1);
  const int64_t patches = in.patch_index.size(0);
  in.patches = random_integers({patches, 16, 16, 3}, 0, 256, seed + 4, at::kByte);
  in.patch_rows = random_integers({patches}, 0, kPatchPositionRows, seed + 5, at::kInt);
  in.patch_columns = random_integers({patches}, 0, kPatchPositionRows, seed + 6, at::kInt);
  const auto* starts = in.sequence_starts.const_data_ptr<int32_t>();
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < rows * tokens; ++i) {
    const bool goes_on = (i + 1) % tokens != 0 && starts[i + 1] == starts[i];
    if (goes_on && i % 3 != 0) positions.push_back(i);
  }
  const auto count = static_cast<int64_t>(positions.size());
  batch.where.positions = at::tensor(positions, at::kLong);
  batch.where.targets = random_integers({count}, 0, small_shape().vocabulary_size, seed + 7);
  batch.where.weights = random_normal({count}, seed + 8).abs();
  return batch;
}

/// The same model by plain tensor operations in fp64, differentiated by LibTorch: written from docs/design.md,
/// independent of Model.
class PlainModel {
 public:
  explicit PlainModel(const Model& model) : config_(model.config()), shape_(model.shape()) {
    for (const Segment& segment : model.store().segments()) {
      parameters_[segment.name] =
          model.store().parameter(segment.name).value.to(at::kDouble).clone().set_requires_grad(true);
    }
  }

  [[nodiscard]] const at::Tensor& parameter(const std::string& name) const { return parameters_.at(name); }

  [[nodiscard]] at::Tensor forward(const ModelInput& in) const {
    namespace ref = kernels::reference;
    const int64_t rows = in.ids.size(0), tokens = in.ids.size(1);
    std::vector<at::Tensor> patch;
    for (const char* name : {"stem.weight", "stem.bias", "norm_1.gain", "norm_1.offset", "convolution_1.weight",
                             "convolution_1.bias", "norm_2.gain", "norm_2.offset", "convolution_2.weight",
                             "convolution_2.bias", "output.weight", "output.bias"}) {
      patch.push_back(parameter(std::string("patch.") + name));
    }
    at::Tensor vectors;
    if (in.patch_index.defined() && in.patch_index.numel() > 0) {
      vectors =
          ref::embed_patches(in.patches, patch, std::min<int64_t>(32, config_.patch_channels), config_.patch_stride);
    }
    at::Tensor x =
        ref::embed({in.ids.view(-1), in.local_positions.view(-1), in.patch_index, in.patch_rows, in.patch_columns},
                   {parameter("token_table"), parameter("local_position_table"), parameter("patch_row_table"),
                    parameter("patch_column_table")},
                   vectors);
    kernels::RotaryTable rotary;
    if (config_.position == PositionEncoding::kRotary) {
      rotary = kernels::make_rotary_table(tokens, config_.head_dim, config_.rotary_base);
    }
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      const std::string p = cat("blocks.", layer, ".");
      const auto linear = [&](const at::Tensor& y, const std::string& name) {
        return ref::linear(y, parameter(p + name + ".weight"), parameter(p + name + ".bias"));
      };
      const auto norm = [&](const std::string& name) {
        return ref::residual_layer_norm(x, {}, {}, parameter(p + name + ".gain"), parameter(p + name + ".offset"))
            .second;
      };
      const at::Tensor qkv = linear(norm("attention_norm"), "attention.qkv");
      const at::Tensor split = qkv.view({rows, tokens, 3, config_.heads, config_.head_dim});
      at::Tensor mixed;
      if (config_.position == PositionEncoding::kRelative) {
        const at::Tensor distances = kernels::make_distance_table(tokens, config_.width)
                                         .to(at::kDouble)
                                         .matmul(parameter(p + "attention.distance.weight").t())
                                         .view({tokens, config_.heads, config_.head_dim});
        mixed = ref::relative_attention(split, in.sequence_starts, distances, parameter("relative.content_bias"),
                                        parameter("relative.position_bias"));
      } else {
        mixed = ref::document_attention(split, in.sequence_starts, rotary);
      }
      x = x + linear(mixed.reshape({rows * tokens, -1}), "attention.out");
      x = x + linear(ref::geglu(linear(norm("feed_norm"), "feed.up")), "feed.down");
    }
    return ref::residual_layer_norm(x, {}, {}, parameter("final_norm.gain"), parameter("final_norm.offset")).second;
  }

  [[nodiscard]] LossResult loss(const ModelInput& in, const LossInput& where, double sigma) const {
    return kernels::reference::head_cross_entropy(forward(in), parameter(config_.tied ? "token_table" : "head.weight"),
                                                  where.positions, where.targets, where.weights,
                                                  {shape_.first_bin, shape_.num_bins, sigma});
  }

 private:
  ModelConfig config_;
  ModelShape shape_;
  std::map<std::string, at::Tensor> parameters_;
};

}  // namespace gato::model::testing

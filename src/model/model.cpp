#include "gato/model/model.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <mutex>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/kernels/geglu.h"
#include "gato/kernels/layer_norm.h"
#include "gato/kernels/linear.h"
#include "model/layout.h"

namespace gato::model {
namespace {

constexpr int64_t kAttentionBranch = 0, kFeedBranch = 1;

void check_config(const ModelConfig& config) {
  ConfigProblems problems;
  problems.push("model");
  validate_config(config, problems);
  problems.throw_if_any();
}

void check_shape(const ModelShape& shape) {
  GATO_CHECK(shape.vocabulary_size > 0, "a model needs a vocabulary");
  GATO_CHECK(shape.first_bin >= 0 && shape.num_bins >= 0 && shape.first_bin + shape.num_bins <= shape.vocabulary_size,
             "bins [", shape.first_bin, ", ", shape.first_bin + shape.num_bins, ") lie outside a vocabulary of ",
             shape.vocabulary_size);
}

/// int32 [B, T] or nothing.
at::Tensor flat_indices(const at::Tensor& x, const char* name, const at::Tensor& like) {
  GATO_CHECK(
      x.defined() && x.dim() == 2 && x.scalar_type() == at::kInt && x.is_contiguous() && x.sizes() == like.sizes(),
      name, " must be dense int32 [rows, tokens] and all of them alike");
  return x.view({-1});
}

/// One factor per row for a residual branch: 0 where it is skipped, else 1 / keep probability (Huang et al. 2016, "Deep
/// Networks with Stochastic Depth", scaled in training so that evaluation needs nothing). Undefined: nothing is
/// skipped.
at::Tensor branch_factors(const ForwardOptions& options, double probability, int64_t layer, int64_t branch,
                          int64_t rows) {
  if (!options.training || probability <= 0) return {};
  static const uint64_t kPurpose = hash_name("stochastic depth");
  const at::Tensor factors = at::empty({rows}, at::kFloat);
  auto* factor = factors.mutable_data_ptr<float>();
  for (int64_t row = 0; row < rows; ++row) {
    Rng rng(mix_seed(options.seed,
                     {kPurpose, static_cast<uint64_t>(options.step), static_cast<uint64_t>(2 * layer + branch),
                      static_cast<uint64_t>(options.first_row + row)}));
    factor[row] = rng.uniform() < probability ? 0.0f : static_cast<float>(1 / (1 - probability));
  }
  return factors;
}

}  // namespace

/// The longest rotary table asked for so far; shared by all callers of a const model.
class Model::RotaryCache {
 public:
  kernels::RotaryTable get(int64_t positions, int64_t head_dim, double base) {
    const std::lock_guard lock(mutex_);
    if (!table_.defined() || table_.cosine.size(0) < positions) {
      table_ = kernels::make_rotary_table(positions, head_dim, base);
    }
    return table_;
  }

 private:
  std::mutex mutex_;
  kernels::RotaryTable table_;
};

Model::Model(const ModelConfig& config, const ModelShape& shape, uint64_t seed, Purpose purpose)
    : config_(config), shape_(shape), rotary_(std::make_unique<RotaryCache>()) {
  check_config(config);
  check_shape(shape);
  store_ = std::make_unique<ParameterStore>(declare_parameters(config, shape), purpose == Purpose::kTraining);
  initialise_parameters(config, shape, seed, *store_);
  bind_parameters();
}

Model::~Model() = default;

void Model::bind_parameters() {
  const auto get = [&](const std::string& name) { return store_->parameter(name); };
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    const std::string p = block_prefix(layer);
    blocks_.push_back({get(p + "attention_norm.gain"), get(p + "attention_norm.offset"),
                       get(p + "attention.qkv.weight"), get(p + "attention.qkv.bias"), get(p + "attention.out.weight"),
                       get(p + "attention.out.bias"), get(p + "feed_norm.gain"), get(p + "feed_norm.offset"),
                       get(p + "feed.up.weight"), get(p + "feed.up.bias"), get(p + "feed.down.weight"),
                       get(p + "feed.down.bias")});
  }
  patch_embedder_ = {get("patch.stem.weight"),          get("patch.stem.bias"),
                     get("patch.norm_1.gain"),          get("patch.norm_1.offset"),
                     get("patch.convolution_1.weight"), get("patch.convolution_1.bias"),
                     get("patch.norm_2.gain"),          get("patch.norm_2.offset"),
                     get("patch.convolution_2.weight"), get("patch.convolution_2.bias"),
                     get("patch.output.weight"),        get("patch.output.bias")};
  tables_ = {get("token_table"), get("local_position_table"), get("patch_row_table"), get("patch_column_table")};
  final_gain_ = get("final_norm.gain");
  final_offset_ = get("final_norm.offset");
  head_ = config_.tied ? tables_.tokens : get("head.weight");
}

kernels::RotaryTable Model::rotary(int64_t positions) const {
  if (config_.position != PositionEncoding::kRotary) return {};
  return rotary_->get(positions, config_.head_dim, config_.rotary_base);
}

at::Tensor Model::embed(const kernels::EmbeddingInput& input, const at::Tensor& patches) const {
  at::Tensor vectors;
  if (input.patch_index.defined() && input.patch_index.numel() > 0) {
    vectors = kernels::embed_patches(patches, patch_embedder_, patch_groups(config_), config_.patch_stride);
  }
  return kernels::embed(input, tables_, vectors);
}

at::Tensor Model::run_blocks(at::Tensor x, const BlockHooks& hooks) const {
  at::Tensor delta, scale, y;
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    const Block& b = blocks_[static_cast<size_t>(layer)];
    if (layer == 0) {
      y = kernels::layer_norm(x, b.attention_gain, b.attention_offset);
    } else {
      std::tie(x, y) = kernels::residual_layer_norm(x, delta, scale, b.attention_gain, b.attention_offset);
    }
    at::Tensor attended = hooks.attend(layer, kernels::linear(y, b.qkv, b.qkv_bias));
    if (layer + 1 == config_.layers && hooks.kept.defined()) {
      attended = attended.index_select(0, hooks.kept);
      x = x.index_select(0, hooks.kept);
    }
    delta = kernels::linear(attended, b.out, b.out_bias);
    scale = hooks.scale(layer, kAttentionBranch);
    std::tie(x, y) = kernels::residual_layer_norm(x, delta, scale, b.feed_gain, b.feed_offset);
    delta = kernels::linear(kernels::geglu(kernels::linear(y, b.up, b.up_bias)), b.down, b.down_bias);
    scale = hooks.scale(layer, kFeedBranch);
  }
  return kernels::residual_layer_norm(x, delta, scale, final_gain_, final_offset_).second;
}

at::Tensor Model::forward(const ModelInput& input, const ForwardOptions& options) const {
  GATO_CHECK(input.ids.defined() && input.ids.dim() == 2, "ids must be [rows, tokens]");
  const int64_t rows = input.ids.size(0);
  const int64_t tokens = input.ids.size(1);
  flat_indices(input.sequence_starts, "sequence_starts", input.ids);
  const kernels::EmbeddingInput embedding{flat_indices(input.ids, "ids", input.ids),
                                          flat_indices(input.local_positions, "local_positions", input.ids),
                                          input.patch_index, input.patch_rows, input.patch_columns};
  const kernels::RotaryTable table = rotary(tokens);
  BlockHooks hooks;
  hooks.attend = [&](int64_t /*layer*/, const at::Tensor& qkv) {
    const at::Tensor split = qkv.view({rows, tokens, 3, config_.heads, config_.head_dim});
    return kernels::document_attention(split, input.sequence_starts, table)
        .view({rows * tokens, config_.heads * config_.head_dim});
  };
  hooks.scale = [&](int64_t layer, int64_t branch) {
    return branch_factors(options, config_.stochastic_depth, layer, branch, rows);
  };
  return run_blocks(embed(embedding, input.patches), hooks);
}

LossResult Model::loss(const ModelInput& input, const LossInput& where, const ForwardOptions& options,
                       double soft_sigma) const {
  return kernels::head_cross_entropy(forward(input, options), head_, where.positions, where.targets, where.weights,
                                     {shape_.first_bin, shape_.num_bins, soft_sigma});
}

void Model::backward(const at::Tensor& loss) const {
  GATO_CHECK(loss.defined() && loss.requires_grad(),
             "no graph was recorded: the model is for inference, or gradients were off");
  torch::autograd::backward({loss});
}

at::Tensor Model::logits(const at::Tensor& hidden, int64_t first_id, int64_t num_ids) const {
  GATO_CHECK(hidden.dim() == 2 && hidden.size(1) == config_.width, "hidden states must be [n, ", config_.width, "]");
  GATO_CHECK(first_id >= 0 && num_ids >= 0 && first_id + num_ids <= shape_.vocabulary_size, "ids [", first_id, ", ",
             first_id + num_ids, ") lie outside a vocabulary of ", shape_.vocabulary_size);
  const at::Tensor out = at::empty({hidden.size(0), num_ids}, hidden.options().requires_grad(false));
  kernels::matmul_into(hidden.detach(), head_.value.slice(0, first_id, first_id + num_ids).t(), out, 0);
  return out;
}

}  // namespace gato::model

#include "gato/model/model.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <mutex>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/kernels/device.h"
#include "gato/kernels/dropout.h"
#include "gato/kernels/geglu.h"
#include "gato/kernels/layer_norm.h"
#include "gato/kernels/linear.h"
#include "model/layout.h"
#include "model/recompute.h"

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

/// Factors [2 x layers, B] of the residual branches, one row per branch in the order of the model: 0 where a row skips
/// the branch, else 1 / keep probability (Huang et al. 2016, "Deep Networks with Stochastic Depth", scaled in training
/// so that evaluation needs nothing). Undefined: nothing is skipped. In one tensor, so that one copy takes them to a
/// GPU.
at::Tensor branch_factors(const ForwardOptions& options, const ModelConfig& config, int64_t rows, at::Device device) {
  const double probability = config.stochastic_depth;
  if (!options.training || probability <= 0) return {};
  static const uint64_t kPurpose = hash_name("stochastic depth");
  const at::Tensor factors = at::empty({2 * config.layers, rows}, at::kFloat);
  auto* factor = factors.mutable_data_ptr<float>();
  for (int64_t branch = 0; branch < 2 * config.layers; ++branch) {
    for (int64_t row = 0; row < rows; ++row) {
      Rng rng(mix_seed(options.seed, {kPurpose, static_cast<uint64_t>(options.step), static_cast<uint64_t>(branch),
                                      static_cast<uint64_t>(options.first_row + row)}));
      *factor++ = rng.uniform() < probability ? 0.0f : static_cast<float>(1 / (1 - probability));
    }
  }
  if (device.is_cpu()) return factors;
  return factors.pin_memory().to(device, at::kFloat, /*non_blocking=*/true);  // else the CPU waits for the GPU
}

uint64_t dropout_key(const ForwardOptions& options, int64_t place) {
  static const uint64_t kPurpose = hash_name("dropout");
  return mix_seed(options.seed, {kPurpose, static_cast<uint64_t>(options.step), static_cast<uint64_t>(place)});
}

/// Keys [2 x layers, 2] of dropout at every branch, with the first row's number, for a device.
at::Tensor dropout_keys(const ForwardOptions& options, const ModelConfig& config, at::Device device) {
  if (!options.training || config.dropout <= 0 || !kernels::has_device_operations(device)) return {};
  const at::Tensor keys = at::empty({2 * config.layers, 2}, at::kLong);
  auto* key = keys.mutable_data_ptr<int64_t>();
  for (int64_t place = 0; place < 2 * config.layers; ++place) {
    *key++ = static_cast<int64_t>(dropout_key(options, place));
    *key++ = options.first_row;
  }
  return device.is_cpu() ? keys : keys.pin_memory().to(device, at::kLong, /*non_blocking=*/true);
}

}  // namespace

/// Tables of positions asked for so far; shared by all callers of a const model.
class Model::PositionCache {
 public:
  explicit PositionCache(at::Device device) : device_(device) {}

  /// The longest one so far.
  kernels::RotaryTable rotary(int64_t positions, int64_t head_dim, double base) {
    const std::lock_guard lock(mutex_);
    if (!rotary_.defined() || rotary_.cosine.size(0) < positions) {
      rotary_ = kernels::make_rotary_table(positions, head_dim, base);
      rotary_ = {rotary_.cosine.to(device_), rotary_.sine.to(device_)};
    }
    return rotary_;
  }

  /// The last `positions` rows of the longest one so far.
  at::Tensor distances(int64_t positions, int64_t width) {
    const std::lock_guard lock(mutex_);
    if (!distances_.defined() || distances_.size(0) < positions) {
      distances_ = kernels::make_distance_table(positions, width).to(device_);
    }
    return distances_.slice(0, distances_.size(0) - positions);
  }

 private:
  const at::Device device_;
  std::mutex mutex_;
  kernels::RotaryTable rotary_;
  at::Tensor distances_;
};

Model::Model(const ModelConfig& config, const ModelShape& shape, uint64_t seed, Purpose purpose, at::Device device,
             const BucketLayout& layout)
    : config_(config), shape_(shape), positions_(std::make_unique<PositionCache>(device)) {
  check_config(config);
  check_shape(shape);
  store_ = std::make_unique<ParameterStore>(declare_parameters(config, shape), purpose == Purpose::kTraining,
                                            config.precision == Precision::kBf16, device, layout);
  initialise_parameters(config, shape, seed, *store_);
  store_->values_changed();
  store_->divide_masters();
  bind_parameters();
  find_block_ranges();
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
                       get(p + "feed.down.bias"), kernels::Parameter()});
    if (relative()) blocks_.back().distance = get(p + "attention.distance.weight");
  }
  if (relative()) biases_ = {get("relative.content_bias"), get("relative.position_bias")};
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

void Model::find_block_ranges() {
  const std::vector<Segment>& segments = store_->segments();
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    const std::string prefix = block_prefix(layer);
    const auto of_block = [&](const Segment& s) { return s.name.compare(0, prefix.size(), prefix) == 0; };
    const auto first = std::find_if(segments.begin(), segments.end(), of_block);
    const auto behind = std::find_if_not(first, segments.end(), of_block);
    block_ranges_.push_back({first->offset, behind->offset});  // the token table is behind every block
  }
}

/// `input` is what a block reads that was computed last before it: its gradient is there once the block's backward is
/// done, and with it those of all blocks behind.
void Model::tell_of_gradients(const at::Tensor& input, int64_t layer, PassListener* listener) const {
  if (listener == nullptr || !input.requires_grad()) return;
  const int64_t end = block_ranges_[static_cast<size_t>(layer)].end;
  input.register_hook([listener, end](const at::Tensor& /*gradient*/) { listener->after_gradients(end); });
}

kernels::RotaryTable Model::rotary(int64_t positions) const {
  if (config_.position != PositionEncoding::kRotary) return {};
  return positions_->rotary(positions, config_.head_dim, config_.rotary_base);
}

at::Tensor Model::distance_keys(int64_t layer, int64_t distances) const {
  const at::Tensor table = positions_->distances(distances, config_.width);
  return kernels::linear(table, blocks_[static_cast<size_t>(layer)].distance)
      .view({distances, config_.heads, config_.head_dim});
}

at::Tensor Model::embed(kernels::EmbeddingInput input, const at::Tensor& patches) const {
  if (!config_.action_inputs || !config_.action_positions) {
    const at::Tensor action = input.local_positions.eq(kActionPositionRow);
    if (!config_.action_inputs) input.ids = input.ids.masked_fill(action, -1);
    if (!config_.action_positions) input.local_positions = input.local_positions.masked_fill(action, -1);
  }
  at::Tensor vectors;
  if (input.patch_index.defined() && input.patch_index.numel() > 0) {
    vectors = kernels::embed_patches(patches, patch_embedder_, patch_groups(config_), config_.patch_stride);
  }
  return kernels::embed(input, tables_, vectors);
}

at::ScalarType Model::compute_type() const {
  return config_.precision == Precision::kBf16 ? at::kBFloat16 : at::kFloat;
}

std::pair<at::Tensor, at::Tensor> Model::run_block(int64_t layer, at::Tensor x, at::Tensor delta,
                                                   const BlockHooks& hooks) const {
  const Block& b = blocks_[static_cast<size_t>(layer)];
  at::Tensor y;
  if (layer == 0) {
    y = kernels::layer_norm(x, b.attention_gain, b.attention_offset, compute_type());
  } else {
    std::tie(x, y) = kernels::residual_layer_norm(x, delta, hooks.scale(layer - 1, kFeedBranch), b.attention_gain,
                                                  b.attention_offset);
  }
  delta = kernels::linear(hooks.attend(layer, kernels::linear(y, b.qkv, b.qkv_bias)), b.out, b.out_bias);
  if (hooks.drop) delta = hooks.drop(layer, kAttentionBranch, delta);
  std::tie(x, y) =
      kernels::residual_layer_norm(x, delta, hooks.scale(layer, kAttentionBranch), b.feed_gain, b.feed_offset);
  delta = kernels::linear(kernels::geglu(kernels::linear(y, b.up, b.up_bias)), b.down, b.down_bias);
  if (hooks.drop) delta = hooks.drop(layer, kFeedBranch, delta);
  return {x, delta};
}

at::Tensor Model::run_blocks(at::Tensor x, const BlockHooks& hooks) const {
  at::Tensor delta;
  const bool recompute = hooks.recompute && c10::GradMode::is_enabled() && store_->gradients().defined();
  const auto kept_hooks = recompute ? std::make_shared<const BlockHooks>(hooks) : nullptr;
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    if (hooks.listener != nullptr) hooks.listener->before_values(block_ranges_[static_cast<size_t>(layer)].begin);
    tell_of_gradients(layer == 0 ? x : delta, layer, hooks.listener);
    if (recompute) {
      std::tie(x, delta) = recomputed(
          [this, layer, kept_hooks](const at::Tensor& stream, const at::Tensor& added) {
            return run_block(layer, stream, added, *kept_hooks);
          },
          x, delta);
    } else {
      std::tie(x, delta) = run_block(layer, std::move(x), std::move(delta), hooks);
    }
  }
  if (hooks.listener != nullptr) hooks.listener->before_values(0);
  return kernels::residual_layer_norm(x, delta, hooks.scale(config_.layers - 1, kFeedBranch), final_gain_,
                                      final_offset_)
      .second;
}

at::Tensor Model::embed(const ModelInput& input) const {
  GATO_CHECK(input.ids.defined() && input.ids.dim() == 2, "ids must be [rows, tokens]");
  return embed(
      {flat_indices(input.ids, "ids", input.ids), flat_indices(input.local_positions, "local_positions", input.ids),
       input.patch_index, input.patch_rows, input.patch_columns},
      input.patches);
}

BlockInput Model::block_input(const ModelInput& input, const ForwardOptions& options) const {
  GATO_CHECK(input.ids.defined() && input.ids.dim() == 2, "ids must be [rows, tokens]");
  flat_indices(input.sequence_starts, "sequence_starts", input.ids);
  // Relative attention reads the starts on the CPU in every block: one copy for all.
  const at::Tensor starts = relative() ? input.sequence_starts.cpu() : input.sequence_starts;
  const at::Device device = input.ids.device();
  return {starts, input.bounds, branch_factors(options, config_, input.ids.size(0), device),
          dropout_keys(options, config_, device), rotary(input.ids.size(1))};
}

at::Tensor Model::transform(const at::Tensor& x, const BlockInput& input, const ForwardOptions& options) const {
  const int64_t rows = input.sequence_starts.size(0);
  const int64_t tokens = input.sequence_starts.size(1);
  BlockHooks hooks;  // with copies, since recomputation calls them after this function has returned
  hooks.recompute = options.recompute;
  hooks.listener = options.listener;
  hooks.attend = [this, rows, tokens, input](int64_t layer, const at::Tensor& qkv) {
    const at::Tensor split = qkv.view({rows, tokens, 3, config_.heads, config_.head_dim});
    const at::Tensor mixed =
        relative() ? kernels::relative_attention(split.to(at::kFloat), input.sequence_starts,
                                                 distance_keys(layer, tokens), biases_)
                         .to(qkv.scalar_type())
                   : kernels::document_attention(split, input.sequence_starts, input.rotary, input.bounds);
    return mixed.view({rows * tokens, config_.heads * config_.head_dim});
  };
  if (options.training && config_.dropout > 0) {
    // Of a residual branch's output: appendix E of the paper names the rate alone (gato_spec 5.3), not the places.
    hooks.drop = [this, options, tokens, keys = input.dropout_keys](int64_t layer, int64_t branch,
                                                                    const at::Tensor& delta) {
      const int64_t place = 2 * layer + branch;
      kernels::DropoutStream stream{dropout_key(options, place), options.first_row, tokens, {}};
      if (keys.defined()) stream.device_key = keys.select(0, place);
      return kernels::dropout(delta.to(at::kFloat), config_.dropout, stream).to(delta.scalar_type());
    };
  }
  hooks.scale = [factors = input.branch_factors](int64_t layer, int64_t branch) {
    return factors.defined() ? factors.select(0, 2 * layer + branch) : at::Tensor();
  };
  return run_blocks(x, hooks);
}

at::Tensor Model::forward(const ModelInput& input, const ForwardOptions& options) const {
  const BlockInput blocks = block_input(input, options);
  if (options.listener != nullptr) options.listener->before_values(block_ranges_.front().end);
  return transform(embed(input), blocks, options);
}

LossResult Model::loss(const ModelInput& input, const LossInput& where, const ForwardOptions& options,
                       double soft_sigma) const {
  const at::Tensor hidden = forward(input, options);
  if (options.hidden != nullptr) *options.hidden = hidden;
  return head_loss(hidden, where, soft_sigma);
}

LossResult Model::head_loss(const at::Tensor& hidden, const LossInput& where, double soft_sigma) const {
  return kernels::head_cross_entropy(hidden, head_, where.positions, where.targets, where.weights,
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
  const at::Tensor out = at::empty({hidden.size(0), num_ids}, head_.value.options());
  kernels::matmul_into(hidden.detach().to(at::kFloat), head_.value.slice(0, first_id, first_id + num_ids).t(), out, 0);
  return out;
}

}  // namespace gato::model

#include "gato/model/decoder.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <tuple>

#include "gato/core/error.h"
#include "gato/kernels/geglu.h"
#include "gato/kernels/layer_norm.h"
#include "gato/kernels/patch_embedder.h"

namespace gato::model {
namespace {

constexpr int64_t kPatchBytes = kernels::kPatchSide * kernels::kPatchSide * 3;

int64_t count_patches(const DecoderInput& input) {
  return std::count_if(input.ids.begin(), input.ids.end(), [](int32_t id) { return id < 0; });
}

void check_input(const DecoderInput& input, size_t i) {
  const auto patches = static_cast<size_t>(count_patches(input));
  GATO_CHECK(!input.ids.empty(), "input ", i, " has no tokens");
  GATO_CHECK(input.local_positions.size() == input.ids.size(), "input ", i, " has ", input.ids.size(), " ids and ",
             input.local_positions.size(), " local positions");
  GATO_CHECK(input.patches.size() == patches * static_cast<size_t>(kPatchBytes) && input.patch_rows.size() == patches &&
                 input.patch_columns.size() == patches,
             "input ", i, " has ", patches, " patches among its ids, but ", input.patches.size(), " bytes, ",
             input.patch_rows.size(), " rows and ", input.patch_columns.size(), " columns of patches");
}

/// The tokens of all inputs, one after the other.
struct FlatInput {
  kernels::EmbeddingInput embedding;
  at::Tensor patches;
  at::Tensor last;  // int64: place of each input's last token
};

FlatInput flatten(std::span<const DecoderInput> inputs) {
  int64_t tokens = 0, patches = 0;
  for (const DecoderInput& input : inputs) {
    tokens += static_cast<int64_t>(input.ids.size());
    patches += count_patches(input);
  }
  FlatInput flat;
  flat.embedding = {at::empty({tokens}, at::kInt), at::empty({tokens}, at::kInt), at::empty({patches}, at::kLong),
                    at::empty({patches}, at::kInt), at::empty({patches}, at::kInt)};
  flat.patches = at::empty({patches, kernels::kPatchSide, kernels::kPatchSide, 3}, at::kByte);
  flat.last = at::empty({static_cast<int64_t>(inputs.size())}, at::kLong);
  auto* ids = flat.embedding.ids.mutable_data_ptr<int32_t>();
  auto* locals = flat.embedding.local_positions.mutable_data_ptr<int32_t>();
  auto* index = flat.embedding.patch_index.mutable_data_ptr<int64_t>();
  auto* rows = flat.embedding.patch_rows.mutable_data_ptr<int32_t>();
  auto* columns = flat.embedding.patch_columns.mutable_data_ptr<int32_t>();
  auto* pixels = flat.patches.mutable_data_ptr<uint8_t>();
  auto* last = flat.last.mutable_data_ptr<int64_t>();
  int64_t token = 0;
  for (const DecoderInput& input : inputs) {
    for (size_t i = 0; i < input.ids.size(); ++i, ++token) {
      ids[token] = input.ids[i];
      locals[token] = input.local_positions[i];
      if (input.ids[i] < 0) *index++ = token;
    }
    rows = std::copy(input.patch_rows.begin(), input.patch_rows.end(), rows);
    columns = std::copy(input.patch_columns.begin(), input.patch_columns.end(), columns);
    pixels = std::copy(input.patches.begin(), input.patches.end(), pixels);
    *last++ = token - 1;
  }
  return flat;
}

}  // namespace

Decoder::Decoder(std::shared_ptr<const ActingWeights> weights, int64_t slots, int64_t max_tokens,
                 std::optional<at::ScalarType> cache_type)
    : weights_(std::move(weights)), max_tokens_(max_tokens) {
  GATO_CHECK(slots > 0 && max_tokens > 0, "a decoder needs slots and tokens, got ", slots, " and ", max_tokens);
  lengths_.assign(static_cast<size_t>(slots), 0);
  const Model& model = weights_->model();
  const ModelConfig& config = model.config();
  const at::ScalarType type = cache_type.value_or(kernels::activation_type(weights_->type()));
  GATO_CHECK(type == at::kFloat || weights_->type() != kernels::WeightType::kFp32,
             "fp32 weights go with an fp32 cache");
  const c10::AutoGradMode no_gradients(false);
  rotary_ = model.rotary(max_tokens);
  const at::Tensor distances = model.relative() ? kernels::make_distance_table(max_tokens, config.width) : at::Tensor();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    caches_.push_back(kernels::make_attention_cache(slots, max_tokens, config.heads, config.head_dim, type));
    if (!model.relative()) continue;
    // In fp32 whatever the type of the weights: few numbers, and shared by all tokens.
    const kernels::PackedLinear map =
        kernels::pack_linear(weights_->block(layer).distance, {}, kernels::WeightType::kFp32);
    const at::Tensor keys = kernels::packed_linear(distances, map);
    distances_.push_back(kernels::make_cached_distances(keys.view({max_tokens, config.heads, config.head_dim}),
                                                        weights_->relative_biases()));
  }
}

int64_t Decoder::length(int64_t slot) const {
  GATO_CHECK(slot >= 0 && slot < slots(), "slot ", slot, " of ", slots());
  return lengths_[static_cast<size_t>(slot)];
}

void Decoder::truncate(int64_t slot, int64_t length) {
  GATO_CHECK(length >= 0 && length <= this->length(slot), "slot ", slot, " holds ", this->length(slot),
             " tokens and cannot be cut to ", length);
  lengths_[static_cast<size_t>(slot)] = length;
}

std::vector<kernels::CacheRun> Decoder::plan(std::span<const int64_t> slots,
                                             std::span<const DecoderInput> inputs) const {
  GATO_CHECK(!slots.empty() && slots.size() == inputs.size(), slots.size(), " slots and ", inputs.size(), " inputs");
  std::vector<kernels::CacheRun> runs;
  std::vector<bool> used(lengths_.size(), false);
  for (size_t i = 0; i < slots.size(); ++i) {
    check_input(inputs[i], i);
    const auto count = static_cast<int64_t>(inputs[i].ids.size());
    const int64_t held = length(slots[i]);
    GATO_CHECK(held + count <= max_tokens_, "slot ", slots[i], " holds ", held, " tokens: ", count,
               " more are too many for ", max_tokens_);
    GATO_CHECK(!used[static_cast<size_t>(slots[i])], "slot ", slots[i], " comes twice");
    used[static_cast<size_t>(slots[i])] = true;
    runs.push_back({slots[i], held, count});
  }
  return runs;
}

at::Tensor Decoder::attend(int64_t layer, const at::Tensor& qkv, std::span<const kernels::CacheRun> runs) const {
  const ModelConfig& config = weights_->model().config();
  const auto l = static_cast<size_t>(layer);
  const at::Tensor split = qkv.view({-1, 3, config.heads, config.head_dim});
  const at::Tensor mixed = distances_.empty()
                               ? kernels::cached_attention(split, runs, caches_[l], rotary_)
                               : kernels::cached_relative_attention(split, runs, caches_[l], distances_[l]);
  return mixed.view({-1, config.heads * config.head_dim});
}

at::Tensor Decoder::run_blocks(at::Tensor x, std::span<const kernels::CacheRun> runs, const at::Tensor& kept) const {
  const int64_t layers = weights_->model().config().layers;
  at::Tensor delta, y;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const ActingWeights::Block& b = weights_->block(layer);
    if (layer == 0) {
      y = kernels::layer_norm(x, b.attention_gain, b.attention_offset, kernels::activation_type(weights_->type()));
    } else {
      std::tie(x, y) = kernels::residual_layer_norm(x, delta, {}, b.attention_gain, b.attention_offset);
    }
    at::Tensor attended = attend(layer, kernels::packed_linear(y, b.qkv), runs);
    if (layer + 1 == layers && kept.numel() < x.size(0)) {
      attended = attended.index_select(0, kept);
      x = x.index_select(0, kept);
    }
    std::tie(x, y) =
        kernels::residual_layer_norm(x, kernels::packed_linear(attended, b.out), {}, b.feed_gain, b.feed_offset);
    delta = kernels::packed_linear(kernels::geglu(kernels::packed_linear(y, b.up)), b.down);
  }
  return kernels::residual_layer_norm(x, delta, {}, weights_->final_gain(), weights_->final_offset()).second;
}

at::Tensor Decoder::append(std::span<const int64_t> slots, std::span<const DecoderInput> inputs) {
  const std::vector<kernels::CacheRun> runs = plan(slots, inputs);
  const c10::AutoGradMode no_gradients(false);
  const FlatInput flat = flatten(inputs);
  const at::Tensor hidden = run_blocks(weights_->model().embed(flat.embedding, flat.patches), runs, flat.last);
  for (const kernels::CacheRun& run : runs) lengths_[static_cast<size_t>(run.slot)] += run.count;
  return hidden;
}

at::Tensor Decoder::logits(const at::Tensor& hidden, int64_t first_id, int64_t num_ids) const {
  GATO_CHECK(num_ids >= 0, "a negative number of ids: ", num_ids);
  const at::Tensor out = at::empty({hidden.size(0), num_ids}, at::kFloat);
  kernels::packed_linear_into(hidden, weights_->head(), out, first_id);
  return out;
}

}  // namespace gato::model

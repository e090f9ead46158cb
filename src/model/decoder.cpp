#include "gato/model/decoder.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>

#include "gato/core/error.h"
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

Decoder::Decoder(const Model& model, int64_t slots, int64_t max_tokens) : model_(&model), max_tokens_(max_tokens) {
  GATO_CHECK(slots > 0 && max_tokens > 0, "a decoder needs slots and tokens, got ", slots, " and ", max_tokens);
  lengths_.assign(static_cast<size_t>(slots), 0);
  const ModelConfig& config = model.config();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    caches_.push_back(kernels::make_attention_cache(slots, max_tokens, config.heads, config.head_dim));
  }
  rotary_ = model.rotary(max_tokens);
  if (!model.relative()) return;
  const c10::AutoGradMode no_gradients(false);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    distance_keys_.push_back(model.distance_keys(layer, max_tokens));
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

at::Tensor Decoder::append(std::span<const int64_t> slots, std::span<const DecoderInput> inputs) {
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

  const c10::AutoGradMode no_gradients(false);
  const FlatInput flat = flatten(inputs);
  const ModelConfig& config = model_->config();
  Model::BlockHooks hooks;
  hooks.attend = [&](int64_t layer, const at::Tensor& qkv) {
    const auto l = static_cast<size_t>(layer);
    const at::Tensor split = qkv.view({-1, 3, config.heads, config.head_dim});
    const at::Tensor mixed = model_->relative()
                                 ? kernels::cached_relative_attention(split.to(at::kFloat), runs, caches_[l],
                                                                      distance_keys_[l], model_->biases_)
                                       .to(qkv.scalar_type())
                                 : kernels::cached_attention(split, runs, caches_[l], rotary_);
    return mixed.view({-1, config.heads * config.head_dim});
  };
  hooks.scale = [](int64_t, int64_t) { return at::Tensor(); };
  hooks.kept = flat.last;
  const at::Tensor hidden = model_->run_blocks(model_->embed(flat.embedding, flat.patches), hooks);
  for (const kernels::CacheRun& run : runs) lengths_[static_cast<size_t>(run.slot)] += run.count;
  return hidden;
}

at::Tensor Decoder::logits(const at::Tensor& hidden, int64_t first_id, int64_t num_ids) const {
  return model_->logits(hidden, first_id, num_ids);
}

}  // namespace gato::model

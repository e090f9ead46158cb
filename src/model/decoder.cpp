#include "gato/model/decoder.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <tuple>

#include "gato/core/error.h"
#include "gato/kernels/geglu.h"
#include "gato/kernels/layer_norm.h"
#include "gato/kernels/patch_embedder.h"
#include "gato/kernels/rows.h"
#include "model/staging.h"

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

/// Every index has a row in its table: a device's operations do not look.
void check_rows(const DecoderInput& input, size_t i, int64_t vocabulary) {
  const auto check = [i](const auto& values, const char* name, int64_t rows) {
    for (const int64_t value : values) {
      GATO_CHECK(value >= -1 && value < rows, name, " of input ", i, " has ", value, ", the table has ", rows, " rows");
    }
  };
  check(input.ids, "ids", vocabulary);
  check(input.local_positions, "local_positions", kLocalPositionRows);
  check(input.patch_rows, "patch_rows", kPatchPositionRows);
  check(input.patch_columns, "patch_columns", kPatchPositionRows);
}

/// The tokens of all inputs, one after the other.
struct FlatInput {
  kernels::EmbeddingInput embedding;
  at::Tensor patches;
  at::Tensor last;       // int64: place of each input's last token
  at::Tensor run_table;  // as kernels::write_run_table gives it
};

/// Copies the tokens behind each other.
class FlatWriter {
 public:
  FlatWriter(std::span<const DecoderInput> inputs, at::Device device) {
    int64_t tokens = 0, patches = 0;
    for (const DecoderInput& input : inputs) {
      tokens += static_cast<int64_t>(input.ids.size());
      patches += count_patches(input);
    }
    const auto count = static_cast<int64_t>(inputs.size());
    ids_ = staging_.add(tokens, at::kInt);
    locals_ = staging_.add(tokens, at::kInt);
    index_ = staging_.add(patches, at::kLong);
    rows_ = staging_.add(patches, at::kInt);
    columns_ = staging_.add(patches, at::kInt);
    pixels_ = staging_.add(patches * kPatchBytes, at::kByte);
    last_ = staging_.add(count, at::kLong);
    runs_ = staging_.add(count * kernels::kRunTableColumns, at::kInt);
    staging_.allocate(device);
  }

  void write(std::span<const DecoderInput> inputs, std::span<const kernels::CacheRun> runs) {
    auto ids = staging_.host<int32_t>(ids_).begin(), locals = staging_.host<int32_t>(locals_).begin();
    auto index = staging_.host<int64_t>(index_).begin(), last = staging_.host<int64_t>(last_).begin();
    auto rows = staging_.host<int32_t>(rows_).begin(), columns = staging_.host<int32_t>(columns_).begin();
    auto pixels = staging_.host<uint8_t>(pixels_).begin();
    int64_t token = 0;
    for (const DecoderInput& input : inputs) {
      for (size_t i = 0; i < input.ids.size(); ++i, ++token) {
        *ids++ = input.ids[i];
        *locals++ = input.local_positions[i];
        if (input.ids[i] < 0) *index++ = token;
      }
      rows = std::copy(input.patch_rows.begin(), input.patch_rows.end(), rows);
      columns = std::copy(input.patch_columns.begin(), input.patch_columns.end(), columns);
      pixels = std::copy(input.patches.begin(), input.patches.end(), pixels);
      *last++ = token - 1;
    }
    kernels::write_run_table(runs, staging_.host<int32_t>(runs_));
  }

  FlatInput on_device() {
    staging_.move();
    const auto array = [&](size_t number) { return staging_.array(number); };
    return {{array(ids_), array(locals_), array(index_), array(rows_), array(columns_)},
            array(pixels_).view({-1, kernels::kPatchSide, kernels::kPatchSide, 3}),
            array(last_),
            array(runs_).view({-1, kernels::kRunTableColumns})};
  }

 private:
  Staging staging_;
  size_t ids_ = 0, locals_ = 0, index_ = 0, rows_ = 0, columns_ = 0, pixels_ = 0, last_ = 0, runs_ = 0;
};

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
  const at::Device device = model.store().device();
  at::Tensor distances;
  if (model.relative()) distances = kernels::make_distance_table(max_tokens, config.width).to(device);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    caches_.push_back(kernels::make_attention_cache(slots, max_tokens, config.heads, config.head_dim, type, device));
    if (!model.relative()) continue;
    // In fp32 whatever the type of the weights: few numbers, and shared by all tokens.
    const at::Tensor keys = ActingLinear(weights_->block(layer).distance, {}, kernels::WeightType::kFp32)(distances);
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
    check_rows(inputs[i], i, weights_->model().shape().vocabulary_size);
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

at::Tensor Decoder::attend(int64_t layer, const at::Tensor& qkv, const Runs& runs) const {
  const ModelConfig& config = weights_->model().config();
  const auto l = static_cast<size_t>(layer);
  const kernels::CachedDistances* distances = distances_.empty() ? nullptr : &distances_[l];
  const at::Tensor split = qkv.view({-1, 3, config.heads, config.head_dim});
  const at::Tensor mixed =
      runs.most_context > 0
          ? kernels::cached_attention_of_table(split, runs.table, runs.most_context, caches_[l], rotary_, distances)
      : distances == nullptr ? kernels::cached_attention(split, runs.runs, caches_[l], rotary_, runs.table)
                             : kernels::cached_relative_attention(split, runs.runs, caches_[l], *distances, runs.table);
  return mixed.view({-1, config.heads * config.head_dim});
}

at::Tensor Decoder::run_blocks(at::Tensor x, const Runs& runs, const at::Tensor& kept) const {
  const int64_t layers = weights_->model().config().layers;
  at::Tensor delta, y;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const ActingWeights::Block& b = weights_->block(layer);
    if (layer == 0) {
      y = kernels::layer_norm(x, b.attention_gain, b.attention_offset, kernels::activation_type(weights_->type()));
    } else {
      std::tie(x, y) = kernels::residual_layer_norm(x, delta, {}, b.attention_gain, b.attention_offset);
    }
    at::Tensor attended = attend(layer, b.qkv(y), runs);
    if (layer + 1 == layers && kept.defined() && kept.numel() < x.size(0)) {
      attended = kernels::gather_rows(attended, kept);
      x = kernels::gather_rows(x, kept);
    }
    std::tie(x, y) = kernels::residual_layer_norm(x, b.out(attended), {}, b.feed_gain, b.feed_offset);
    delta = b.down(kernels::geglu(b.up(y)));
  }
  return kernels::residual_layer_norm(x, delta, {}, weights_->final_gain(), weights_->final_offset()).second;
}

at::Tensor Decoder::append(std::span<const int64_t> slots, std::span<const DecoderInput> inputs) {
  const std::vector<kernels::CacheRun> runs = plan(slots, inputs);
  const c10::AutoGradMode no_gradients(false);
  FlatWriter writer(inputs, weights_->model().store().device());
  writer.write(inputs, runs);
  const FlatInput flat = writer.on_device();
  const at::Tensor hidden =
      run_blocks(weights_->model().embed(flat.embedding, flat.patches), {runs, flat.run_table, 0}, flat.last);
  for (const kernels::CacheRun& run : runs) lengths_[static_cast<size_t>(run.slot)] += run.count;
  return hidden;
}

at::Tensor Decoder::step(const at::Tensor& ids, const at::Tensor& local_positions, const at::Tensor& runs,
                         int64_t most_context) const {
  const c10::AutoGradMode no_gradients(false);
  kernels::EmbeddingInput tokens;
  tokens.ids = ids;
  tokens.local_positions = local_positions;
  return run_blocks(weights_->model().embed(tokens, {}), {{}, runs, most_context}, {});
}

void Decoder::extend(int64_t slot, int64_t count) {
  GATO_CHECK(count >= 0 && length(slot) + count <= max_tokens_, "slot ", slot, " holds ", length(slot),
             " tokens: ", count, " more are too many for ", max_tokens_);
  lengths_[static_cast<size_t>(slot)] += count;
}

at::Tensor Decoder::logits(const at::Tensor& hidden, int64_t first_id, int64_t num_ids) const {
  return weights_->head().outputs(hidden, first_id, num_ids);
}

}  // namespace gato::model

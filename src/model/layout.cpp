#include "model/layout.h"

#include <algorithm>

namespace gato::model {
namespace {

using Declarations = std::vector<ParameterStore::Declaration>;

// Weight decay applies to matrices and convolutions, not to tables, biases and norms.
void declare_matrix(Declarations& all, const std::string& name, std::vector<int64_t> shape) {
  all.push_back({name + ".weight", std::move(shape), true});
}
void declare_vector(Declarations& all, const std::string& name, int64_t size) { all.push_back({name, {size}, false}); }
void declare_table(Declarations& all, const std::string& name, int64_t rows, int64_t width) {
  all.push_back({name, {rows, width}, false});
}

void declare_linear(Declarations& all, const std::string& name, int64_t out, int64_t in) {
  declare_matrix(all, name, {out, in});
  declare_vector(all, name + ".bias", out);
}

/// A linear map of activations in the blocks: with bf16 nothing but products in bf16 reads its weight.
void declare_block_linear(Declarations& all, const std::string& name, int64_t out, int64_t in) {
  declare_linear(all, name, out, in);
  all[all.size() - 2].only_products = true;
}

void declare_norm(Declarations& all, const std::string& name, int64_t width) {
  declare_vector(all, name + ".gain", width);
  declare_vector(all, name + ".offset", width);
}

void declare_block(Declarations& all, const ModelConfig& config, int64_t layer) {
  const std::string prefix = block_prefix(layer);
  const int64_t attention = config.heads * config.head_dim;
  declare_block_linear(all, prefix + "feed.down", config.width, config.hidden / 2);
  declare_block_linear(all, prefix + "feed.up", config.hidden, config.width);
  declare_norm(all, prefix + "feed_norm", config.width);
  declare_block_linear(all, prefix + "attention.out", config.width, attention);
  if (config.position == PositionEncoding::kRelative) {
    declare_matrix(all, prefix + "attention.distance", {attention, config.width});
  }
  declare_block_linear(all, prefix + "attention.qkv", 3 * attention, config.width);
  declare_norm(all, prefix + "attention_norm", config.width);
}

void declare_convolution(Declarations& all, const std::string& name, int64_t out, int64_t in) {
  declare_matrix(all, name, {out, in, 3, 3});
  declare_vector(all, name + ".bias", out);
}

void declare_patch_embedder(Declarations& all, const ModelConfig& config) {
  const int64_t channels = config.patch_channels;
  declare_linear(all, "patch.output", config.width, 16 * channels);
  declare_convolution(all, "patch.convolution_2", channels, channels);
  declare_norm(all, "patch.norm_2", channels);
  declare_convolution(all, "patch.convolution_1", channels, channels);
  declare_norm(all, "patch.norm_1", channels);
  declare_convolution(all, "patch.stem", channels, 3);
}

}  // namespace

int64_t patch_groups(const ModelConfig& config) { return std::min<int64_t>(32, config.patch_channels); }

std::string block_prefix(int64_t layer) { return cat("blocks.", layer, "."); }

std::vector<ParameterStore::Declaration> declare_parameters(const ModelConfig& config, const ModelShape& shape) {
  Declarations all;
  if (!config.tied) declare_matrix(all, "head", {shape.vocabulary_size, config.width});
  declare_norm(all, "final_norm", config.width);
  for (int64_t layer = config.layers - 1; layer >= 0; --layer) declare_block(all, config, layer);
  if (config.position == PositionEncoding::kRelative) {  // shared by all layers, as in Dai et al. 2019
    for (const char* name : {"relative.content_bias", "relative.position_bias"}) {
      all.push_back({name, {config.heads, config.head_dim}, false});
    }
  }
  declare_patch_embedder(all, config);
  declare_table(all, "local_position_table", kLocalPositionRows, config.width);
  declare_table(all, "patch_row_table", kPatchPositionRows, config.width);
  declare_table(all, "patch_column_table", kPatchPositionRows, config.width);
  declare_table(all, "token_table", shape.vocabulary_size, config.width);
  return all;
}

}  // namespace gato::model

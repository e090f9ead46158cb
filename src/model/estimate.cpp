#include "gato/model/estimate.h"

#include <algorithm>

#include "model/layout.h"

namespace gato::model {
namespace {

constexpr int64_t kFloatBytes = 4;

int64_t elements(const ParameterStore::Declaration& declaration) {
  int64_t count = 1;
  for (const int64_t size : declaration.shape) count *= size;
  return count;
}

std::string part_of(const std::string& name) {
  const auto has = [&](const char* text) { return name.find(text) != std::string::npos; };
  if (has("norm") && !has("patch.")) return "norms";
  if (has(".attention.") || has("relative.")) return "attention";
  if (has(".feed.")) return "feed-forward";
  if (has("patch.")) return "patch embedder";
  if (name == "token_table") return "token table";
  if (name == "head.weight") return "head";
  return "positions";
}

int64_t padded_parameters(const ModelConfig& config, const ModelShape& shape) {
  int64_t count = 0;
  for (const auto& declaration : declare_parameters(config, shape)) {
    count += (elements(declaration) + kSegmentAlignment - 1) / kSegmentAlignment * kSegmentAlignment;
  }
  return count;
}

int64_t patch_places(const ModelConfig& config) {
  const int64_t side = 16 / config.patch_stride;
  return side * side;
}

/// Multiply-adds of the patch embedder's products for one patch, and those whose input needs no gradient.
double patch_multiply_adds(const ModelConfig& config) {
  const auto places = static_cast<double>(patch_places(config));
  const auto channels = static_cast<double>(config.patch_channels);
  return places * 9 * channels * (2 * channels) + 16 * channels * static_cast<double>(config.width);
}
double stem_multiply_adds(const ModelConfig& config) {
  return static_cast<double>(patch_places(config)) * 27 * static_cast<double>(config.patch_channels);
}

}  // namespace

int64_t total(const std::vector<NamedCount>& parts) {
  int64_t sum = 0;
  for (const NamedCount& part : parts) sum += part.count;
  return sum;
}

std::vector<NamedCount> parameters_by_part(const ModelConfig& config, const ModelShape& shape) {
  std::vector<NamedCount> parts;
  for (const char* name :
       {"token table", "head", "positions", "patch embedder", "attention", "feed-forward", "norms"}) {
    if (!config.tied || std::string_view(name) != "head") parts.push_back({name, 0});
  }
  for (const auto& declaration : declare_parameters(config, shape)) {
    const std::string name = part_of(declaration.name);
    std::find_if(parts.begin(), parts.end(), [&](const NamedCount& part) { return part.name == name; })->count +=
        elements(declaration);
  }
  return parts;
}

std::vector<NamedCount> state_bytes(const ModelConfig& config, const ModelShape& shape) {
  const int64_t bytes = kFloatBytes * padded_parameters(config, shape);
  return {{"parameters", bytes}, {"gradients", bytes}, {"optimizer moments", 2 * bytes}};
}

std::vector<NamedCount> activation_bytes(const ModelConfig& config, const ModelShape& shape, const StepShape& step) {
  const int64_t tokens = step.rows * step.row_tokens;
  const int64_t attention = config.heads * config.head_dim;
  const int64_t width = config.width;
  // What backward keeps per token and layer, in floats. Norms: the sum and two statistics; linears: their inputs;
  // attention: queries, keys, values and one log-sum per head; GEGLU: its input.
  const int64_t norms = 2 * (width + 2);
  const int64_t attended = width + 3 * attention + config.heads + attention;
  const int64_t feed = width + config.hidden + config.hidden / 2;
  const int64_t logits = std::min<int64_t>(step.loss_positions * shape.vocabulary_size,
                                           std::max<int64_t>(int64_t{1} << 24, shape.vocabulary_size));
  const int64_t features = patch_places(config) * config.patch_channels;
  const int64_t per_patch = 768 + 4 * features + 16 * config.patch_channels;
  // Backward is at its widest where it begins, with everything above still held: at the head and the final norm, or at
  // the first feed-forward layer, when the head's part is gone. The patch embedder comes last, when the blocks' part is
  // gone.
  const int64_t blocks = tokens * config.layers * (norms + attended + feed);
  const int64_t temporary = std::max({2 * tokens * width + step.loss_positions * width,
                                      tokens * (config.hidden + width) - logits, 3 * step.patches * features - blocks});
  return {{"norms", kFloatBytes * tokens * (config.layers * norms + width + 2)},
          {"attention", kFloatBytes * tokens * config.layers * attended},
          {"feed-forward", kFloatBytes * tokens * config.layers * feed},
          {"head", kFloatBytes * (logits + step.loss_positions * (width + 3))},
          {"patch embedder", kFloatBytes * step.patches * per_patch},
          {"temporary", kFloatBytes * temporary}};
}

double training_flops(const ModelConfig& config, const ModelShape& shape, const StepShape& step,
                      double sequence_tokens) {
  const auto tokens = static_cast<double>(step.rows * step.row_tokens);
  const auto layers = static_cast<double>(config.layers);
  const auto width = static_cast<double>(config.width);
  const auto attention = static_cast<double>(config.heads * config.head_dim);
  const auto hidden = static_cast<double>(config.hidden);
  // Forward; backward costs twice as much, a product for the input and one for the weights. Scores and mixing see half
  // of a sequence on average; their backward computes the scores again.
  const double products = tokens * layers * (4 * attention * width + 1.5 * hidden * width);
  const double scores = tokens * layers * attention * sequence_tokens;  // 2 x (half of the sequence) per query
  const double head = static_cast<double>(step.loss_positions) * static_cast<double>(shape.vocabulary_size) * width;
  const auto patches = static_cast<double>(step.patches);
  return 2 * (3 * products + 3.5 * scores + 3 * head +
              patches * (3 * patch_multiply_adds(config) + 2 * stem_multiply_adds(config)));
}

}  // namespace gato::model

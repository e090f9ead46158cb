#include "gato/model/estimate.h"

#include <algorithm>

#include "gato/kernels/relative_attention.h"
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
  const int64_t width = config.width;
  const int64_t attention = config.heads * config.head_dim;
  const int64_t all = tokens * config.layers;  // tokens of all layers
  const bool relative = config.position == PositionEncoding::kRelative;
  const int64_t logits = std::min<int64_t>(step.loss_positions * shape.vocabulary_size,
                                           std::max<int64_t>(int64_t{1} << 24, shape.vocabulary_size));
  const int64_t features = patch_places(config) * config.patch_channels;
  const int64_t distances = step.row_tokens * attention;  // of a layer
  std::vector<NamedCount> floats{{"residual stream before each norm", (2 * all + tokens) * width},
                                 {"statistics of norms", 2 * (2 * all + tokens)},
                                 {"normalised, into attention.qkv", all * width},
                                 {"queries, keys, values", 3 * all * attention}};
  if (relative) {
    floats.push_back({"projected distances", config.layers * distances});
  } else {
    floats.push_back({"sums of attention weights", all * config.heads});
  }
  for (const NamedCount& part : {NamedCount{"mixed values, into attention.out", all * attention},
                                 {"normalised, into feed.up", all * width},
                                 {"gate and value, into GEGLU", all * config.hidden},
                                 {"GEGLU's result, into feed.down", all * (config.hidden / 2)},
                                 {"hidden states and their gradient", 2 * tokens * width},
                                 {"hidden states at labels", step.loss_positions * (width + 3)},
                                 {"logits", logits},
                                 {"pixels of patches", step.patches * 768},
                                 {"features of patches", step.patches * 4 * features},
                                 {"cells of patches", step.patches * 16 * config.patch_channels}}) {
    floats.push_back(part);
  }
  // Backward is at its widest where it begins, with everything above still held: at the head and the final norm; at the
  // last layer's feed-forward, when the head's part is gone; or at its attention, when the feed-forward's is gone too.
  // The patch embedder comes last, when the blocks' part is gone.
  const int64_t feed = tokens * (width + config.hidden + config.hidden / 2);
  const int64_t blocks = all * (4 * width + 4 * attention + config.hidden + config.hidden / 2);
  const int64_t scores = relative ? 4 * kernels::relative_scores_at_once(step.row_tokens, config.heads) + distances : 0;
  floats.push_back(
      {"temporary, in backward", std::max({step.loss_positions * width, tokens * (config.hidden + width) - logits,
                                           tokens * (3 * attention + 2 * width) + scores - logits - feed,
                                           3 * step.patches * features - blocks - logits, int64_t{0}})});
  for (NamedCount& part : floats) part.count *= kFloatBytes;
  std::erase_if(floats, [](const NamedCount& part) { return part.count == 0; });
  return floats;
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
  const bool relative = config.position == PositionEncoding::kRelative;
  // Two products with half of the sequence per query; with relative positions three.
  const double scores = (relative ? 1.5 : 1) * tokens * layers * attention * sequence_tokens;
  const double distances = relative ? layers * static_cast<double>(step.row_tokens) * attention * width : 0;
  const double head = static_cast<double>(step.loss_positions) * static_cast<double>(shape.vocabulary_size) * width;
  const auto patches = static_cast<double>(step.patches);
  // Rows share a layer's distances; their sinusoids need no gradient.
  return 2 * (3 * products + 3.5 * scores + 2 * distances + 3 * head +
              patches * (3 * patch_multiply_adds(config) + 2 * stem_multiply_adds(config)));
}

}  // namespace gato::model

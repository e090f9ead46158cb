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

int64_t divisible_parameters(const ModelConfig& config, const ModelShape& shape) {
  int64_t count = 0;
  if (config.precision != Precision::kBf16) return count;
  for (const auto& declaration : declare_parameters(config, shape)) {
    if (declaration.only_products) count += elements(declaration);
  }
  return count;
}

std::vector<NamedCount> state_bytes(const ModelConfig& config, const ModelShape& shape) {
  const int64_t parameters = padded_parameters(config, shape);
  const int64_t bytes = kFloatBytes * parameters;
  std::vector<NamedCount> parts{{"parameters", bytes}, {"gradients", bytes}, {"optimizer moments", 2 * bytes}};
  if (config.precision == Precision::kBf16) parts.push_back({"bf16 copy of the parameters", 2 * parameters});
  return parts;
}

std::vector<NamedCount> activation_bytes(const ModelConfig& config, const ModelShape& shape, const StepShape& step) {
  const int64_t tokens = step.rows * step.row_tokens;
  const int64_t width = config.width;
  const int64_t attention = config.heads * config.head_dim;
  const bool relative = config.position == PositionEncoding::kRelative;
  const int64_t element = config.precision == Precision::kBf16 ? 2 : kFloatBytes;  // of what products take and give
  const int64_t layers = step.recompute ? 1 : config.layers;                       // whose inside is held at once
  const int64_t all = tokens * layers;
  const int64_t logits = kFloatBytes * std::min<int64_t>(step.loss_positions * shape.vocabulary_size,
                                                         std::max<int64_t>(int64_t{1} << 24, shape.vocabulary_size));
  const int64_t features = kFloatBytes * patch_places(config) * config.patch_channels;
  const int64_t distances = kFloatBytes * step.row_tokens * attention;  // of a layer
  const int64_t weights = relative ? layers * distances : kFloatBytes * all * config.heads;
  // With recomputation the stream between the blocks and what is to be added to it.
  const int64_t kept = step.recompute ? config.layers * tokens * width * (kFloatBytes + element) : 0;
  const int64_t feed = element * (width + config.hidden + config.hidden / 2);  // of a layer and token
  const int64_t block = 2 * kFloatBytes * (width + 2) + element * (width + 4 * attention) + feed;
  std::vector<NamedCount> parts{{"inputs of blocks, to compute them again", kept},
                                {"residual stream before each norm", kFloatBytes * (2 * all + tokens) * width},
                                {"statistics of norms", 2 * kFloatBytes * (2 * all + tokens)},
                                {"normalised, into attention.qkv", element * all * width},
                                {"queries, keys, values", 3 * element * all * attention},
                                {relative ? "projected distances" : "sums of attention weights", weights},
                                {"mixed values, into attention.out", element * all * attention},
                                {"normalised, into feed.up", element * all * width},
                                {"gate and value, into GEGLU", element * all * config.hidden},
                                {"GEGLU's result, into feed.down", element * all * (config.hidden / 2)},
                                {"hidden states and their gradient", 2 * element * tokens * width},
                                {"hidden states at labels", step.loss_positions * (element * width + 12)},
                                {"logits", logits},
                                {"pixels of patches", kFloatBytes * step.patches * 768},
                                {"features of patches", step.patches * 4 * features},
                                {"cells of patches", kFloatBytes * step.patches * 16 * config.patch_channels}};
  // Backward is at its widest where it begins, with everything above still held: at the head and the final norm (with
  // recomputation without the inside of a block); at the last layer's feed-forward, when the head's part is gone; or at
  // its attention, when the feed-forward's is gone too. The patch embedder comes last, when the blocks' part is gone.
  const int64_t inside = all * block + weights;
  const int64_t scores =
      relative ? 4 * kFloatBytes * kernels::relative_scores_at_once(step.row_tokens, config.heads) + distances : 0;
  parts.push_back({"temporary, in backward",
                   std::max({step.loss_positions * kFloatBytes * width - (step.recompute ? inside : 0),
                             tokens * (element * config.hidden + kFloatBytes * width) - logits,
                             tokens * (3 * element * attention + 2 * kFloatBytes * width - feed) + scores - logits,
                             3 * step.patches * features - inside - kept - logits, int64_t{0}})});
  std::erase_if(parts, [](const NamedCount& part) { return part.count == 0; });
  return parts;
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
  const double again = step.recompute ? products + scores + distances : 0;
  return 2 * (3 * products + 3.5 * scores + 2 * distances + again + 3 * head +
              patches * (3 * patch_multiply_adds(config) + 2 * stem_multiply_adds(config)));
}

}  // namespace gato::model

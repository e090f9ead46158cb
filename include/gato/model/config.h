#pragma once
#include <cstdint>

#include "gato/core/config.h"

namespace gato::model {

/// How attention knows the order of tokens.
enum class PositionEncoding {
  kRotary,    ///< Queries and keys rotated by the index inside the sequence; no parameters.
  kRelative,  ///< Transformer-XL's distances with a projection and two biases per head: what the paper's sizes imply.
  kNone,      ///< Only local observation and patch positions.
};
GATO_CONFIG_ENUM(PositionEncoding, 3, {"rotary", PositionEncoding::kRotary}, {"relative", PositionEncoding::kRelative},
                 {"none", PositionEncoding::kNone})

/// In which type activations go through matrix products.
enum class Precision {
  kFp32,
  kBf16,  ///< With a bf16 copy of the parameters; parameters, gradients, residual stream, norms and losses stay fp32.
};
GATO_CONFIG_ENUM(Precision, 2, {"fp32", Precision::kFp32}, {"bf16", Precision::kBf16})

/// The transformer's shape (`model` in a config file). Defaults are the 79 M model of the paper (appendix C.1).
struct ModelConfig {
  int64_t layers = 8;
  int64_t width = 768;
  int64_t heads = 24;
  int64_t head_dim = 32;
  int64_t hidden = 3072;
  PositionEncoding position = PositionEncoding::kRotary;
  double rotary_base = 10000;
  bool tied = true;
  int64_t patch_channels = 32;
  int64_t patch_stride = 1;
  double stochastic_depth = 0.1;
  double dropout = 0;
  bool action_positions = true;
  bool action_inputs = true;
  Precision precision = Precision::kFp32;
};
GATO_CONFIG(
    ModelConfig, GATO_FIELD(layers, "Transformer blocks; 1 to 1024."),
    GATO_FIELD(width, "Length of a token's vector; 1 to 65536."), GATO_FIELD(heads, "Attention heads; 1 to 1024."),
    GATO_FIELD(head_dim, "Length of a head's queries, keys and values; 1 to 512, even with rotary positions."),
    GATO_FIELD(hidden, "Feed-forward width before GEGLU splits it in halves; even, 2 to 262144."),
    GATO_FIELD(position, "rotary, relative (Transformer-XL, as the paper's sizes imply) or none."),
    GATO_FIELD(rotary_base, "Base of the rotary angles; > 1."),
    GATO_FIELD(tied, "Whether the head is the token table."),
    GATO_FIELD(patch_channels,
               "Channels of the patch embedder; 1 to 1024, a multiple of 32 above 32. Groups are min(32, channels)."),
    GATO_FIELD(patch_stride, "Stride of the patch embedder's first convolution: 1, or 2 at a quarter of the cost."),
    GATO_FIELD(stochastic_depth,
               "Probability that a row skips an attention or feed-forward layer in training; in [0, 1)."),
    GATO_FIELD(
        dropout,
        "Probability that an element of an attention or feed-forward layer's output is dropped in training; in [0, "
        "1). The paper fine-tunes with 0.1 and trains without."),
    GATO_FIELD(
        action_positions,
        "Whether discrete and continuous action tokens share one row of the local position table, as the paper's "
        "text says; false: they have none, as its figure 18 says."),
    GATO_FIELD(
        action_inputs,
        "Whether the model sees the values of earlier discrete and continuous action tokens; false: only that they "
        "are there, as in the paper's real-time control of robots."),
    GATO_FIELD(precision,
               "fp32 or bf16: the type of activations in matrix products. bf16 is faster where the "
               "processor has AVX512-BF16, and slower where it lacks AVX-512."))
void validate_config(const ModelConfig& config, ConfigProblems& problems);

/// What the tokenizer's vocabulary says of the model's tables.
struct ModelShape {
  int64_t vocabulary_size = 0;  ///< Rows of the token table.
  int64_t first_bin = 0;        ///< Id of value bin 0.
  int64_t num_bins = 0;         ///< Value bins; their rows start smooth in the value. 0: none.
  bool operator==(const ModelShape&) const = default;
};

constexpr int64_t kLocalPositionRows = 513;  ///< 512 places inside an observation and one row for all actions.
constexpr int64_t kActionPositionRow = 512;  ///< That row.
constexpr int64_t kPatchPositionRows = 128;  ///< Intervals of patch rows, and of patch columns.

}  // namespace gato::model

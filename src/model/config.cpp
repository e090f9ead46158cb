#include "gato/model/config.h"

#include <algorithm>

namespace gato::model {
namespace {

void check_range(ConfigProblems& problems, const char* key, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) problems.add(key, cat("must be in [", low, ", ", high, "], is ", value));
}

}  // namespace

void validate_config(const ModelConfig& config, ConfigProblems& problems) {
  check_range(problems, "layers", config.layers, 1, 1024);
  check_range(problems, "width", config.width, 1, 65536);
  check_range(problems, "heads", config.heads, 1, 1024);
  check_range(problems, "head_dim", config.head_dim, 1, 512);
  check_range(problems, "hidden", config.hidden, 2, 262144);
  check_range(problems, "patch_channels", config.patch_channels, 1, 1024);
  check_range(problems, "patch_stride", config.patch_stride, 1, 2);
  if (config.hidden % 2 != 0) problems.add("hidden", cat("must be even, is ", config.hidden));
  if (config.position == PositionEncoding::kRotary && config.head_dim % 2 != 0) {
    problems.add("head_dim", cat("must be even with rotary positions, is ", config.head_dim));
  }
  if (!(config.rotary_base > 1) || config.rotary_base > 1e12) {
    problems.add("rotary_base", cat("must be above 1 and at most 1e12, is ", config.rotary_base));
  }
  if (config.patch_channels > 32 && config.patch_channels % 32 != 0) {
    problems.add("patch_channels", cat("must be a multiple of 32 above 32, is ", config.patch_channels));
  }
  for (const auto& [key, value] :
       {std::pair("stochastic_depth", config.stochastic_depth), std::pair("dropout", config.dropout)}) {
    if (!(value >= 0 && value < 1)) problems.add(key, cat("must be in [0, 1), is ", value));
  }
}

}  // namespace gato::model

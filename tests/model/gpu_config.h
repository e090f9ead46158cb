#pragma once
#include "model/small_model.h"

namespace gato::model::testing {

/// Of a shape that our attention takes.
inline ModelConfig gpu_config(Precision precision) {
  ModelConfig config = small_config();
  config.width = 48;
  config.heads = 2;
  config.head_dim = 32;
  config.hidden = 40;
  config.patch_channels = 8;
  config.precision = precision;
  return config;
}

}  // namespace gato::model::testing

#pragma once
#include <cstdint>

#include "gato/core/random.h"

namespace gato::env {

/// The random numbers of random play in the episode of `seed`, the same for a Policy and for a reference measurement.
[[nodiscard]] Rng random_play_stream(uint64_t seed);

}  // namespace gato::env

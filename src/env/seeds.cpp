#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/env/rollout.h"

namespace gato::env {

uint64_t seed_for(SeedUse use, uint64_t seed, const std::string& task, int64_t index) {
  GATO_CHECK(index >= 0, "seed_for: index ", index, " of task ", task);
  const uint64_t mixed = mix_seed(seed, {hash_name("episode"), hash_name(task), static_cast<uint64_t>(index)});
  return (mixed & ~uint64_t{3}) | static_cast<uint64_t>(use);
}

std::vector<uint64_t> seeds_for(SeedUse use, uint64_t seed, const std::string& task, int64_t count) {
  std::vector<uint64_t> seeds;
  for (int64_t i = 0; i < count; ++i) seeds.push_back(seed_for(use, seed, task, i));
  return seeds;
}

}  // namespace gato::env

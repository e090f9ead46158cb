#include <gtest/gtest.h>

#include <set>

#include "gato/core/error.h"
#include "gato/env/rollout.h"

namespace gato::env {
namespace {

TEST(SeedForTest, UsesNeverMeet) {
  for (const uint64_t seed : {0ULL, 1ULL, ~0ULL}) {
    for (int64_t index = 0; index < 1000; ++index) {
      EXPECT_EQ(seed_for(SeedUse::kData, seed, "grid/go_to", index) & 3, 0u);
      EXPECT_EQ(seed_for(SeedUse::kReference, seed, "grid/go_to", index) & 3, 1u);
      EXPECT_EQ(seed_for(SeedUse::kEvaluation, seed, "grid/go_to", index) & 3, 2u);
    }
  }
}

TEST(SeedForTest, DependsOnEveryArgument) {
  std::set<uint64_t> seeds;
  int count = 0;
  for (const SeedUse use : {SeedUse::kData, SeedUse::kReference, SeedUse::kEvaluation}) {
    for (const uint64_t seed : {0ULL, 1ULL, 2ULL}) {
      for (const char* task : {"a/b", "a/c"}) {
        for (const uint64_t value : seeds_for(use, seed, task, 100)) {
          seeds.insert(value);
          ++count;
        }
      }
    }
  }
  EXPECT_EQ(seeds.size(), static_cast<size_t>(count));
}

TEST(SeedForTest, StaysTheSameForEver) {
  // Scores of different versions compare only while these do not move.
  EXPECT_EQ(seed_for(SeedUse::kData, 0, "grid/go_to", 0), 12004361228156000768u);
  EXPECT_EQ(seed_for(SeedUse::kReference, 7, "control/reacher", 41), 10402604600163236121u);
  EXPECT_EQ(seed_for(SeedUse::kEvaluation, 1, "pictures/caption", 49), 17748974920388489238u);
}

TEST(SeedForTest, RefusesNegativeIndices) {
  EXPECT_THROW(static_cast<void>(seed_for(SeedUse::kData, 0, "a/b", -1)), ContractError);
}

}  // namespace
}  // namespace gato::env

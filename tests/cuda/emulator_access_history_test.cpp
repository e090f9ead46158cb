// The compressed history of a granule against one that keeps every access: the same first race, and none invented.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "cuda_emulation/access_history.h"

namespace gato::emulator_tests {
namespace {

using namespace cuda_emulation;

struct PastAccess {
  Accessor who;
  bool write;
};

bool ordered(const Accessor& before, const Accessor& after, uint32_t first_block) {
  if (before.block < first_block) return true;
  if (before.block != after.block) return false;
  if (before.interval != after.interval) return true;
  if (before.thread == after.thread && !before.whole_warp && !after.whole_warp) return true;
  return before.thread / 32 == after.thread / 32 && before.step != after.step;
}

bool races(const std::vector<PastAccess>& past, const PastAccess& now, uint32_t first_block) {
  for (const PastAccess& before : past) {
    const bool harmless = (!before.write && !now.write) || (before.who.atomic && now.who.atomic);
    if (!harmless && !ordered(before.who, now.who, first_block)) return true;
  }
  return false;
}

/// Two blocks at a time with two warps of four used lanes, in a random interleaving; a new launch now and then.
class RandomRun {
 public:
  explicit RandomRun(uint32_t seed) : random_(seed) {}

  /// Goes on until the first race or 200 events. Fails the test when the two histories disagree.
  void compare() {
    for (int event = 0; event < 200; ++event) {
      const uint32_t kind = random_() % 16;
      const uint32_t block = random_() % 2;
      const uint32_t warp = random_() % 2;
      if (kind == 0) {
        first_block_ += 2;
        intervals_ = {1, 1};
        steps_ = {{{1, 1}, {1, 1}}};
      } else if (kind <= 3) {
        ++intervals_[block];
      } else if (kind <= 6) {
        ++steps_[block][warp];
      } else if (access(block, warp, kind)) {
        return;
      }
    }
  }

 private:
  bool access(uint32_t block, uint32_t warp, uint32_t kind) {
    PastAccess now{{first_block_ + block, intervals_[block], steps_[block][warp],
                    static_cast<uint16_t>(warp * 32 + random_() % 4)},
                   kind >= 13};
    now.who.atomic = kind == 15;
    now.who.whole_warp = kind == 12;
    const bool expected = races(past_, now, first_block_);
    const Conflict found = now.write ? history_.write(now.who, first_block_) : history_.read(now.who, first_block_);
    EXPECT_EQ(found.found, expected) << "after " << past_.size() << " accesses";
    past_.push_back(now);
    return expected || found.found;
  }

  std::mt19937 random_;
  AccessHistory history_;
  std::vector<PastAccess> past_;
  uint32_t first_block_ = 1;
  std::array<uint32_t, 2> intervals_ = {1, 1};
  std::array<std::array<uint32_t, 2>, 2> steps_ = {{{1, 1}, {1, 1}}};
};

TEST(AccessHistory, FindsTheFirstRaceAndInventsNone) {
  for (uint32_t seed = 0; seed < 20000 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    RandomRun(seed).compare();
  }
}

TEST(AccessHistory, AReadOfTheWholeWarpNeedsItsOwnLanesOrdered) {
  AccessHistory history;
  Accessor writer{1, 1, 1, 3};
  Accessor warp{1, 1, 1, 3};
  warp.whole_warp = true;
  EXPECT_FALSE(history.write(writer, 1).found);
  EXPECT_TRUE(history.read(warp, 1).found);

  AccessHistory other;
  EXPECT_FALSE(other.read(warp, 1).found);
  EXPECT_TRUE(other.write(writer, 1).found);  // other lanes took part in the read
  AccessHistory later;
  EXPECT_FALSE(later.write(writer, 1).found);
  warp.step = 2;
  EXPECT_FALSE(later.read(warp, 1).found);
}

TEST(AccessHistory, NamesTheOtherSide) {
  AccessHistory history;
  EXPECT_FALSE(history.write({7, 1, 1, 40}, 7).found);
  const Conflict conflict = history.read({8, 1, 1, 2}, 7);
  EXPECT_TRUE(conflict.found && conflict.wrote && conflict.other_block);
  EXPECT_EQ(conflict.thread, 40);
  history.forget();
  EXPECT_FALSE(history.write({8, 1, 1, 2}, 7).found);
}

}  // namespace
}  // namespace gato::emulator_tests

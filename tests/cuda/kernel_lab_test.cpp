// The ladder of tools/kernel_lab: every rung is right, and is what its README says of it.
#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "kernel_lab/climb.h"

namespace gato::kernel_lab {
namespace {

TEST(KernelLabTest, EveryRungIsRightWithoutAFault) {
  for (const int tokens : {1, 33, 64, 100}) {
    const Problem problem = make_problem(tokens, static_cast<uint64_t>(tokens));
    for (const Rung& rung : kLadder) {
      const Climb result = climb(rung, problem);
      EXPECT_EQ(result.fault, "") << rung.name << ", " << tokens << " tokens";
      EXPECT_LT(result.worst_error, kAllowedError) << rung.name << ", " << tokens << " tokens";
    }
  }
}

TEST(KernelLabTest, AnyOrderOfBlocksWarpsAndLanesGivesTheSameBits) {
  const Problem problem = make_problem(130);
  for (const Rung& rung : kLadder) {
    const Climb in_order = climb(rung, problem), shuffled = climb(rung, problem, 7);
    EXPECT_EQ(shuffled.fault, "") << rung.name;
    EXPECT_EQ(in_order.results, shuffled.results) << rung.name;
  }
}

TEST(KernelLabTest, EachRungHasWhatItsIdeaGives) {
  const Problem problem = make_problem(256);
  std::vector<cuda_emulation::Counters> counters;
  for (const Rung& rung : kLadder) counters.push_back(climb(rung, problem).counters);
  const auto& [plain, tiled, tensor_cores, pipelined] = std::tie(counters[0], counters[1], counters[2], counters[3]);
  EXPECT_LT(10 * tiled.global_sectors, plain.global_sectors) << "a tile is read for 64 queries";
  EXPECT_EQ(plain.shared_requests, 0u);
  EXPECT_EQ(tiled.mma, 0u);
  EXPECT_LT(tensor_cores.shared_requests, tiled.shared_requests / 10) << "an operand serves 4096 products";
  // 4 + 4 products of 16 x 16 x 8 times 8 per tile of 64 keys and warp; 10 tiles of 64 x 64 up to the diagonal.
  EXPECT_EQ(tensor_cores.mma, 10u * 4 * 64);
  EXPECT_GT(tensor_cores.conflict_factor(), 5);
  EXPECT_NEAR(pipelined.conflict_factor(), 1, 0.02);
  EXPECT_LT(pipelined.block_barriers, tensor_cores.block_barriers);
  EXPECT_LE(pipelined.global_requests, tensor_cores.global_requests);
  EXPECT_LE(pipelined.sector_factor(), 1.01);
}

}  // namespace
}  // namespace gato::kernel_lab

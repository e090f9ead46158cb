#pragma once
#include <string>
#include <vector>

#include "cuda_emulation/counters.h"
#include "kernel_lab/lab.h"

/// Runs rungs of the ladder under emulation beside plain fp64 loops.
namespace gato::kernel_lab {

/// Seeded values as bfloat16 holds them, [tokens, kHeadDim], and the exact result.
struct Problem {
  int tokens = 0;
  std::vector<uint16_t> query, key, value;
  std::vector<double> out;
};
[[nodiscard]] Problem make_problem(int tokens, uint64_t seed = 1);

struct Climb {
  cuda_emulation::Counters counters;
  double worst_error = 0;         ///< Largest difference from the exact result; infinite where one is no number.
  std::string fault;              ///< First one that the emulator found; "" when there is none.
  std::vector<uint16_t> results;  ///< Of the rung, [tokens, kHeadDim].
};
/// `schedule_seed`: another order of blocks, warps and lanes; 0: in order.
[[nodiscard]] Climb climb(const Rung& rung, const Problem& problem, uint32_t schedule_seed = 0);

/// What bfloat16 weights and results allow for values of order one.
inline constexpr double kAllowedError = 0.04;

}  // namespace gato::kernel_lab

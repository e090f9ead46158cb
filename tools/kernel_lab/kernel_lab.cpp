// kernel_lab [TOKENS]: climbs the ladder under emulation with 256 tokens or TOKENS, and prints what each rung asks of
// memory and tensor cores. Exits 1 where a rung is wrong or the emulator finds a fault.
#include <iomanip>
#include <iostream>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "kernel_lab/climb.h"

namespace {

int run(int argc, char** argv) {
  using namespace gato;
  const int tokens = argc > 1 ? std::stoi(argv[1]) : 256;
  GATO_CHECK(tokens >= 1 && tokens <= 4096, "TOKENS must be in 1 .. 4096, is ", tokens);
  std::cout
      << "One head of " << kernel_lab::kHeadDim << ", " << tokens << " tokens, per query:\n"
      << "              global requests  sectors   per needed  shared requests  cycles per phase     mma  barriers\n";
  const auto problem = kernel_lab::make_problem(tokens);
  const double queries = tokens;
  for (const kernel_lab::Rung& rung : kernel_lab::kLadder) {
    const kernel_lab::Climb climb = kernel_lab::climb(rung, problem);
    if (!climb.fault.empty()) throw ContractError(cat(rung.name, ": ", climb.fault));
    if (climb.worst_error > kernel_lab::kAllowedError)
      throw ContractError(cat(rung.name, " is off by ", climb.worst_error));
    const auto& c = climb.counters;
    const auto per_query = [&](uint64_t count) { return static_cast<double>(count) / queries; };
    std::cout << std::left << std::setw(13) << rung.name << std::right << std::fixed << std::setprecision(1)
              << std::setw(16) << per_query(c.global_requests) << std::setw(9) << per_query(c.global_sectors)
              << std::setw(13) << c.sector_factor() << std::setw(17) << per_query(c.shared_requests) << std::setw(18)
              << c.conflict_factor() << std::setw(8) << per_query(c.mma) << std::setw(10) << std::setprecision(2)
              << per_query(c.block_barriers) << '\n';
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "kernel_lab: " << error.what() << '\n';
    return 1;
  }
}

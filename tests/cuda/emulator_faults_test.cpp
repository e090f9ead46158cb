// Every planted fault is seen, said to be what it is, and placed at its line; correct neighbours pass unremarked; both
// under several schedules.
#include "cuda/emulator_faults.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "cuda_emulation/test_device.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::emulator_tests {
namespace {

using namespace cuda_emulation;

constexpr int kSize = 128;

struct Expectation {
  FaultKind kind;
  std::string says;    ///< Part of the message.
  std::string buffer;  ///< Name of the buffer or array; empty: not looked at.
};

const std::map<std::string, Expectation>& expectations() {
  using enum FaultKind;
  static const std::map<std::string, Expectation> all = {
      {"past_the_end", {kOutOfBounds, "writes 4 bytes at offset 512 of buffer 'data' (512 bytes)", "data"}},
      {"in_front", {kOutOfBounds, "reads 4 bytes at offset -4 of buffer 'data'", "data"}},
      {"vector_past_the_end", {kOutOfBounds, "writes 16 bytes at offset 512 of buffer 'data'", "data"}},
      {"structure_past_the_end", {kOutOfBounds, "reads 4 bytes at offset 512 of buffer 'data'", "data"}},
      {"memcpy_past_the_end", {kOutOfBounds, "reads 4 bytes at offset 512 of buffer 'data'", "data"}},
      {"host_memory", {kOutOfBounds, "in no buffer", ""}},
      {"other_threads_local", {kOutOfBounds, "in no buffer", ""}},
      {"past_static_shared", {kOutOfBounds, "reads 4 bytes outside", "shared array 'first'"}},
      {"past_dynamic_shared", {kOutOfBounds, "dynamic shared memory + 256 of 256 bytes", "dynamic shared memory"}},
      {"write_to_input", {kReadOnly, "writes to an input (buffer 'input'", "input"}},
      {"atomic_outside", {kOutOfBounds, "offset 4 of buffer 'counter' (4 bytes)", "counter"}},
      {"unwritten_shared", {kUnwritten, "shared array 'values' + 252 of 256 bytes", "shared array 'values'"}},
      {"unwritten_shared_update", {kUnwritten, "nothing has written", "shared array 'values'"}},
      {"shared_of_last_block", {kUnwritten, "block (1, 0, 0)", "shared array 'values'"}},
      {"unwritten_global", {kUnwritten, "nothing has written", "output"}},
      {"missing_barrier", {kSharedRace, "no barrier between", "shared array 'values'"}},
      {"missing_barrier_before_write", {kSharedRace, "writes after thread", "shared array 'values'"}},
      {"warp_barrier_for_block", {kSharedRace, "reads after thread", "shared array 'values'"}},
      {"missing_warp_barrier", {kSharedRace, "no barrier between", "shared array 'values'"}},
      {"shuffle_for_barrier", {kSharedRace, "reads after thread", "shared array 'values'"}},
      {"ldmatrix_without_barrier", {kSharedRace, "reads after thread", "shared array 'rows'"}},
      {"two_writers", {kSharedRace, "writes after thread", "shared array 'values'"}},
      {"global_race_in_block", {kGlobalRace, "no barrier between (buffer 'data'", "data"}},
      {"global_race_of_writers", {kGlobalRace, "of another block wrote, and blocks are not ordered", "output"}},
      {"global_race_of_reader", {kGlobalRace, "blocks are not ordered", "data"}},
      {"plain_beside_atomic", {kGlobalRace, "blocks are not ordered", "counter"}},
      {"barrier_in_one_warp", {kDivergence, "not reached by all", ""}},
      {"two_barriers", {kDivergence, "not reached by all", ""}},
      {"exit_before_barrier", {kDivergence, "not reached by all", ""}},
      {"barrier_and_shuffle", {kDivergence, "not reached by all", ""}},
      {"warp_barrier_of_half", {kDivergence, "__syncwarp", ""}},
      {"shuffle_under_divergence", {kDivergence, "a warp diverged: lane", ""}},
      {"shuffle_of_absent_lane", {kDivergence, "reads lane 20, which does not take part", ""}},
      {"caller_outside_mask", {kDivergence, "the calling lane is not in the mask 0x0000ffff", ""}},
      {"mma_of_half_a_warp", {kDivergence, "mma in a warp of less than 32 threads", ""}},
      {"misaligned_global", {kMisaligned, "no multiple", ""}},
      {"misaligned_shared", {kMisaligned, "no multiple", ""}},
      {"misaligned_vector", {kMisaligned, "reads 16 bytes at an address that is no multiple", "data"}},
      {"misaligned_plain_vector", {kMisaligned, "no multiple", ""}},
      {"misaligned_ldmatrix", {kMisaligned, "reads 16 bytes", "shared array 'values'"}},
      {"ldmatrix_of_global", {kBadInstruction, "not in shared memory", ""}},
      {"shuffle_width", {kBadInstruction, "width 24", ""}},
      {"too_much_static_shared", {kBadInstruction, "of which 49152 for static arrays", "values"}},
      {"copy_read_early", {kAsyncCopy, "reads shared memory that a cp.async of thread", "shared array 'values'"}},
      {"copy_of_newest_group", {kAsyncCopy, "is still filling", "shared array 'values'"}},
      {"copy_not_committed", {kAsyncCopy, "is still filling", "shared array 'values'"}},
      {"copy_without_barrier", {kSharedRace, "reads after thread", "shared array 'values'"}},
      {"copy_barrier_before_wait", {kSharedRace, "reads after thread", "shared array 'values'"}},
      {"copy_overwritten", {kAsyncCopy, "writes shared memory that a cp.async", "shared array 'values'"}},
      {"copy_at_exit", {kAsyncCopy, "ends while its cp.async is under way", ""}},
      {"copy_misaligned", {kMisaligned, "cp.async of 16 bytes", ""}},
      {"copy_past_the_end", {kOutOfBounds, "offset 512 of buffer 'data'", "data"}},
      {"copy_of_shared", {kBadInstruction, "the source is not global memory", ""}},
      {"copy_too_long", {kBadInstruction, "cp.async of 4 bytes takes 8", ""}},
      {"local_array_overrun", {kUndefined, "is outside its array", ""}},
      {"shift_too_far", {kUndefined, "a shift by 32 bits", ""}},
      {"division_by_zero", {kUndefined, "a division by zero", ""}},
      {"signed_overflow", {kUndefined, "a signed sum that overflows", ""}},
  };
  return all;
}

/// Lines of emulator_faults.cu marked with the kernel's name.
std::set<unsigned> marked_lines(const std::string& name) {
  std::ifstream source(cat(GATO_SOURCE_DIR, "/tests/cuda/emulator_faults.cu"));
  std::set<unsigned> lines;
  std::string text;
  for (unsigned number = 1; std::getline(source, text); ++number) {
    if (text.ends_with("// <-- " + name)) lines.insert(number);
  }
  return lines;
}

/// A device with the arguments of the kernels.
struct Bench {
  explicit Bench(Options options) : device(options) {
    std::vector<float> values(kSize);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    data.upload(values);
    input = device.input("input", values);
    bytes.fill(0);
    counter.fill(0);
  }
  [[nodiscard]] FaultArguments arguments() const {
    return {data.data(), input.data(), output.data(), bytes.data(), counter.data(), kSize};
  }

  TestDevice device;
  Buffer<float> data = device.buffer<float>("data", kSize);
  Buffer<float> input = device.buffer<float>("", 0);
  Buffer<float> output = device.buffer<float>("output", kSize);
  Buffer<unsigned char> bytes = device.buffer<unsigned char>("bytes", 4 * kSize);
  Buffer<int> counter = device.buffer<int>("counter", 1);
};

std::string list(const std::vector<Fault>& faults) {
  std::string text;
  for (const Fault& fault : faults) text += "\n  " + fault.message;
  return text;
}

TEST(EmulatorFaults, EveryKernelHasAnExpectation) {
  for (const std::string& name : planted_names()) EXPECT_TRUE(expectations().contains(name)) << name;
  EXPECT_EQ(planted_names().size(), expectations().size());
}

class PlantedFault : public testing::TestWithParam<std::string> {};

TEST_P(PlantedFault, IsReported) {
  const std::string& name = GetParam();
  const Expectation& expected = expectations().at(name);
  const std::set<unsigned> lines = marked_lines(name);
  for (const uint32_t seed : {0u, 1u, 2u, 77u}) {
    SCOPED_TRACE(seed);
    Bench bench({.schedule_seed = seed});
    run_planted(name, bench.arguments());
    const std::vector<Fault> faults = bench.device.take_faults();
    const auto found = std::find_if(faults.begin(), faults.end(), [&](const Fault& fault) {
      return fault.kind == expected.kind && fault.message.find(expected.says) != std::string::npos;
    });
    ASSERT_NE(found, faults.end()) << list(faults);
    EXPECT_EQ(found->kernel, name);
    if (!expected.buffer.empty()) {
      EXPECT_EQ(found->buffer, expected.buffer);
    }
    if (!lines.empty()) {
      EXPECT_EQ(found->file, "emulator_faults.cu");
      EXPECT_TRUE(lines.contains(found->line)) << found->message;
      EXPECT_NE(found->message.find(cat("emulator_faults.cu:", found->line)), std::string::npos) << found->message;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PlantedFault, testing::ValuesIn(planted_names()),
                         [](const auto& instance) { return instance.param; });

class CleanKernel : public testing::TestWithParam<std::string> {};

TEST_P(CleanKernel, IsNotReported) {
  for (const uint32_t seed : {0u, 1u, 2u, 77u}) {
    SCOPED_TRACE(seed);
    Bench bench({.schedule_seed = seed});
    run_planted(GetParam(), bench.arguments());
    bench.device.expect_no_faults();
    run_planted(GetParam(), bench.arguments());  // launches are ordered among themselves
  }
  Bench threads({.host_threads = 2});
  run_planted(GetParam(), threads.arguments());
}

INSTANTIATE_TEST_SUITE_P(All, CleanKernel, testing::ValuesIn(clean_names()),
                         [](const auto& instance) { return instance.param; });

TEST(EmulatorFaults, FreedMemoryIsNamed) {
  Bench bench({});
  FaultArguments arguments = bench.arguments();
  {
    auto gone = bench.device.buffer<float>("gone", std::vector<float>(kSize, 1.0f));
    arguments.data = gone.data();
  }
  run_planted("clean_block_exchange", arguments);
  const std::vector<Fault> faults = bench.device.take_faults();
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].kind, FaultKind::kOutOfBounds);
  EXPECT_NE(faults[0].message.find("of buffer 'gone' (512 bytes, freed)"), std::string::npos) << faults[0].message;
}

TEST(EmulatorFaults, AFatalFaultStopsTheDeviceUntilTaken) {
  Bench bench({});
  run_planted("past_the_end", bench.arguments());
  EXPECT_EQ(bench.device.num_faults(), 1u);
  run_planted("clean_early_exit", bench.arguments());
  EXPECT_EQ(bench.device.num_launches("clean_early_exit"), 0u);
  bench.device.take_faults();
  run_planted("clean_early_exit", bench.arguments());
  EXPECT_EQ(bench.device.num_launches("clean_early_exit"), 1u);
  EXPECT_EQ(bench.output.download()[0], 1.0f);
  EXPECT_EQ(bench.output.first_unwritten(), 40u);
}

TEST(EmulatorFaults, ManyOfAPlaceAreCountedAndFewKept) {
  Bench bench({});
  run_planted("missing_barrier", bench.arguments());
  EXPECT_GE(bench.device.num_faults(), 64u);
  EXPECT_LE(bench.device.take_faults().size(), 6u);
  EXPECT_EQ(bench.device.num_faults(), 0u);
}

TEST(EmulatorFaults, FaultsCarryBlockThreadAndOffset) {
  Bench bench({});
  run_planted("past_the_end", bench.arguments());
  const std::vector<Fault> faults = bench.device.take_faults();
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].block[0], 1u);
  EXPECT_EQ(faults[0].thread, 63);
  EXPECT_EQ(faults[0].offset, 512);
}

TEST(EmulatorFaults, ChecksCanBeOff) {
  Bench bench({.checks = false});
  run_planted("missing_barrier_before_write", bench.arguments());
  EXPECT_EQ(bench.device.num_faults(), 0u);
}

}  // namespace
}  // namespace gato::emulator_tests

// Counters against calculations by hand.
#include "cuda/emulator_counters.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/emulator_semantics.h"
#include "cuda_emulation/test_device.h"

namespace gato::emulator_tests {
namespace {

using namespace cuda_emulation;

struct GlobalCase {
  const char* name;
  int stride, offset, bytes, lanes;
  uint64_t sectors, ideal;
};

class GlobalSectors : public testing::TestWithParam<GlobalCase> {};

TEST_P(GlobalSectors, AgreeWithHandCalculation) {
  const GlobalCase& c = GetParam();
  TestDevice device;
  auto in = device.buffer<float>("in", std::vector<float>(2048, 1.0f));
  auto out = device.buffer<float>("out", 32);
  read_global(in.data(), out.data(), c.stride, c.offset, c.bytes, c.lanes);
  const Counters counters = device.counters();
  const uint64_t lanes = static_cast<uint64_t>(c.lanes);
  const uint64_t written_sectors = (lanes * 4 + 31) / 32;
  EXPECT_EQ(counters.global_requests, 2u);  // the read, and the write of the result
  EXPECT_EQ(counters.global_sectors, c.sectors + written_sectors);
  EXPECT_EQ(counters.global_ideal_sectors, c.ideal + written_sectors);
  EXPECT_EQ(counters.global_bytes_read, lanes * static_cast<uint64_t>(c.bytes));
  EXPECT_EQ(counters.global_bytes_written, lanes * 4);
  EXPECT_EQ(counters.shared_requests, 0u);
}

// 32 lanes x 4 bytes = 128 bytes = 4 sectors of 32; and so on.
INSTANTIATE_TEST_SUITE_P(
    Reads, GlobalSectors,
    testing::Values(GlobalCase{"words_in_a_row", 1, 0, 4, 32, 4, 4},
                    GlobalCase{"words_in_a_row_off_by_one", 1, 1, 4, 32, 5, 4},
                    GlobalCase{"every_second_word", 2, 0, 4, 32, 8, 4}, GlobalCase{"a_sector_each", 8, 0, 4, 32, 32, 4},
                    GlobalCase{"farther_apart", 33, 0, 4, 32, 32, 4}, GlobalCase{"all_the_same", 0, 0, 4, 32, 1, 1},
                    GlobalCase{"pairs_in_a_row", 2, 0, 8, 32, 8, 8},
                    GlobalCase{"vectors_in_a_row", 4, 0, 16, 32, 16, 16},
                    GlobalCase{"vectors_apart", 8, 0, 16, 32, 32, 16}, GlobalCase{"one_lane", 1, 0, 4, 1, 1, 1},
                    GlobalCase{"nine_lanes", 1, 0, 4, 9, 2, 2}),
    [](const auto& instance) { return instance.param.name; });

struct SharedCase {
  const char* name;
  int stride, bytes;
  uint64_t phases, cycles;
};

class SharedBanks : public testing::TestWithParam<SharedCase> {};

TEST_P(SharedBanks, AgreeWithHandCalculation) {
  const SharedCase& c = GetParam();
  TestDevice device;
  auto out = device.buffer<float>("out", 32);
  touch_shared(out.data(), c.stride, c.bytes);
  const Counters counters = device.counters();
  EXPECT_EQ(counters.shared_requests, 2u);  // the write and the read
  EXPECT_EQ(counters.shared_phases, 2 * c.phases);
  EXPECT_EQ(counters.shared_cycles, 2 * c.cycles);
}

INSTANTIATE_TEST_SUITE_P(
    Accesses, SharedBanks,
    testing::Values(SharedCase{"words_in_a_row", 1, 4, 1, 1}, SharedCase{"every_second_word", 2, 4, 1, 2},
                    SharedCase{"odd_stride", 33, 4, 1, 1}, SharedCase{"one_bank", 32, 4, 1, 32},
                    SharedCase{"halves_in_a_row", 1, 2, 1, 1}, SharedCase{"pairs_in_a_row", 1, 8, 2, 2},
                    SharedCase{"every_second_pair", 2, 8, 2, 4}, SharedCase{"vectors_in_a_row", 1, 16, 4, 4},
                    SharedCase{"rows_of_128_bytes", 8, 16, 4, 32}),
    [](const auto& instance) { return instance.param.name; });

TEST(EmulatorCounters, ABroadcastIsOneCycle) {
  TestDevice device;
  auto out = device.buffer<float>("out", 32);
  read_shared_broadcast(out.data());
  const Counters counters = device.counters();
  EXPECT_EQ(counters.shared_requests, 2u);  // lane 0's write, all lanes' read
  EXPECT_EQ(counters.shared_cycles, 2u);
}

double tile_factor(int columns, bool swizzled) {
  TestDevice device;
  auto out = device.buffer<float>("out", 32);
  load_tile(out.data(), columns, swizzled);
  const std::vector<SiteCounters> sites = device.site_counters();
  const auto load =
      std::find_if(sites.begin(), sites.end(), [](const auto& site) { return site.shared && !site.write; });
  EXPECT_EQ(load->requests, static_cast<uint64_t>(columns / 8));
  EXPECT_EQ(load->phases, 4u * load->requests);
  return static_cast<double>(load->cycles) / static_cast<double>(load->phases);
}

// Rows of 64 halves are 128 bytes: column c of every row lies in the same four banks, unless it is moved about.
TEST(EmulatorCounters, SwizzledTilesHaveNoConflicts) {
  EXPECT_EQ(tile_factor(64, true), 1.0);
  EXPECT_EQ(tile_factor(64, false), 8.0);
  EXPECT_EQ(tile_factor(128, true), 1.0);
  EXPECT_EQ(tile_factor(128, false), 8.0);
  EXPECT_EQ(tile_factor(32, false), 4.0);  // 64 bytes: every second row in other banks
}

TEST(EmulatorCounters, DivergedLanesMakeRequestsOfTheirOwn) {
  TestDevice device;
  auto in = device.input<float>("in", std::vector<float>(32, 1.0f));
  auto out = device.buffer<float>("out", 32);
  diverge(in.data(), out.data());
  EXPECT_EQ(out.download()[31], 2.0f + 32.0f);
  const Counters counters = device.counters();
  // Even lanes, odd lanes, 32 rounds of the loop, the result.
  EXPECT_EQ(counters.global_requests, 1u + 1u + 32u + 1u);
  EXPECT_EQ(counters.global_sectors, 4u + 4u + 32u + 4u);
  EXPECT_EQ(counters.global_bytes_read, (32u + 32u * 33u / 2u) * 4u);
}

TEST(EmulatorCounters, InstructionsAreCounted) {
  for (const uint32_t seed : {0u, 5u}) {
    TestDevice device({.schedule_seed = seed, .host_threads = 2});
    auto out = device.buffer<float>("out", 3 * 64);
    auto counter = device.buffer<int>("counter", std::vector<int>{0});
    instruction_mix(out.data(), counter.data());
    const Counters counters = device.counters();
    EXPECT_EQ(counters.blocks, 3u);
    EXPECT_EQ(counters.mma, 3u * 2u * 5u);
    EXPECT_EQ(counters.block_barriers, 3u * 2u);
    EXPECT_EQ(counters.warp_operations, 3u * 2u * (5u + 1u));
    EXPECT_EQ(counters.atomics, 3u * 64u);
    EXPECT_EQ(counter.download()[0], 3 * 64);
  }
}

TEST(EmulatorCounters, AreKeptByKernelAndPlace) {
  TestDevice device;
  auto in = device.input<float>("in", std::vector<float>(1024, 1.0f));
  auto out = device.buffer<float>("out", 32);
  read_global(in.data(), out.data(), 1, 0, 4, 32);
  read_global(in.data(), out.data(), 8, 0, 4, 32);
  touch_shared(out.data(), 1, 4);
  EXPECT_EQ(device.num_launches("read_global"), 2u);
  EXPECT_EQ(device.num_launches("touch_shared"), 1u);
  EXPECT_EQ(device.num_launches("nothing"), 0u);
  EXPECT_EQ(device.counters("read_global").global_sectors, 4u + 32u + 2u * 4u);
  EXPECT_EQ(device.counters("touch_shared").shared_requests, 2u);
  EXPECT_EQ(device.counters("nothing").blocks, 0u);
  EXPECT_EQ(device.counters().global_requests, 2u * 2u + 1u);
  EXPECT_DOUBLE_EQ(device.counters("read_global").sectors_per_request(), 44.0 / 4.0);
  EXPECT_DOUBLE_EQ(device.counters("read_global").sector_factor(), 44.0 / 16.0);

  const std::string table = device.describe_sites();
  EXPECT_NE(table.find("emulator_counters.cu:"), std::string::npos) << table;
  EXPECT_NE(table.find("18.00 sectors per request, 4.00 at best"), std::string::npos) << table;
  device.reset_counters();
  EXPECT_EQ(device.counters().global_requests, 0u);
  EXPECT_TRUE(device.site_counters().empty());
}

TEST(EmulatorCounters, CopiesAreCountedWithAndWithoutChecks) {
  for (const bool checks : {true, false}) {
    TestDevice device({.checks = checks});
    auto in = device.input<uint32_t>("in", std::vector<uint32_t>(4, 1));
    auto out = device.buffer<uint32_t>("out", 4);
    copy_with_zero_fill(16, 16, in.data(), out.data());
    const Counters counters = device.counters();
    EXPECT_EQ(counters.global_bytes_read, 16u);
    EXPECT_EQ(counters.global_requests, 1u + 4u);  // the copy's source, four words of the result
    EXPECT_EQ(counters.shared_requests, 1u + 4u);  // its destination, four words read
  }
}

TEST(EmulatorCounters, CanBeOff) {
  TestDevice device({.counters = false});
  auto out = device.buffer<float>("out", 32);
  touch_shared(out.data(), 1, 4);
  EXPECT_EQ(device.counters().shared_requests, 0u);
  EXPECT_EQ(device.counters().blocks, 1u);
}

}  // namespace
}  // namespace gato::emulator_tests

// What instructions do, by the CUDA programming guide and the PTX ISA.
#include "cuda/emulator_semantics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "cuda/emulator_layouts.h"
#include "cuda_emulation/language.h"
#include "cuda_emulation/test_device.h"
#include "gato/core/error.h"

namespace gato::emulator_tests {
namespace {

using namespace cuda_emulation;
using kernels::cuda::Element;

// ------------------------------------------------------------------------------------------ warps

TEST(EmulatorSemantics, ShufflesMoveValues) {
  for (const int width : {32, 16, 4}) {
    for (const int argument : {0, 1, 5, 31}) {
      TestDevice device({.schedule_seed = static_cast<uint32_t>(width + argument)});
      auto out = device.buffer<int>("out", 128);
      shuffle_int(argument, width, out.data());
      device.expect_no_faults();
      const std::vector<int> result = out.download();
      for (int lane = 0; lane < 32; ++lane) {
        SCOPED_TRACE(testing::Message() << "width " << width << " argument " << argument << " lane " << lane);
        const size_t i = static_cast<size_t>(lane);
        const int segment = lane / width * width;
        const int exclusive = lane ^ argument;
        EXPECT_EQ(result[i], segment + argument % width);
        EXPECT_EQ(result[32 + i], exclusive < segment + width ? exclusive : lane);
        EXPECT_EQ(result[64 + i], lane % width + argument < width ? lane + argument : lane);
        EXPECT_EQ(result[96 + i], lane % width - argument >= 0 ? lane - argument : lane);
      }
    }
  }
}

TEST(EmulatorSemantics, ShufflesMoveEightBytes) {
  TestDevice device;
  auto out = device.buffer<double>("out", 32);
  shuffle_double(3, out.data());
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(out.download()[static_cast<size_t>(lane)], (lane ^ 3) + 0.5);
}

TEST(EmulatorSemantics, VotesAgree) {
  for (const unsigned bits : {0u, ~0u, 0x80000001u}) {
    TestDevice device;
    auto out = device.buffer<unsigned>("out", 96);
    vote(bits, out.data());
    const std::vector<unsigned> result = out.download();
    for (size_t lane = 0; lane < 32; ++lane) {
      EXPECT_EQ(result[lane], bits);
      EXPECT_EQ(result[32 + lane], bits != 0 ? 1u : 0u);
      EXPECT_EQ(result[64 + lane], bits == ~0u ? 1u : 0u);
    }
  }
}

TEST(EmulatorSemantics, AWarpMayBePartial) {
  TestDevice device;
  auto out = device.buffer<unsigned>("out", 40);
  partial_warp(out.data());
  device.expect_no_faults();
  const std::vector<unsigned> result = out.download();
  for (unsigned lane = 0; lane < 20; ++lane) {
    EXPECT_EQ(result[lane], lane + (lane % 4 == 3 ? lane : lane + 1));
    EXPECT_EQ(result[20 + lane], (1u << 20) - 1);
  }
}

// ------------------------------------------------------------------------------------------ atomics, indices

TEST(EmulatorSemantics, AtomicsCombine) {
  for (const int threads : {1, 2}) {
    TestDevice device({.schedule_seed = 3, .host_threads = threads});
    auto signed_words = device.buffer<int>("signed", std::vector<int>{0, 0, 0, 0, 0, 0xff, 0});
    auto unsigned_words = device.buffer<unsigned>("unsigned", std::vector<unsigned>{0, 500, 0, 0, 0, 0xff, 0});
    auto long_words =
        device.buffer<unsigned long long>("long", std::vector<unsigned long long>{0, ~0ull, 0, 0, 0, 0xff, 0});
    integer_atomics(signed_words.data(), unsigned_words.data(), long_words.data());
    device.expect_no_faults();
    const int sum = 255 * 256 / 2 - 256 * 100;
    const int negative_bits = 0xff;  // -100 .. 155 have all eight low bits between them
    EXPECT_EQ(signed_words.download(), (std::vector<int>{sum, -100, 155, 9, negative_bits, 0xf0, 256}));
    const unsigned top = 0xffffffffu;  // -1 as unsigned
    EXPECT_EQ(unsigned_words.download(),
              (std::vector<unsigned>{static_cast<unsigned>(sum), 0, top, 9, 0xff, 0xf0, 256}));
    EXPECT_EQ(long_words.download(),
              (std::vector<unsigned long long>{(255ull * 256 / 2) << 32, 0, 255ull << 32, 9, 0, 0xf0, 256}));
  }
}

TEST(EmulatorSemantics, IndicesCoverTheGrid) {
  TestDevice device;
  auto out = device.buffer<unsigned long long>("out", 2 * 3 * 4 * 5 * 3 * 2);
  indices(2, 3, 4, 5, 3, 2, out.data());
  device.expect_no_faults();
  const std::vector<unsigned long long> result = out.download();
  size_t i = 0;
  for (unsigned long long block = 0; block < 24; ++block) {
    const unsigned long long b = block % 2 << 40 | block / 2 % 3 << 32 | block / 6 << 24;
    for (unsigned long long thread = 0; thread < 30; ++thread, ++i) {
      EXPECT_EQ(result[i], b | thread % 5 << 16 | thread / 5 % 3 << 8 | thread / 15);
    }
  }
}

TEST(EmulatorSemantics, IntegerAndBitFunctions) {
  TestDevice device;
  auto out = device.buffer<unsigned>("out", 10);
  integer_functions(out.data());
  EXPECT_EQ(out.download(), (std::vector<unsigned>{8, 32, 31, 4, 0, 3, 0x3f800000u, 0x3f000000u, 35, 0}));
}

// ------------------------------------------------------------------------------------------ asynchronous copies

TEST(EmulatorSemantics, CopiesFillWithZeros) {
  for (const int bytes : {4, 8, 16}) {
    for (int source_bytes = 0; source_bytes <= bytes; source_bytes += 2) {
      TestDevice device;
      auto in = device.input<uint32_t>("in", {0x11111111u, 0x22222222u, 0x33333333u, 0x44444444u});
      auto out = device.buffer<uint32_t>("out", 4);
      copy_with_zero_fill(bytes, source_bytes, in.data(), out.data());
      device.expect_no_faults();
      std::vector<uint32_t> expected(4, 0);
      std::memcpy(expected.data(), in.data(), static_cast<size_t>(source_bytes));
      std::vector<uint32_t> result = out.download();
      std::fill(result.begin() + bytes / 4, result.end(), 0);
      EXPECT_EQ(result, expected) << bytes << " " << source_bytes;
    }
  }
}

// ------------------------------------------------------------------------------------------ schedules

TEST(EmulatorSemantics, SeedsShuffleBlocksAndKeepBits) {
  constexpr int kBlocks = 8;
  std::vector<float> values(64 * kBlocks);
  std::mt19937 random(7);
  for (float& value : values) value = static_cast<float>(random()) * 1e-9f;
  std::vector<std::vector<int>> orders;
  std::vector<float> first;
  for (const uint32_t seed : {0u, 1u, 2u, 3u}) {
    TestDevice device({.schedule_seed = seed});
    auto in = device.input("in", values);
    auto out = device.buffer<float>("out", kBlocks);
    block_sums(in.data(), out.data(), kBlocks);
    if (first.empty()) first = out.download();
    EXPECT_EQ(out.download(), first);

    auto counter = device.buffer<int>("counter", std::vector<int>{0});
    auto order = device.buffer<int>("order", kBlocks);
    block_order(counter.data(), order.data(), kBlocks);
    orders.push_back(order.download());
  }
  std::vector<int> in_order(kBlocks);
  std::iota(in_order.begin(), in_order.end(), 0);
  EXPECT_EQ(orders[0], in_order);
  for (size_t i = 1; i < orders.size(); ++i) {
    EXPECT_NE(orders[i], in_order);
    EXPECT_TRUE(std::is_permutation(orders[i].begin(), orders[i].end(), in_order.begin()));
  }
  EXPECT_NE(orders[1], orders[2]);
}

TEST(EmulatorSemantics, BlocksRunOnSeveralHostThreads) {
  std::vector<float> values(64 * 64, 0.25f);
  TestDevice device({.host_threads = 3});
  auto in = device.input("in", values);
  auto out = device.buffer<float>("out", 64);
  for (int round = 0; round < 5; ++round) block_sums(in.data(), out.data(), 64);
  EXPECT_EQ(out.download(), std::vector<float>(64, 16.0f));
  EXPECT_EQ(device.counters().blocks, 5u * 64u);
}

// ------------------------------------------------------------------------------------------ launches, devices

std::string refusal(unsigned grid_x, unsigned grid_y, unsigned threads, size_t shared_bytes) {
  try {
    launch_shape(grid_x, grid_y, threads, shared_bytes);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

TEST(EmulatorLaunch, RefusesWhatDevicesRefuse) {
  {
    TestDevice device({.shared_limit = 99 * 1024, .num_multiprocessors = 132});
    EXPECT_EQ(refusal(1, 1, 1024, 99 * 1024), "");
    EXPECT_EQ(refusal(1, 65535, 1, 0), "");
    for (const std::string& message : {refusal(0, 1, 32, 0), refusal(1, 1, 0, 0), refusal(1, 1, 1025, 0),
                                       refusal(1, 65536, 1, 0), refusal(1, 1, 32, 99 * 1024 + 1)}) {
      EXPECT_NE(message.find("kernel nothing: cannot launch grid ("), std::string::npos) << message;
    }
    EXPECT_EQ(multiprocessors(), 132);
    EXPECT_EQ(shared_limit(), 99u * 1024u);
    EXPECT_EQ(device.num_launches("nothing"), 2u);
  }
  EXPECT_NE(refusal(1, 1, 32, 0).find("there is no emulated device"), std::string::npos);
}

TEST(EmulatorLaunch, TheNewestDeviceRuns) {
  TestDevice outer;
  {
    TestDevice inner;
    EXPECT_EQ(refusal(1, 1, 32, 0), "");
    EXPECT_EQ(inner.num_launches("nothing"), 1u);
  }
  EXPECT_EQ(refusal(1, 1, 32, 0), "");
  EXPECT_EQ(outer.num_launches("nothing"), 1u);
}

TEST(EmulatorLaunch, OptionsAreChecked) {
  EXPECT_THROW(Device({.host_threads = 0}), ContractError);
  EXPECT_THROW(Device({.shared_limit = 228 * 1024}), ContractError);
  EXPECT_THROW(Device({.num_multiprocessors = 0}), ContractError);
  Device device;
  EXPECT_THROW(device.set_options({.host_threads = -1}), ContractError);
  EXPECT_EQ(device.options().host_threads, 1);
}

TEST(EmulatorLaunch, BuffersKnowWhatIsWritten) {
  TestDevice device;
  auto buffer = device.buffer<float>("buffer", 4);
  EXPECT_EQ(buffer.first_unwritten(), 0u);
  EXPECT_TRUE(std::isnan(buffer.download()[0]));
  buffer.fill(2.0f);
  EXPECT_EQ(buffer.first_unwritten(), 4u);
  EXPECT_EQ(buffer.download(), std::vector<float>(4, 2.0f));
  buffer.fill_unwritten();
  EXPECT_EQ(buffer.first_unwritten(), 0u);
  EXPECT_THROW(buffer.upload(std::vector<float>(3)), ContractError);
  EXPECT_EQ(device.buffer<float>("empty", 0).download().size(), 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 256, 0u);
}

TEST(EmulatorLaunch, DeviceFunctionsNeedAKernel) {
  TestDevice device;
  EXPECT_THROW(sync_threads(Site::here()), ContractError);
}

// ------------------------------------------------------------------------------------------ types

TEST(EmulatorTypes, BFloat16IsTheUpperHalf) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float value = widen(BFloat16{static_cast<uint16_t>(bits)});
    EXPECT_EQ(std::bit_cast<uint32_t>(value), bits << 16);
    const uint16_t back = narrow_bfloat16(value).bits;
    EXPECT_EQ(back, std::isnan(value) ? 0x7fff : bits);
  }
}

// The value that nearest-even rounding chooses among the neighbours of `value` that `widen` gives.
template <class Type>
void expect_nearest(float value, uint16_t chosen) {
  const double exact = value;
  const double distance = std::abs(static_cast<double>(widen(Type{chosen})) - exact);
  for (const int step : {-1, 1}) {
    if ((chosen & 0x7fff) == 0 && step < 0) continue;
    const uint16_t other = static_cast<uint16_t>(chosen + step);
    const float neighbour = widen(Type{other});
    if (!std::isfinite(neighbour)) continue;
    const double other_distance = std::abs(static_cast<double>(neighbour) - exact);
    EXPECT_LE(distance, other_distance) << value;
    if (distance == other_distance) {
      EXPECT_EQ(chosen % 2, 0) << value;
    }
  }
}

TEST(EmulatorTypes, NarrowingRoundsToNearestEven) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> exponents(-27.0f, 15.9f);
  for (int i = 0; i < 200000; ++i) {
    const float value = std::exp2(exponents(random)) * (random() % 2 == 0 ? 1.0f : -1.0f);
    expect_nearest<BFloat16>(value, narrow_bfloat16(value).bits);
    expect_nearest<Float16>(value, narrow_float16(value).bits);
  }
  for (uint32_t bits = 0; bits < 0x7bffu; ++bits) {  // halfway between neighbours
    const float low = widen(Float16{static_cast<uint16_t>(bits)});
    const float high = widen(Float16{static_cast<uint16_t>(bits + 1)});
    expect_nearest<Float16>((low + high) / 2, narrow_float16((low + high) / 2).bits);
    EXPECT_EQ(narrow_float16(low).bits, bits);
    EXPECT_EQ(narrow_float16(-low).bits, bits | 0x8000u);
  }
}

TEST(EmulatorTypes, Float16HasItsEdges) {
  EXPECT_EQ(widen(Float16{0x3c00}), 1.0f);
  EXPECT_EQ(widen(Float16{0x0001}), 0x1p-24f);
  EXPECT_EQ(widen(Float16{0x7bff}), 65504.0f);
  EXPECT_EQ(widen(Float16{0xfc00}), -INFINITY);
  EXPECT_TRUE(std::isnan(widen(Float16{0x7e00})));
  EXPECT_EQ(narrow_float16(65519.9f).bits, 0x7bff);
  EXPECT_EQ(narrow_float16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(narrow_float16(-INFINITY).bits, 0xfc00);
  EXPECT_EQ(narrow_float16(NAN).bits, 0x7fff);
  EXPECT_EQ(narrow_float16(0x1p-25f).bits, 0);  // halfway to the least: to even
  EXPECT_EQ(narrow_float16(0x1.8p-25f).bits, 1);
  EXPECT_EQ(narrow_bfloat16(NAN).bits, 0x7fff);
  EXPECT_EQ(narrow_bfloat16(3.4e38f).bits, 0x7f80);
}

TEST(EmulatorTypes, KernelsRoundAlike) {
  const std::vector<float> values = {1.0f, 1.0f / 3.0f, -2.7182818f, 1e-6f, 3e4f, -0.0f};
  for (const Element element : {Element::kBFloat16, Element::kFloat16}) {
    TestDevice device;
    auto in = device.input("in", values);
    auto out = device.buffer<float>("out", values.size());
    run_round(element, in.data(), out.data(), static_cast<int>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) {
      const float expected =
          element == Element::kBFloat16 ? widen(narrow_bfloat16(values[i])) : widen(narrow_float16(values[i]));
      EXPECT_EQ(out.download()[i], expected);
    }
  }
}

}  // namespace
}  // namespace gato::emulator_tests

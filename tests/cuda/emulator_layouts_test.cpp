// The lanes' registers against the tables of the PTX ISA, written here as its text gives them ("Matrix Fragments for
// mma.m16n8k16 with floating point type", "ldmatrix"), not as the emulator computes them.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "cuda/emulator_layouts.h"
#include "cuda_emulation/language.h"
#include "cuda_emulation/test_device.h"

namespace gato::emulator_tests {
namespace {

using namespace cuda_emulation;
using kernels::cuda::Element;

uint16_t narrow_bits(Element element, float value) {
  return element == Element::kBFloat16 ? narrow_bfloat16(value).bits : narrow_float16(value).bits;
}

// Small whole numbers: exact in both types, and so are the sums.
float a_value(size_t row, size_t k) { return static_cast<float>((row * 5 + k * 3) % 17) - 8; }
float b_value(size_t k, size_t column) { return static_cast<float>((k * 7 + column * 2) % 13) - 6; }
float c_value(size_t row, size_t column) { return static_cast<float>(row * 8 + column); }

class MmaLayout : public testing::TestWithParam<Element> {};

TEST_P(MmaLayout, FollowsPtxIsa) {
  TestDevice device;
  std::vector<uint32_t> a(32 * 4);
  std::vector<uint32_t> b(32 * 2);
  std::vector<float> d(32 * 4);
  for (size_t lane = 0; lane < 32; ++lane) {
    const size_t group = lane >> 2;
    const size_t in_group = lane % 4;
    for (size_t i = 0; i < 8; ++i) {  // a_i: "row = groupID for a_i with 0 <= i < 2 || 4 <= i < 6, else groupID + 8"
      const bool upper = i < 2 || (i >= 4 && i < 6);
      const size_t row = upper ? group : group + 8;
      const size_t k = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      a[lane * 4 + i / 2] |= uint32_t{narrow_bits(GetParam(), a_value(row, k))} << (16 * (i & 1));
    }
    for (size_t i = 0; i < 4; ++i) {  // b_i: "row = threadID_in_group * 2 + (i & 1), + 8 for i >= 2; column = groupID"
      const size_t k = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
      b[lane * 2 + i / 2] |= uint32_t{narrow_bits(GetParam(), b_value(k, group))} << (16 * (i & 1));
    }
    for (size_t i = 0; i < 4; ++i) {  // c_i: "row = groupID for i < 2, groupID + 8 for i >= 2"
      d[lane * 4 + i] = c_value(i < 2 ? group : group + 8, in_group * 2 + (i & 1));
    }
  }
  auto device_a = device.input("a", a);
  auto device_b = device.input("b", b);
  auto device_d = device.buffer("d", d);
  run_mma(GetParam(), device_a.data(), device_b.data(), device_d.data());
  device.expect_no_faults();

  const std::vector<float> result = device_d.download();
  for (size_t lane = 0; lane < 32; ++lane) {
    for (size_t i = 0; i < 4; ++i) {
      const size_t row = lane / 4 + (i < 2 ? 0 : 8);
      const size_t column = lane % 4 * 2 + (i & 1);
      float expected = c_value(row, column);
      for (size_t k = 0; k < 16; ++k) expected += a_value(row, k) * b_value(k, column);
      EXPECT_EQ(result[lane * 4 + i], expected) << "lane " << lane << " register " << i;
    }
  }
  EXPECT_EQ(device.counters().mma, 1u);
}

INSTANTIATE_TEST_SUITE_P(Types, MmaLayout, testing::Values(Element::kBFloat16, Element::kFloat16),
                         [](const auto& instance) { return kernels::cuda::element_name(instance.param); });

class LdmatrixLayout : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(LdmatrixLayout, FollowsPtxIsa) {
  const auto [count, transposed] = GetParam();
  TestDevice device;
  std::vector<uint16_t> rows(32 * 8);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint16_t>(i);
  auto device_rows = device.input("rows", rows);
  auto result = device.buffer<uint32_t>("result", 32 * static_cast<size_t>(count));
  run_ldmatrix(count, transposed, device_rows.data(), result.data());
  device.expect_no_faults();

  const std::vector<uint32_t> fragments = result.download();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i) {
      // "thread i holds the elements of row i / 4, columns 2 (i % 4) and the next"; with .trans of the transposed
      // matrix
      const uint32_t row = lane / 4;
      const uint32_t column = lane % 4 * 2;
      const auto element = [i = i](uint32_t r, uint32_t c) { return i * 64 + r * 8 + c; };
      const uint32_t low = transposed ? element(column, row) : element(row, column);
      const uint32_t high = transposed ? element(column + 1, row) : element(row, column + 1);
      EXPECT_EQ(fragments[lane * static_cast<uint32_t>(count) + i], low | high << 16)
          << "lane " << lane << " matrix " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LdmatrixLayout, testing::Combine(testing::Values(1, 2, 4), testing::Bool()),
                         [](const auto& instance) {
                           return "x" + std::to_string(std::get<0>(instance.param)) +
                                  (std::get<1>(instance.param) ? "trans" : "");
                         });

}  // namespace
}  // namespace gato::emulator_tests

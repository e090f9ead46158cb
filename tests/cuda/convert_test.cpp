#include "kernels/cuda/convert.h"

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

constexpr Element kElements[] = {Element::kFloat32, Element::kBFloat16, Element::kFloat16};

std::vector<float> run(TestDevice& device, Element from, Element to, const std::vector<float>& values, size_t offset) {
  const Typed source(device, from, "from", values, offset);
  const Typed target(device, to, "to", values.size(), offset);
  convert({static_cast<int64_t>(values.size()), from, source.data(), to, target.data()}, nullptr);
  return target.download();
}

TEST(ConvertTest, RoundsToNearestEvenBetweenAllTypes) {
  for (const Element from : kElements) {
    for (const Element to : kElements) {
      if (from == to) continue;
      for (const int64_t count : {0, 1, 7, 31, 33, 541, 4096}) {
        const std::vector<float> values = rounded(from, normal_values(count, 1, 100));
        for (const size_t offset : {size_t{0}, size_t{1}}) {
          TestDevice device;
          EXPECT_EQ(run(device, from, to, values, offset), rounded(to, values))
              << element_name(from) << " to " << element_name(to) << ", " << count << " + " << offset;
        }
      }
    }
  }
}

TEST(ConvertTest, SpecialValues) {
  // Ties go to even; too large becomes infinity; NaN stays NaN.
  const std::vector<float> values{1.00390625f, 1.01171875f, 3.4e38f, -3.4e38f, 65520.0f, 65519.0f, INFINITY, 0, NAN};
  TestDevice device;
  const std::vector<float> bf16 = run(device, Element::kFloat32, Element::kBFloat16, values, 0);
  EXPECT_EQ(bf16[0], 1.0f);
  EXPECT_EQ(bf16[1], 1.015625f);
  EXPECT_EQ(bf16[2], INFINITY);
  EXPECT_EQ(bf16[3], -INFINITY);
  EXPECT_TRUE(std::isnan(bf16[8]));
  const std::vector<float> fp16 = run(device, Element::kFloat32, Element::kFloat16, values, 0);
  EXPECT_EQ(fp16[4], INFINITY);
  EXPECT_EQ(fp16[5], 65504.0f);
  EXPECT_EQ(fp16[7], 0.0f);
  EXPECT_TRUE(std::isnan(fp16[8]));
}

TEST(ConvertOrder, BlocksInAnyOrderGiveTheSameBits) {
  const std::vector<float> values = normal_values(5003, 1);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    return std::vector<std::vector<float>>{run(device, Element::kFloat32, Element::kBFloat16, values, 0)};
  });
}

TEST(ConvertCounters, MovesEachElementOnceEachWay) {
  TestDevice device;
  run(device, Element::kFloat32, Element::kBFloat16, normal_values(8192, 1), 0);
  const auto counters = device.counters("convert");
  EXPECT_EQ(counters.sector_factor(), 1.0);
  EXPECT_EQ(counters.global_bytes_read, 8192u * 4);
  EXPECT_EQ(counters.global_bytes_written, 8192u * 2);
}

TEST(ConvertArguments, AreChecked) {
  TestDevice device;
  const auto some = device.buffer("some", std::vector<float>(8, 1.0f));
  float* p = some.data();
  EXPECT_THROW(convert({4, Element::kFloat32, p, Element::kFloat32, p}, nullptr), ContractError);
  EXPECT_THROW(convert({-1, Element::kFloat32, p, Element::kBFloat16, p}, nullptr), ContractError);
  EXPECT_THROW(convert({4, Element::kFloat32, nullptr, Element::kBFloat16, p}, nullptr), ContractError);
  EXPECT_THROW(convert({4, Element::kFloat32, p, Element::kBFloat16, nullptr}, nullptr), ContractError);
  EXPECT_THROW(convert({4, Element::kFloat32, reinterpret_cast<std::byte*>(p) + 2, Element::kBFloat16, p}, nullptr),
               ContractError);
}

}  // namespace
}  // namespace gato::kernel_tests

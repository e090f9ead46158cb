#include "kernels/cuda/dropout.h"

#include <array>

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

struct Case {
  Element element;
  int64_t rows, row_tokens, width;
  double probability;
  size_t offset = 0;
};

std::string name_of(const Case& c) {
  return cat(element_name(c.element), "_", c.rows, "x", c.row_tokens, "x", c.width, "_p",
             static_cast<int>(c.probability * 100), c.offset > 0 ? "_misaligned" : "");
}

constexpr uint64_t kKey = 0x123456789abcdef0u;
constexpr int64_t kFirstRow = 1000003;

/// As src/kernels/dropout.cpp does it on the CPU, with the generator of gato/core/random.h.
std::vector<float> on_cpu(const Case& c, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  const auto threshold = static_cast<uint32_t>(c.probability * 0x1p32);
  const auto factor = static_cast<float>(1 / (1 - c.probability));
  for (int64_t row = 0; row < c.rows; ++row) {
    const uint64_t key = mix_seed(kKey, {static_cast<uint64_t>(kFirstRow + row)});
    for (int64_t t = 0; t < c.row_tokens; ++t) {
      for (int64_t column = 0; column < c.width; ++column) {
        const auto bits = philox4x32({static_cast<uint32_t>(column / 4), static_cast<uint32_t>(t), 0, 0},
                                     {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
        const auto at = static_cast<size_t>((row * c.row_tokens + t) * c.width + column);
        y[at] = bits[static_cast<size_t>(column % 4)] < threshold ? 0.0f : x[at] * factor;
      }
    }
  }
  return rounded(c.element, y);
}

std::vector<float> run(TestDevice& device, const Case& c, const std::vector<float>& x, bool key_on_device = false) {
  const Typed device_x(device, c.element, "x", x, c.offset);
  const Typed y(device, c.element, "y", x.size(), c.offset);
  const DropoutKey key{kKey, kFirstRow};
  const auto device_key = device.input("key", std::vector<DropoutKey>{key});
  dropout({.element = c.element,
           .tokens = c.rows * c.row_tokens,
           .width = c.width,
           .row_tokens = c.row_tokens,
           .x = device_x.data(),
           .y = y.data(),
           .probability = c.probability,
           .key = key_on_device ? DropoutKey{} : key,
           .device_key = key_on_device ? device_key.data() : nullptr},
          nullptr);
  return y.download();
}

class DropoutTest : public testing::TestWithParam<Case> {};

TEST_P(DropoutTest, IsExactlyWhatTheCpuDoes) {
  const Case& c = GetParam();
  const std::vector<float> x = rounded(c.element, normal_values(c.rows * c.row_tokens * c.width, 1));
  TestDevice device;
  EXPECT_EQ(run(device, c, x), on_cpu(c, x));
  EXPECT_EQ(run(device, c, x, true), on_cpu(c, x));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const int64_t width : {0, 1, 3, 31, 33, 541, 64, 768}) all.push_back({element, 2, 3, width, 0.1});
    for (const int64_t rows : {0, 1, 33}) all.push_back({element, rows, 5, 8, 0.5});
    all.push_back({element, 1, 541, 4, 0.25});
    all.push_back({element, 2, 2, 64, 0});
    all.push_back({element, 2, 2, 64, 0.999});
    all.push_back({element, 2, 2, 64, 0.1, 1});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, DropoutTest, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(DropoutOrder, BlocksInAnyOrderGiveTheSameBits) {
  const Case c{Element::kFloat32, 3, 4, 600, 0.3};
  const std::vector<float> x = normal_values(c.rows * c.row_tokens * c.width, 1);
  expect_same_bits_in_any_order([&](TestDevice& device) { return std::vector<std::vector<float>>{run(device, c, x)}; });
}

TEST(DropoutValues, DroppedElementsAreZeroWhateverTheyWere) {
  const Case c{Element::kFloat32, 1, 1, 256, 0.5};
  TestDevice device;
  const std::vector<float> y = run(device, c, std::vector<float>(256, INFINITY));
  for (const float value : y) EXPECT_TRUE(value == 0 || value == INFINITY);
}

TEST(DropoutCounters, MovesEachElementOnceEachWay) {
  const Case c{Element::kFloat32, 2, 4, 1024, 0.1};
  TestDevice device;
  run(device, c, normal_values(8 * 1024, 1));
  const auto counters = device.counters("dropout");
  EXPECT_EQ(counters.sector_factor(), 1.0);
  EXPECT_EQ(counters.global_bytes_read, 8u * 1024 * 4);
  EXPECT_EQ(counters.global_bytes_written, 8u * 1024 * 4);
}

TEST(DropoutArguments, AreChecked) {
  TestDevice device;
  const auto some = device.buffer("some", std::vector<float>(8, 1.0f));
  float* p = some.data();
  const Dropout good{.tokens = 4, .width = 2, .row_tokens = 2, .x = p, .y = p, .probability = 0.1};
  const auto refused = [&](auto change) {
    Dropout bad = good;
    change(bad);
    EXPECT_THROW(dropout(bad, nullptr), ContractError);
  };
  refused([](auto& c) { c.element = Element::kFloat16; });
  refused([](auto& c) { c.probability = 1; });
  refused([](auto& c) { c.probability = -0.1; });
  refused([](auto& c) { c.probability = NAN; });
  refused([](auto& c) { c.row_tokens = 3; });
  refused([](auto& c) { c.row_tokens = 0; });
  refused([](auto& c) { c.tokens = -1; });
  refused([](auto& c) { c.x = nullptr; });
  refused([](auto& c) { c.y = nullptr; });
}

}  // namespace
}  // namespace gato::kernel_tests

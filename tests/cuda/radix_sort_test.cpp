#include "kernels/cuda/radix_sort.h"

#include <algorithm>
#include <numeric>

#include "cuda/kernel_test.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

struct Sorted {
  std::vector<uint32_t> keys, items;
};

Sorted run_sort(TestDevice& device, const std::vector<int32_t>& index, uint32_t limit) {
  const auto device_index = device.input("index", index);
  const auto count = static_cast<int64_t>(index.size());
  Workspace sizes(nullptr);
  static_cast<void>(divide_radix_sort_memory(sizes, count));
  const auto memory = device.buffer<uint32_t>("workspace", sizes.bytes() / sizeof(uint32_t));
  Workspace workspace(memory.data());
  const SortedItems sorted =
      radix_sort(device_index.data(), count, limit, divide_radix_sort_memory(workspace, count), nullptr);
  const std::vector<uint32_t> all = memory.download();
  const auto part = [&](const uint32_t* from) {
    const auto begin = all.begin() + (from - memory.data());
    return std::vector<uint32_t>(begin, begin + count);
  };
  return {part(sorted.keys), part(sorted.items)};
}

TEST(RadixSort, IsStableAndPutsOutsidersLast) {
  for (const int64_t count : {1, 31, 33, 541, 2048, 2049, 9000}) {
    for (const uint32_t limit : {1u, 2u, 255u, 256u, 33025u, 70000u}) {
      std::vector<int32_t> index;
      Rng rng(static_cast<uint64_t>(count) + limit);
      for (int64_t i = 0; i < count; ++i) {
        index.push_back(rng.below(9) == 0 ? -1 : static_cast<int32_t>(rng.below(limit + 2)));
      }
      const auto key = [&](uint32_t item) { return std::min(static_cast<uint32_t>(index[item]), limit); };
      std::vector<uint32_t> expected(index.size());
      std::iota(expected.begin(), expected.end(), 0u);
      std::stable_sort(expected.begin(), expected.end(), [&](uint32_t a, uint32_t b) { return key(a) < key(b); });
      TestDevice device;
      const Sorted sorted = run_sort(device, index, limit);
      ASSERT_EQ(sorted.items, expected) << count << " items below " << limit;
      for (size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(sorted.keys[i], key(expected[i]));
    }
  }
}

TEST(RadixSort, GivesTheSameInAnyOrderOfBlocks) {
  std::vector<int32_t> index;
  Rng rng(1);
  for (int i = 0; i < 5000; ++i) index.push_back(static_cast<int32_t>(rng.below(700)));
  expect_same_bits_in_any_order([&](TestDevice& device) {
    std::vector<float> items;
    for (const uint32_t item : run_sort(device, index, 700).items) items.push_back(static_cast<float>(item));
    return std::vector<std::vector<float>>{items};
  });
}

}  // namespace
}  // namespace gato::kernel_tests

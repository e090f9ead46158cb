#include "gato/kernels/memory.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <thread>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "support/tensor_compare.h"

namespace gato::kernels {
namespace {

TEST(CachingMemoryTest, FreedBlocksServeTheNextRequestOfTheirSize) {
  const CachingMemory memory;
  const void* first = nullptr;
  {
    const at::Tensor x = at::empty({100'000});
    first = x.const_data_ptr();
  }
  const int64_t blocks = memory_statistics().system_blocks;
  EXPECT_GE(memory_statistics().cached, 400'000);
  for (const int64_t size : {100'000, 99'000, 95'000}) {  // somewhat smaller ones too
    const at::Tensor y = at::empty({size});
    EXPECT_EQ(y.const_data_ptr(), first) << size;
  }
  EXPECT_EQ(memory_statistics().system_blocks, blocks);
  const at::Tensor large = at::empty({200'000});
  EXPECT_EQ(memory_statistics().system_blocks, blocks + 1);
}

TEST(CachingMemoryTest, SmallRequestsDoNotTakeMuchLargerBlocks) {
  const CachingMemory memory;
  { const at::Tensor x = at::empty({1'000'000}); }
  const int64_t cached = memory_statistics().cached;
  const at::Tensor y = at::empty({100'000});
  EXPECT_EQ(memory_statistics().cached, cached);
}

TEST(CachingMemoryTest, CountsWhatTensorsAskedFor) {
  const CachingMemory memory;
  const int64_t before = memory_statistics().in_use;
  reset_peak_memory();
  {
    const at::Tensor x = at::empty({50'000}), y = at::empty({30'000}, at::kBFloat16);
    EXPECT_EQ(memory_statistics().in_use - before, 200'000 + 60'000);
  }
  EXPECT_EQ(memory_statistics().in_use, before);
  EXPECT_EQ(memory_statistics().peak - before, 260'000);
  reset_peak_memory();
  EXPECT_EQ(memory_statistics().peak, before);
}

TEST(CachingMemoryTest, EverySizeIsAlignedAndItsOwn) {
  const CachingMemory memory;
  std::vector<at::Tensor> tensors;
  for (const int64_t bytes : {1, 63, 64, 4095, 16383, 16384, 16385, 65536, 1 << 20, (4 << 20) - 64, 4 << 20, 5 << 20}) {
    tensors.push_back(at::full({bytes}, static_cast<int64_t>(tensors.size()), at::kByte));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensors.back().const_data_ptr()) % 64, 0U) << bytes;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(tensors[i].eq(static_cast<int64_t>(i)).all().item<bool>()) << i;
  }
  EXPECT_EQ(at::empty({0}).numel(), 0);
}

TEST(CachingMemoryTest, KeepsToItsBoundOldestFirst) {
  const CachingMemory memory(3 << 20);
  { const at::Tensor old = at::empty({1 << 20}, at::kByte); }
  { const at::Tensor x = at::empty({1 << 19}); }  // 2 MiB
  EXPECT_LE(memory_statistics().cached, 3 << 20);
  { const at::Tensor y = at::empty({700'000}, at::kByte); }
  EXPECT_LE(memory_statistics().cached, 3 << 20);
  const int64_t blocks = memory_statistics().system_blocks;
  { const at::Tensor x = at::empty({1 << 19}); }
  EXPECT_EQ(memory_statistics().system_blocks, blocks);  // the younger one is still there
  release_cached_memory();
  EXPECT_EQ(memory_statistics().cached, 0);
}

TEST(CachingMemoryTest, TheLastOneRestoresLibTorchsAllocatorAndTensorsOutliveIt) {
  const c10::Allocator* before = c10::GetCPUAllocator();
  at::Tensor kept;
  {
    const CachingMemory outer;
    const c10::Allocator* caching = c10::GetCPUAllocator();
    EXPECT_NE(caching, before);
    { const CachingMemory inner; }
    EXPECT_EQ(c10::GetCPUAllocator(), caching);
    kept = at::full({100'000}, 3.0f);
  }
  EXPECT_EQ(c10::GetCPUAllocator(), before);
  EXPECT_EQ(memory_statistics().cached, 0);
  EXPECT_EQ(kept.sum().item<float>(), 300'000);
  kept = at::Tensor();
  EXPECT_EQ(memory_statistics().cached, 0);  // freed, not cached
}

TEST(CachingMemoryTest, ThreadsMayAskAtOnce) {
  const CachingMemory memory(32 << 20);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      Rng rng(t);
      std::vector<at::Tensor> held;
      for (int i = 0; i < 400; ++i) {
        held.push_back(at::full({4096 + rng.below(40'000)}, static_cast<double>(t)));
        if (held.size() > 6) {
          const auto victim = static_cast<size_t>(rng.below(6));
          ASSERT_TRUE(held[victim].eq(static_cast<double>(t)).all().item<bool>());
          held.erase(held.begin() + static_cast<int64_t>(victim));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(memory_statistics().cached, 32 << 20);
}

TEST(CachingMemoryTest, RefusedRequestsSayHowMuch) {
  const CachingMemory memory;
  { const at::Tensor cached = at::empty({1 << 20}); }
  try {
    (void)at::empty({int64_t{1} << 46}, at::kByte);
    FAIL() << "64 TiB were given";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.bytes(), int64_t{1} << 46);
    EXPECT_NE(std::string(error.what()).find("TiB"), std::string::npos) << error.what();
  }
  EXPECT_EQ(memory_statistics().cached, 0);  // everything was tried
  EXPECT_THROW(CachingMemory(-1), ContractError);
}

}  // namespace
}  // namespace gato::kernels

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gato/kernels/device.h"
#include "ranks.h"
#include "support/gpu.h"
#include "train/exchange_backend.h"

namespace gato::train {
namespace {

using namespace std::chrono_literals;

/// NCCL does not let two ranks share a GPU: with one, what can be tried is that it starts and answers.
class NcclTest : public gato::testing::GpuTest {};

TEST_F(NcclTest, StartsWithOneGpuAndAddsUp) {
  const Launch launch = test::launch_of(0, 1, test::free_port());
  const at::Device gpu = device();
  const BackendPointer nccl = make_nccl(open_store(launch, 30s), launch, gpu, 30s);
  std::vector<at::Tensor> x = {at::arange(100, at::TensorOptions(at::kFloat).device(gpu))};
  nccl->allreduce(x)->wait();
  EXPECT_TRUE(at::equal(x[0].cpu(), at::arange(100, at::kFloat)));
}

TEST_F(NcclTest, AddsUpBetweenGpus) {
  const int size = kernels::num_gpus();
  if (size < 2) GTEST_SKIP() << "needs two GPUs, there is " << size;
  const int port = test::free_port();
  const auto errors = test::in_threads(size, [&](int64_t rank) {
    const at::Device gpu(at::kCUDA, static_cast<at::DeviceIndex>(rank));
    const auto all = Communicator::connect(test::launch_of(rank, size, port), gpu);
    EXPECT_EQ(all->backend(), "nccl");
    const at::Tensor x = at::full({1000}, rank + 1, at::TensorOptions(at::kFloat).device(gpu));
    all->all_reduce(x, "sum").wait();
    EXPECT_TRUE(at::equal(x.cpu(), at::full({1000}, size * (size + 1) / 2, at::kFloat)));
    EXPECT_EQ(all->gather(cat(rank), "control plane").size(), static_cast<size_t>(size));
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

}  // namespace
}  // namespace gato::train

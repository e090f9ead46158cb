#pragma once
#include <gtest/gtest.h>

#include "gato/kernels/device.h"

namespace gato::testing {

/// Tests that need a GPU: skipped, with the reason, where there is none.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string problem = kernels::why_no_gpu(); !problem.empty()) GTEST_SKIP() << problem;
    device_ = kernels::open_device("cuda");
  }
  [[nodiscard]] at::Device device() const { return device_; }

 private:
  at::Device device_ = at::kCPU;
};

}  // namespace gato::testing

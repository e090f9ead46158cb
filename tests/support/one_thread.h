#pragma once
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace gato::testing {

/// LibTorch on one thread, unless a test asks for more: tiny operations on several threads crawl on a busy machine.
class OneThread : public ::testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(1); }
};
inline const ::testing::Environment* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

}  // namespace gato::testing

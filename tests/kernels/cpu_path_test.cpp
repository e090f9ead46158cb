#include "gato/kernels/cpu_path.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "gato/core/error.h"
#include "gato/kernels/attention.h"
#include "gato/kernels/geglu.h"
#include "gato/kernels/layer_norm.h"
#include "gato/kernels/optimizer.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

constexpr CpuPath kPaths[] = {CpuPath::kPlain, CpuPath::kAvx2, CpuPath::kAvx512};

/// All tests of this program are skipped when GATO_CPU_PATH names a path that the processor lacks.
class PathOfThisRun : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* setting = std::getenv("GATO_CPU_PATH");
    const std::string_view path = setting == nullptr ? "" : setting;
    if ((path == "avx2" && !has_cpu_path(CpuPath::kAvx2)) || (path == "avx512" && !has_cpu_path(CpuPath::kAvx512))) {
      GTEST_SKIP() << "this processor has no " << path;
    }
  }
};
const ::testing::Environment* const kPathOfThisRun = ::testing::AddGlobalTestEnvironment(new PathOfThisRun);

class EveryPath : public ::testing::Test {
 protected:
  void TearDown() override { set_cpu_path(before_); }

 private:
  CpuPath before_ = cpu_path();
};

/// Outputs and gradients of a few operations, one after the other.
at::Tensor results(at::ScalarType dtype) {
  const at::Tensor qkv = leaf(random_normal({1, 45, 3, 2, 20}, 1, dtype));
  const at::Tensor starts = random_sequence_starts(1, 45, 30, 2);
  const at::Tensor mixed = document_attention(qkv, starts, make_rotary_table(45, 20, 10000));
  backward_from(mixed, random_normal({1, 45, 2, 20}, 3));
  const at::Tensor x = leaf(random_normal({37, 66}, 4, dtype));
  const at::Tensor gated = geglu(x);
  backward_from(gated, random_normal({37, 33}, 5));
  const Parameter gain = make_parameter(random_normal({66}, 6)), offset = make_parameter(random_normal({66}, 7));
  const at::Tensor stream = leaf(random_normal({37, 66}, 8));
  const at::Tensor normal = layer_norm(stream, gain, offset, dtype);
  backward_from(normal, random_normal({37, 66}, 9));
  std::vector<at::Tensor> all;
  for (const at::Tensor& t : {mixed, qkv.grad(), gated, x.grad(), normal, stream.grad(), gain.gradient}) {
    all.push_back(t.detach().to(at::kFloat).reshape(-1));
  }
  return at::cat(all);
}

TEST_F(EveryPath, GivesTheSameUpToRounding) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    set_cpu_path(CpuPath::kPlain);
    const at::Tensor plain = results(dtype);
    for (const CpuPath path : kPaths) {
      if (!has_cpu_path(path)) continue;
      set_cpu_path(path);
      EXPECT_EQ(cpu_path(), path);
      const at::Tensor here = results(dtype);
      EXPECT_TRUE(same_bits(here, results(dtype)));
      EXPECT_TRUE(all_close(here, plain, tolerance_of(dtype).times(4))) << static_cast<int>(path);
    }
  }
}

TEST_F(EveryPath, PlainIsAlwaysThere) {
  EXPECT_TRUE(has_cpu_path(CpuPath::kPlain));
  EXPECT_TRUE(!has_cpu_path(CpuPath::kAvx512) || has_cpu_path(CpuPath::kAvx2));
  for (const CpuPath path : kPaths) {
    if (!has_cpu_path(path)) {
      EXPECT_THROW(set_cpu_path(path), ContractError);
    }
  }
}

TEST_F(EveryPath, TheEnvironmentChooses) {
  const char* before = std::getenv("GATO_CPU_PATH");
  const std::string kept = before == nullptr ? "" : before;
  setenv("GATO_CPU_PATH", "plain", 1);
  EXPECT_EQ(detail::choose_cpu_path(), CpuPath::kPlain);
  setenv("GATO_CPU_PATH", "avx1024", 1);
  EXPECT_THROW((void)detail::choose_cpu_path(), ConfigError);
  unsetenv("GATO_CPU_PATH");
  EXPECT_TRUE(has_cpu_path(detail::choose_cpu_path()));
  if (before != nullptr) setenv("GATO_CPU_PATH", kept.c_str(), 1);
}

}  // namespace
}  // namespace gato::kernels

#include "gato/kernels/packed_linear.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/kernels/cpu_path.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

constexpr WeightType kTypes[] = {WeightType::kFp32, WeightType::kBf16, WeightType::kInt8};

/// The weight that a packed one stands for, in double.
at::Tensor held_weight(const at::Tensor& weight, WeightType type) {
  if (type == WeightType::kFp32) return weight.to(at::kDouble);
  if (type == WeightType::kBf16) return weight.to(at::kBFloat16).to(at::kDouble);
  const at::Tensor scale = weight.abs().amax(1, true) / 127;
  return (weight / scale.clamp_min(1e-30)).round().to(at::kDouble) * scale.to(at::kDouble);
}

at::Tensor multiply(const at::Tensor& x, const PackedLinear& linear, at::ScalarType dtype, int64_t first,
                    int64_t count) {
  const at::Tensor y = at::full({x.size(0), count}, 7, at::TensorOptions().dtype(dtype));
  packed_linear_into(x, linear, y, first);
  return y;
}

struct Size {
  int64_t rows, in, out;
};

class PackedLinearTest : public ::testing::TestWithParam<Size> {
 protected:
  void TearDown() override { set_cpu_path(before_); }

 private:
  CpuPath before_ = cpu_path();
};

TEST_P(PackedLinearTest, MatchesReferenceOnEveryPath) {
  const auto [rows, in, out] = GetParam();
  const Parameter weight = make_parameter(random_normal({out, in}, 2)), bias = make_parameter(random_normal({out}, 3));
  for (const WeightType type : kTypes) {
    const PackedLinear with_bias = pack_linear(weight, bias, type), bare = pack_linear(weight, {}, type);
    const at::Tensor x = random_normal({rows, in}, 1).to(activation_type(type));
    const at::Tensor product = x.to(at::kDouble).matmul(held_weight(weight.value, type).t());
    for (const CpuPath path : {CpuPath::kPlain, CpuPath::kAvx2, CpuPath::kAvx512}) {
      if (!has_cpu_path(path)) continue;
      set_cpu_path(path);
      // Sums of `in` products of standard normal numbers.
      const Tolerance tolerance = tolerance_of(at::kFloat).times(4 + std::sqrt(static_cast<double>(in)));
      EXPECT_TRUE(all_close(multiply(x, bare, at::kFloat, 0, out), product, tolerance));
      const at::Tensor expected = product + bias.value;
      EXPECT_TRUE(all_close(multiply(x, with_bias, at::kFloat, 0, out), expected, tolerance));
      if (type != WeightType::kFp32) {
        EXPECT_TRUE(all_close(multiply(x, with_bias, at::kBFloat16, 0, out), expected, tolerance_of(at::kBFloat16)));
      }
      const int64_t first = out / 3, count = (out - first + 1) / 2;
      EXPECT_TRUE(same_bits(multiply(x, with_bias, at::kFloat, first, count),
                            multiply(x, with_bias, at::kFloat, 0, out).slice(1, first, first + count).contiguous()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, PackedLinearTest,
                         ::testing::Values(Size{1, 1, 1}, Size{0, 3, 5}, Size{1, 768, 96}, Size{5, 33, 31},
                                           Size{12, 64, 32}, Size{13, 31, 65}, Size{31, 541, 33}, Size{541, 333, 130}),
                         [](const auto& test) {
                           return cat(test.param.rows, "x", test.param.in, "x", test.param.out);
                         });

TEST(PackedLinearBits, DoNotDependOnOtherRowsOrThreads) {
  const Parameter weight = make_parameter(random_normal({200, 75}, 2)), bias = make_parameter(random_normal({200}, 3));
  const int threads = at::get_num_threads();
  for (const WeightType type : kTypes) {
    const PackedLinear linear = pack_linear(weight, bias, type);
    const at::Tensor x = random_normal({700, 75}, 1).to(activation_type(type));
    const at::Tensor all = multiply(x, linear, x.scalar_type(), 0, 200);
    for (const int64_t count : {1, 2, 7, 13, 31, 300}) {
      at::set_num_threads(count % 2 == 0 ? 1 : 3);
      const at::Tensor some = multiply(x.slice(0, 50, 50 + count).contiguous(), linear, x.scalar_type(), 0, 200);
      EXPECT_TRUE(same_bits(some, all.slice(0, 50, 50 + count).contiguous())) << count << " rows";
    }
    at::set_num_threads(threads);
  }
}

TEST(PackedLinearInt8, StaysWithinTheBoundItStates) {
  at::Tensor w = random_normal({64, 200}, 2) * at::pow(10.0, random_normal({64, 1}, 5));  // rows of all magnitudes
  w[3].zero_();
  const at::Tensor x = random_normal({9, 200}, 1).to(at::kBFloat16);
  const PackedLinear linear = pack_linear(make_parameter(w), {}, WeightType::kInt8);
  const at::Tensor y = multiply(x, linear, at::kFloat, 0, 64).to(at::kDouble);
  const at::Tensor exact = x.to(at::kDouble).matmul(w.to(at::kDouble).t());
  const at::Tensor norm = x.to(at::kDouble).abs().sum(1, true);
  const at::Tensor scale = w.abs().amax(1).to(at::kDouble) / 127;
  const at::Tensor error = (y - exact).abs();
  // A thousandth more for the rounding of scales and sums.
  EXPECT_TRUE(error.le(norm * scale * 0.5 * 1.001).all().item<bool>());
  EXPECT_GT(error.max().item<double>(), 0);
  EXPECT_EQ(y.select(1, 3).abs().max().item<double>(), 0);
}

TEST(PackedLinearContract, RefusesWhatDoesNotFit) {
  const Parameter weight = make_parameter(random_normal({8, 6}, 2));
  const PackedLinear linear = pack_linear(weight, {}, WeightType::kBf16);
  const at::Tensor x = random_normal({2, 6}, 1).to(at::kBFloat16), y = at::empty({2, 8}, at::kFloat);
  EXPECT_THROW(packed_linear_into(x.to(at::kFloat), linear, y), ContractError);
  EXPECT_THROW(packed_linear_into(x.slice(1, 0, 4).contiguous(), linear, y), ContractError);
  EXPECT_THROW(packed_linear_into(x, linear, at::empty({3, 8}, at::kFloat)), ContractError);
  EXPECT_THROW(packed_linear_into(x, linear, at::empty({2, 9}, at::kFloat)), ContractError);
  EXPECT_THROW(packed_linear_into(x, linear, y, 1), ContractError);
  EXPECT_THROW(packed_linear_into(x, linear, y, -1), ContractError);
  EXPECT_THROW(packed_linear_into(x, linear, y.to(at::kDouble)), ContractError);
  EXPECT_THROW(packed_linear_into(x, PackedLinear{}, y), ContractError);
  EXPECT_THROW((void)pack_linear(weight, make_parameter(random_normal({7}, 1)), WeightType::kBf16), ContractError);
  const Parameter broken = make_parameter(weight.value.clone().fill_(std::nanf("")));
  EXPECT_THROW((void)pack_linear(broken, {}, WeightType::kInt8), ContractError);
}

}  // namespace
}  // namespace gato::kernels

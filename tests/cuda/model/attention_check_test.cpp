// What is found of attention that computes something wrong, on emulated kernels that do.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cuda/model/emulated_ops.h"
#include "gato/core/error.h"
#include "gato/kernels/attention_route.h"
#include "model/gpu_config.h"
#include "train/attention_record.h"

namespace gato::kernels {
namespace {

using namespace model::testing;
using testing::EmulatedGpu;

/// Kernels whose backward goes wrong in sequences of more than 32 tokens, as a library's might.
class WrongOps final : public cuda::TensorOps {
 public:
  void attention_backward(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                          const at::Tensor& out, const at::Tensor& log_sum, const at::Tensor& out_gradient,
                          const at::Tensor& qkv_gradient) const override {
    TensorOps::attention_backward(qkv, starts, rotary, out, log_sum, out_gradient, qkv_gradient);
    const at::Tensor place = at::arange(starts.size(1), starts.options()).unsqueeze(0) - starts;
    qkv_gradient.mul_(place.lt(32).to(qkv.scalar_type()).view({starts.size(0), starts.size(1), 1, 1, 1}));
  }
  [[nodiscard]] int num_devices() const override { return 1; }
  [[nodiscard]] GpuProperties properties(int) const override { return {"wrong", 1, 90, 1}; }
  [[nodiscard]] std::string identity() const override { return "wrong"; }
  [[nodiscard]] std::unique_ptr<CapturedWork> capture(at::Device, std::function<void()>,
                                                      const CapturedWork*) const override {
    return nullptr;
  }
};

constexpr int64_t kTokens = 66;

/// Three sequences of 22 tokens: too short for what is wrong.
at::Tensor short_sequences() {
  const at::Tensor starts = at::zeros({1, kTokens}, at::kInt);
  for (const int64_t begin : {22, 44}) starts.slice(1, begin, begin + 22).fill_(begin);
  return starts;
}

TEST(AttentionCheckTest, WhatIsWrongInLongSequencesIsNoticedThoughTheRowHasNone) {
  const EmulatedGpu gpu;
  const at::Tensor qkv = random_normal({1, kTokens, 3, 2, 32}, 5).to(at::kBFloat16), starts = short_sequences();
  const RotaryTable rotary = make_rotary_table(kTokens, 32, 10000);
  EXPECT_EQ(check_attention_route(AttentionRoute::kOwn, qkv, starts, rotary).problem, "");
  const WrongOps wrong;
  const ScopedDeviceOps on(at::kCPU, wrong);
  const AttentionTrial trial = check_attention_route(AttentionRoute::kOwn, qkv, starts, rotary);
  EXPECT_NE(trial.problem.find("differs from the reference by"), std::string::npos) << trial.problem;
  const auto trials = try_attention_routes(qkv, {starts, starts}, rotary);
  EXPECT_EQ(choose_attention_route(trials, true), AttentionRoute::kReference);
}

/// What check_named_route says of a run whose rows are short sequences.
std::string refusal(AttentionRoute route) {
  train::TrainingConfig config;
  config.kernels.attention = route;
  config.model.precision = model::Precision::kBf16;
  config.model.heads = 2;
  config.model.head_dim = 32;
  data::Batch row;
  row.rows = 1;
  row.row_tokens = kTokens;
  row.ids.assign(kTokens, 1);
  row.targets = row.ids;
  row.local_positions.assign(kTokens, -1);
  row.loss_weights.assign(kTokens, 0);
  row.sources.assign(kTokens, 0);
  const at::Tensor starts = short_sequences();
  row.sequence_starts.assign(starts.const_data_ptr<int32_t>(), starts.const_data_ptr<int32_t>() + kTokens);
  try {
    train::check_named_route(config, row, at::kCPU);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(AttentionCheckTest, ANamedRouteThatIsWrongIsRefusedWithTheDifference) {
  const EmulatedGpu gpu;
  EXPECT_EQ(refusal(AttentionRoute::kOwn), "");
  const WrongOps wrong;
  const ScopedDeviceOps on(at::kCPU, wrong);
  EXPECT_EQ(refusal(AttentionRoute::kAuto), "");
  EXPECT_EQ(refusal(AttentionRoute::kReference), "");
  const std::string message = refusal(AttentionRoute::kOwn);
  for (const char* part : {"kernels.attention: own", "differs from the reference by", "66 tokens", "auto"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace gato::kernels

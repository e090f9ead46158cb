#include "gato/train/cost.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/train/trainer.h"

namespace gato::train {
namespace {

TEST(CostTest, TimeHoursAndPriceFollowFromTheOperations) {
  // 1e21 operations at 1e15 FLOP/s, half of it reached: 2e6 s on one device.
  const RunCost one = run_cost(1e21, 1e15, 0.5, {.price_per_hour = 2});
  EXPECT_DOUBLE_EQ(one.seconds, 2e6);
  EXPECT_DOUBLE_EQ(one.device_hours, 2e6 / 3600);
  EXPECT_DOUBLE_EQ(one.price, 2e6 / 1800);
  const RunCost many = run_cost(1e21, 1e15, 0.5, {.devices = 64});
  EXPECT_DOUBLE_EQ(many.seconds, 2e6 / 64 / 0.80);
  EXPECT_DOUBLE_EQ(many.device_hours, one.device_hours / 0.80);
  EXPECT_EQ(many.price, 0);
  EXPECT_THROW((void)run_cost(1, 0, 0.5, {}), ContractError);
}

TEST(CostTest, DevicesAreFoundByNameAndUnknownOnesRefused) {
  EXPECT_DOUBLE_EQ(find_device("H100").peak_bf16, 989.4e12);
  EXPECT_GT(find_device("h200").memory_bytes, find_device("h100").memory_bytes);
  const DeviceKind cpu = find_device("cpu");
  EXPECT_GT(cpu.peak_fp32, 1e9);
  EXPECT_GT(cpu.memory_bytes, int64_t{1} << 28);
  try {
    (void)find_device("h1000");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("rtx-4090"), std::string::npos);
  }
}

TEST(CostTest, LargerModelsReachMoreOfThePeakAndMoreDevicesLess) {
  EXPECT_LT(default_mfu(73'000'000), default_mfu(335'000'000));
  EXPECT_LT(default_mfu(335'000'000), default_mfu(1'077'000'000));
  EXPECT_EQ(scaling_efficiency(1), 1);
  EXPECT_GT(scaling_efficiency(8), scaling_efficiency(9));
  EXPECT_GT(scaling_efficiency(64), scaling_efficiency(65));
}

TEST(CostTest, LargestMicroBatchIsTheLargestThatFits) {
  const model::ModelConfig config;
  const model::ModelShape shape{33'025, 32'000, 1024};
  const model::StepShape step{8, 1024, 2048, 0};
  const int64_t memory = int64_t{24} << 30;
  const int64_t rows = largest_micro_batch(config, shape, step, memory, 512);
  ASSERT_GT(rows, 1);
  ASSERT_LT(rows, 512);
  const auto bytes = [&](int64_t r) {
    return model::total(model::state_bytes(config, shape)) +
           model::total(model::activation_bytes(config, shape, {r, 1024, 256 * r, 0}));
  };
  EXPECT_LE(bytes(rows), memory * 8 / 10);
  EXPECT_GT(bytes(rows + 1), memory * 8 / 10);
  EXPECT_EQ(largest_micro_batch(config, shape, step, int64_t{1} << 30, 512), 0);
  EXPECT_EQ(largest_micro_batch(config, shape, step, int64_t{1} << 50, 512), 512);
}

TEST(CostTest, ReportSaysWhatItAssumesAndWhatFits) {
  TrainingConfig config;  // 79 M parameters, 1 M steps of 512 x 1024 tokens
  config.data.datasets = {"/nonexistent"};
  config.train.micro_batch_rows = {8};
  const std::string report = check_report(config, {.device = "h100", .devices = 8, .price_per_hour = 3});
  for (const char* part : {"8 x h100", "989 TFLOP/s", "38 %", "96 %", "8 rows per forward pass fit", "device-hours",
                           "cost", "queries, keys, values", "gate and value"}) {
    EXPECT_NE(report.find(part), std::string::npos) << part << " is missing in\n" << report;
  }
  config.train.micro_batch_rows = {512};
  const std::string small = check_report(config, {.device = "rtx-4090", .mfu = 0.5});
  EXPECT_NE(small.find("do NOT fit: set train.micro_batch_rows="), std::string::npos) << small;
  EXPECT_NE(small.find("50 % is reached (as given)"), std::string::npos) << small;
  EXPECT_EQ(check_report(config).find("device-hours"), std::string::npos);
  EXPECT_THROW((void)check_report(config, {.device = "tpu"}), ConfigError);
}

}  // namespace
}  // namespace gato::train

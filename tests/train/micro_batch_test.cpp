#include "train/micro_batch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <new>

#include "gato/core/error.h"
#include "gato/kernels/memory.h"
#include "support/synthetic_data.h"
#include "support/tensor_compare.h"

namespace gato::train {
namespace {

TrainingConfig small_config() {
  TrainingConfig config;
  config.model.layers = 2;
  config.model.width = 32;
  config.model.heads = 2;
  config.model.head_dim = 16;
  config.model.hidden = 64;
  config.model.patch_channels = 8;
  return config;
}

/// Rows of one sequence each, every second token with loss.
data::Batch make_batch(int64_t rows, int64_t row_tokens) {
  data::Batch batch;
  batch.rows = rows;
  batch.row_tokens = row_tokens;
  const auto tokens = static_cast<size_t>(rows * row_tokens);
  for (size_t i = 0; i < tokens; ++i) {
    batch.ids.push_back(static_cast<int32_t>(i % 90));
    batch.targets.push_back(static_cast<int32_t>(i % 90));
    batch.loss_weights.push_back(i % static_cast<size_t>(row_tokens) != 0 && i % 2 == 1 ? 1.0f : 0.0f);
  }
  batch.sequence_starts.assign(tokens, 0);
  batch.local_positions.assign(tokens, -1);
  batch.sources.assign(tokens, 0);
  return batch;
}

class MicroBatchTest : public ::testing::Test {
 protected:
  MicroBatchChoice choose(int64_t budget) { return choose_micro_batch(model_, config_, batch_, budget); }

  kernels::CachingMemory memory_;
  TrainingConfig config_ = small_config();
  model::Model model_{config_.model, {90, 40, 32}, 1};
  data::Batch batch_ = make_batch(12, 128);
};

TEST_F(MicroBatchTest, TakesAllRowsWhereThereIsRoom) {
  const at::Tensor before = model_.store().values().clone();
  const MicroBatchChoice choice = choose(int64_t{1} << 30);
  EXPECT_EQ(choice.rows, 12);
  EXPECT_EQ(model_.store().gradients().abs().max().item<float>(), 0);
  EXPECT_TRUE(gato::testing::same_bits(model_.store().values(), before));
}

TEST_F(MicroBatchTest, TakesTheLargestDivisorThatFits) {
  const MicroBatchChoice all = choose(int64_t{1} << 30);
  const int64_t one = all.measured[0].bytes, whole = all.measured.back().bytes;
  EXPECT_EQ(all.measured.back().rows, 12);
  EXPECT_GT(whole, 8 * one);
  const int64_t per_row = (whole - one) / 11;
  for (const int64_t fits : {1, 2, 3, 4, 5, 7, 11}) {
    const MicroBatchChoice choice = choose(one + (fits - 1) * per_row + per_row / 2);
    EXPECT_EQ(choice.rows, fits >= 6 ? 6 : fits == 5 ? 4 : fits) << fits << " rows fit";
    for (const MicroBatchMeasurement& m : choice.measured) EXPECT_LE(m.rows, std::max<int64_t>(2, choice.rows));
  }
}

TEST_F(MicroBatchTest, RecomputationMakesRoom) {
  const int64_t kept = choose(int64_t{1} << 30).measured.back().bytes;
  config_.train.recompute = true;
  EXPECT_LT(choose(int64_t{1} << 30).measured.back().bytes, kept);
}

TEST_F(MicroBatchTest, NotEvenOneRowNamesThePartAndTheSettings) {
  try {
    (void)choose(1000);
    FAIL() << "a thousand bytes were enough";
  } catch (const DeviceError& error) {
    const std::string text = error.what();
    for (const char* part : {"out of memory", "one row", "largest part", "train.recompute"}) {
      EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in: " << text;
    }
  }
}

TEST(OutOfMemoryTest, SaysWhatToChange) {
  TrainingConfig config = small_config();
  const model::ModelShape shape{90, 40, 32};
  const std::string wide = explain_out_of_memory(config, shape, {64, 1024, 100, 0}, "cause");
  for (const char* part : {"(cause)", "activations of", "64 rows", "train.micro_batch_rows (now 64)",
                           "train.recompute: true", "data.row_tokens (now 1024)"}) {
    EXPECT_NE(wide.find(part), std::string::npos) << "no '" << part << "' in: " << wide;
  }
  config.train.recompute = true;
  config.model.width = 4096;
  const std::string deep = explain_out_of_memory(config, shape, {1, 16, 4, 0}, "cause");
  EXPECT_NE(deep.find("smaller model"), std::string::npos) << deep;
  EXPECT_EQ(deep.find("train.micro_batch_rows"), std::string::npos) << deep;
  EXPECT_EQ(deep.find("train.recompute"), std::string::npos) << deep;
  config.train.recompute = false;
  const std::string before_any_row = explain_out_of_memory(config, shape, {}, "cause");
  EXPECT_NE(before_any_row.find("smaller model"), std::string::npos) << before_any_row;
  for (const char* part : {"rows at once", "train.recompute", "data.row_tokens"}) {
    EXPECT_EQ(before_any_row.find(part), std::string::npos) << before_any_row;
  }
}

TEST(OutOfMemoryTest, IsToldFromOtherErrors) {
  EXPECT_TRUE(is_out_of_memory(std::bad_alloc()));
  EXPECT_TRUE(is_out_of_memory(kernels::OutOfMemory(10)));
  EXPECT_FALSE(is_out_of_memory(ConfigError("can't allocate memory")));
  try {
    (void)at::empty({int64_t{1} << 46}, at::kByte);  // LibTorch's own allocator
    FAIL() << "64 TiB were given";
  } catch (const std::exception& error) {
    EXPECT_TRUE(is_out_of_memory(error)) << error.what();
  }
}

TEST(MemoryBudgetTest, IsAShareOfWhatIsAvailable) {
  const int64_t most = memory_budget(1.0), half = memory_budget(0.5);
  EXPECT_GT(half, 0);
  EXPECT_NEAR(static_cast<double>(half) / static_cast<double>(most), 0.5, 0.2);  // others take and give meanwhile
  EXPECT_THROW((void)memory_budget(0), ContractError);
}

}  // namespace
}  // namespace gato::train

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "gato/core/threads.h"
#include "ranks.h"
#include "support/synthetic_data.h"
#include "train/session.h"

namespace gato::train {
namespace {

using data::test::shared_data;

TrainingConfig small_config(model::Precision precision = model::Precision::kFp32) {
  TrainingConfig config;
  config.data = shared_data().config(64);
  config.model.layers = 3;
  config.model.width = 32;
  config.model.heads = 2;
  config.model.head_dim = 16;
  config.model.hidden = 64;
  config.model.patch_channels = 8;
  config.model.stochastic_depth = 0.2;
  config.model.precision = precision;
  config.optimizer.learning_rate = 3e-3;
  config.optimizer.warmup_steps = 2;
  config.optimizer.clip_norm = 0.5;  // clips always: a wrong norm shows
  config.train.batch_rows = 12;
  config.train.micro_batch_rows = {2};
  config.train.soft_target_bins = 2;
  config.comm.bucket_mib = 0.01;  // many buckets
  return config;
}

/// What some steps came to, at one rank.
struct Steps {
  std::vector<double> losses, norms;
  std::vector<std::string> refused;
  std::map<std::string, double> task_means, gradient_shares;
  std::map<std::string, ShareMeter::Shares> shares;
  at::Tensor values, compute;
  TrainingState state;
  int64_t moment_elements = 0, buckets = 0;
};

/// What a step may find changed: (step, rank, batch).
using Meddle = std::function<void(int64_t, int64_t, data::Batch&)>;

Steps run_rank(const TrainingConfig& config, const std::shared_ptr<Communicator>& all, const Meddle& meddle,
               int64_t steps) {
  at::set_num_threads(1);
  const auto plan = shared_data().plan(config.data);
  const model::ModelShape shape = model_shape(shared_data().vocabulary());
  model::Model model(config.model, shape, 3, model::Model::Purpose::kTraining, at::kCPU,
                     bucket_layout(0, all->size(), config.comm.bucket_mib));
  SharedParameters shared(all, model.store(), config.train.shard_optimizer);
  OptimizerState optimizer = shared.make_optimizer();
  Stepper stepper(config, shared, model, optimizer);
  const InputPreparer inputs(at::kCPU, config, all->size());
  const data::RowBuilder builder(plan, true);
  LabelMeter meter(*plan);
  ShareMeter rows(*plan);
  Steps done;
  while (done.state.step < steps) {
    const data::RowRange own = data::rows_of_rank(done.state.next_row, config.train.batch_rows,
                                                  static_cast<int>(all->rank()), static_cast<int>(all->size()));
    data::Batch batch = builder.build(own.first, own.count);
    if (meddle) meddle(done.state.step, all->rank(), batch);
    const StepInput input = inputs.prepare(std::move(batch));
    rows.add(input.batch);
    const StepResult result = stepper.run(input, done.state, meter);
    done.losses.push_back(result.loss);
    done.norms.push_back(result.gradient_norm);
    done.refused.push_back(result.refused);
  }
  shared.finish_values();
  meter.add_up(*all);
  rows.add_up(*all);
  done.task_means = meter.task_means();
  done.gradient_shares = meter.task_gradient_shares();
  done.shares = rows.shares();
  done.values = model.store().values().clone();
  // In an order that does not depend on the padding.
  std::vector<at::Tensor> parts;
  for (const model::Segment& s : model.store().segments()) {
    parts.push_back(done.values.slice(0, s.offset, s.offset + s.size));
  }
  done.values = at::cat(parts);
  done.compute = model.store().compute();
  done.moment_elements = optimizer.first_moment.numel();
  done.buckets = static_cast<int64_t>(model.store().buckets().size());
  return done;
}

/// By rank.
std::vector<Steps> run_steps(const TrainingConfig& config, int64_t size, const Meddle& meddle = {}, int64_t steps = 5) {
  std::vector<Steps> results(static_cast<size_t>(size));
  test::with_ranks(
      size, [&](const auto& all) { results[static_cast<size_t>(all->rank())] = run_rank(config, all, meddle, steps); });
  return results;
}

Steps run_alone(const TrainingConfig& config, const Meddle& meddle = {}, int64_t steps = 5) {
  return run_rank(config, std::make_shared<Communicator>(), meddle, steps);
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], tolerance * std::abs(expected[i])) << "step " << i + 1;
  }
}

bool same_number(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

void expect_same_on_all_ranks(const std::vector<Steps>& ranks) {
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    ASSERT_EQ(ranks[rank].losses.size(), ranks[0].losses.size());
    for (size_t step = 0; step < ranks[0].losses.size(); ++step) {
      EXPECT_TRUE(same_number(ranks[rank].losses[step], ranks[0].losses[step])) << rank;
      EXPECT_TRUE(same_number(ranks[rank].norms[step], ranks[0].norms[step])) << rank;
    }
    EXPECT_EQ(ranks[rank].refused, ranks[0].refused) << rank;
    EXPECT_TRUE(at::equal(ranks[rank].values, ranks[0].values)) << "rank " << rank << " has other parameters";
    if (!ranks[0].compute.defined()) continue;
    EXPECT_TRUE(at::equal(ranks[rank].compute, ranks[0].compute)) << rank;
  }
}

struct Case {
  int64_t size;
  bool sharded;
};

class DistributedStepTest : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Sizes, DistributedStepTest,
                         testing::Values(Case{2, false}, Case{4, false}, Case{2, true}, Case{3, true}),
                         [](const auto& test) { return cat(test.param.size, test.param.sharded ? "Sharded" : ""); });

TEST_P(DistributedStepTest, EqualsOneProcess) {
  TrainingConfig config = small_config();
  const Steps alone = run_alone(config);
  config.train.shard_optimizer = GetParam().sharded;
  const std::vector<Steps> ranks = run_steps(config, GetParam().size);
  expect_same_on_all_ranks(ranks);
  expect_near(ranks[0].losses, alone.losses, 1e-5);
  expect_near(ranks[0].norms, alone.norms, 1e-4);
  // AdamW divides by the root of the second moment: where a gradient is nearly nothing, rounding decides its sign.
  const double worst = (ranks[0].values - alone.values).abs().max().item<double>();
  EXPECT_LT(worst, 2 * config.optimizer.learning_rate);
  EXPECT_LT((ranks[0].values - alone.values).norm().item<double>(), 1e-3 * alone.values.norm().item<double>());
  for (const auto& [task, mean] : alone.task_means) EXPECT_NEAR(ranks[0].task_means.at(task), mean, 1e-4) << task;
  for (const auto& [task, share] : alone.gradient_shares) {
    EXPECT_NEAR(ranks[0].gradient_shares.at(task), share, 1e-3) << task;
  }
  ASSERT_EQ(ranks[0].shares.size(), alone.shares.size());
  for (const auto& [task, share] : alone.shares) {
    EXPECT_EQ(ranks[0].shares.at(task).tokens, share.tokens) << task << ": other rows were read";
    EXPECT_EQ(ranks[0].shares.at(task).loss, share.loss) << task;
  }
  EXPECT_EQ(ranks[0].state.updates, 5);
  EXPECT_EQ(ranks[0].state.next_row, 60);
  EXPECT_GT(ranks[0].buckets, 5);
  if (!GetParam().sharded) return;
  EXPECT_LT(GetParam().size * ranks[0].moment_elements, alone.moment_elements * 6 / 5) << "moments are not divided";
}

TEST_P(DistributedStepTest, EqualsOneProcessInBf16) {
  TrainingConfig config = small_config(model::Precision::kBf16);
  const Steps alone = run_alone(config);
  config.train.shard_optimizer = GetParam().sharded;
  const std::vector<Steps> ranks = run_steps(config, GetParam().size);
  expect_same_on_all_ranks(ranks);
  expect_near(ranks[0].losses, alone.losses, 2e-3);
  expect_near(ranks[0].norms, alone.norms, 2e-2);
}

TEST_P(DistributedStepTest, IsRepeatedBitForBit) {
  TrainingConfig config = small_config();
  config.train.shard_optimizer = GetParam().sharded;
  const Steps first = run_steps(config, GetParam().size)[0], second = run_steps(config, GetParam().size)[0];
  EXPECT_EQ(first.losses, second.losses);
  EXPECT_TRUE(at::equal(first.values, second.values));
}

TEST_P(DistributedStepTest, WhatIsNotFiniteAtOneRankStopsAllUpdates) {
  TrainingConfig config = small_config();
  config.train.shard_optimizer = GetParam().sharded;
  const auto spoil = [&](int64_t step, int64_t rank, data::Batch& batch) {
    if (step != 1 || rank != GetParam().size - 1) return;
    *std::find_if(batch.loss_weights.begin(), batch.loss_weights.end(), [](float w) { return w > 0; }) = std::nanf("");
  };
  const std::vector<Steps> ranks = run_steps(config, GetParam().size, spoil, 2);
  for (const Steps& rank : ranks) {
    EXPECT_EQ(rank.refused[0], "");
    EXPECT_NE(rank.refused[1], "");
    EXPECT_EQ(rank.state.updates, 1);
    EXPECT_EQ(rank.state.step, 2);
  }
  expect_same_on_all_ranks(ranks);
  const Steps unspoilt = run_steps(config, GetParam().size, {}, 1)[0];
  EXPECT_TRUE(at::equal(ranks[0].values, unspoilt.values)) << "a refused step changed something";
}

TEST(DistributedStepTest, ShardingGivesTheSameNumbers) {
  TrainingConfig config = small_config();
  const Steps whole = run_steps(config, 2)[0];
  config.train.shard_optimizer = true;
  const Steps sharded = run_steps(config, 2)[0];
  expect_near(sharded.losses, whole.losses, 1e-6);
  expect_near(sharded.norms, whole.norms, 1e-6);
  EXPECT_LT((sharded.values - whole.values).norm().item<double>(), 1e-5 * whole.values.norm().item<double>());
}

TEST(DistributedStepTest, ARankWithoutLabelsTakesPart) {
  TrainingConfig config = small_config();
  config.train.batch_rows = 2;
  config.train.micro_batch_rows = {1};
  config.data.schedule = {{0, {{.tasks = "text/*", .share = 1, .steps = {1, 1, true}}}}};
  const auto strip = [&](int64_t size) {
    std::vector<Steps> results(static_cast<size_t>(size));
    test::with_ranks(size, [&](const auto& all) {
      at::set_num_threads(1);
      const auto plan = shared_data().plan(config.data);
      model::Model model(config.model, model_shape(shared_data().vocabulary()), 3, model::Model::Purpose::kTraining,
                         at::kCPU, bucket_layout(0, all->size(), 0.01));
      SharedParameters shared(all, model.store(), false);
      OptimizerState optimizer = shared.make_optimizer();
      Stepper stepper(config, shared, model, optimizer);
      const InputPreparer inputs(at::kCPU, config, all->size());
      const data::RowRange own = data::rows_of_rank(0, 2, static_cast<int>(all->rank()), static_cast<int>(size));
      data::Batch batch = data::RowBuilder(plan, true).build(own.first, own.count);
      for (int64_t row = 0; row < batch.rows; ++row) {  // row 1 of the step has no label
        if (batch.first_row + row != 1) continue;
        const auto begin = static_cast<size_t>(row * batch.row_tokens),
                   end = begin + static_cast<size_t>(batch.row_tokens);
        std::fill(batch.loss_weights.begin() + static_cast<int64_t>(begin),
                  batch.loss_weights.begin() + static_cast<int64_t>(end), 0.0f);
        std::fill(batch.targets.begin() + static_cast<int64_t>(begin),
                  batch.targets.begin() + static_cast<int64_t>(end), -1);
      }
      LabelMeter meter(*plan);
      Steps& done = results[static_cast<size_t>(all->rank())];
      const StepResult result = stepper.run(inputs.prepare(std::move(batch)), done.state, meter);
      done.losses = {result.loss};
      done.norms = {result.gradient_norm};
    });
    return results;
  };
  const std::vector<Steps> two = strip(2), one = strip(1);
  EXPECT_EQ(two[0].losses, two[1].losses);
  EXPECT_EQ(two[0].state.updates, 1);
  expect_near(two[0].losses, one[0].losses, 1e-6);
  expect_near(two[0].norms, one[0].norms, 1e-6);
}

TEST(RowsPerProcessTest, NamesTheNearestSizesThatWork) {
  LoopConfig config;
  config.batch_rows = 12;
  EXPECT_EQ(rows_per_process(config, 4), 3);
  try {
    (void)rows_per_process(config, 5);
    FAIL();
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("4 or 3 or 6 processes"), std::string::npos) << text;
    EXPECT_NE(text.find("10 or 15 rows"), std::string::npos) << text;
  }
  EXPECT_THROW((void)rows_per_process(config, 13), ConfigError);
}

TEST(RowsPerProcessTest, MicroBatchDividesAProcessesRows) {
  LoopConfig config;
  config.batch_rows = 48;
  config.micro_batch_rows = {16};
  EXPECT_EQ(micro_rows(config, 1), 16);
  EXPECT_EQ(micro_rows(config, 2), 12);
  EXPECT_EQ(micro_rows(config, 3), 16);
  EXPECT_EQ(micro_rows(config, 4), 12);
  EXPECT_EQ(micro_rows(config, 6), 8);
  config.micro_batch_rows = {0};
  EXPECT_EQ(micro_rows(config, 4), 12);
  config.micro_batch_rows = {MicroBatchRows::kAuto};
  EXPECT_EQ(micro_rows(config, 4), 12);
}

}  // namespace
}  // namespace gato::train

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "gato/core/threads.h"
#include "gato/train/trainer.h"
#include "ranks.h"
#include "support/synthetic_data.h"
#include "support/temp_folder.h"
#include "train/replica_check.h"
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
  int64_t moment_elements = 0, master_elements = 0, value_elements = 0, elements = 0, buckets = 0;
};

/// What a step may find changed: (step, rank, batch).
using Meddle = std::function<void(int64_t, int64_t, data::Batch&)>;

/// A flat buffer in an order that depends on neither layout nor padding.
at::Tensor by_name(const model::ParameterStore& store, const at::Tensor& flat) {
  if (!flat.defined()) return flat;
  std::map<std::string, at::Tensor> parts;
  for (const model::Segment& s : store.segments()) parts[s.name] = flat.slice(0, s.offset, s.offset + s.size);
  std::vector<at::Tensor> in_order;
  for (const auto& [name, part] : parts) in_order.push_back(part);
  return at::cat(in_order);
}

Steps run_rank(const TrainingConfig& config, const std::shared_ptr<Communicator>& all, const Meddle& meddle,
               int64_t steps) {
  at::set_num_threads(1);
  const auto plan = shared_data().plan(config.data);
  const model::ModelShape shape = model_shape(shared_data().vocabulary());
  model::Model model(config.model, shape, 3, model::Model::Purpose::kTraining, at::kCPU,
                     bucket_layout(0, *all, config));
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
  const at::Tensor whole = at::zeros({model.store().num_elements()});
  shared.gather_masters(whole);
  done.values = by_name(model.store(), whole);
  done.compute = by_name(model.store(), model.store().compute());
  done.master_elements = model.store().masters().defined() ? model.store().masters().numel() : 0;
  done.value_elements = model.store().values().numel();
  done.elements = model.store().num_elements();
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
  int64_t masters = 0;
  for (const Steps& rank : ranks) {
    masters += rank.master_elements;
    EXPECT_TRUE(at::equal(rank.compute, rank.values.to(at::kBFloat16))) << "weights are not the rounded masters";
    EXPECT_EQ(rank.master_elements > 0, GetParam().sharded);
    if (GetParam().sharded) {
      EXPECT_LT(rank.value_elements, rank.elements) << "masters are not divided";
    }
  }
  EXPECT_EQ(masters, GetParam().sharded ? ranks[0].elements : 0);
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
  for (const auto& [precision, tolerance] :
       {std::pair{model::Precision::kFp32, 1e-6}, {model::Precision::kBf16, 1e-4}}) {
    TrainingConfig config = small_config(precision);
    const Steps whole = run_steps(config, 2)[0];
    config.train.shard_optimizer = true;
    const Steps sharded = run_steps(config, 2)[0];
    expect_near(sharded.losses, whole.losses, tolerance);
    expect_near(sharded.norms, whole.norms, 10 * tolerance);
    EXPECT_LT((sharded.values - whole.values).norm().item<double>(),
              10 * tolerance * whole.values.norm().item<double>());
  }
}

/// One process of a run whose masters are divided where it is one of several.
struct Process {
  Process(const TrainingConfig& config, std::shared_ptr<Communicator> processes, uint64_t seed)
      : all(std::move(processes)),
        model(config.model, model_shape(shared_data().vocabulary()), seed, model::Model::Purpose::kTraining, at::kCPU,
              bucket_layout(0, *all, config)),
        shared(all, model.store(), config.train.shard_optimizer),
        optimizer(shared.make_optimizer()) {}
  [[nodiscard]] at::Tensor values() {
    const at::Tensor whole = at::zeros({model.store().num_elements()});
    shared.gather_masters(whole);
    return by_name(model.store(), whole);
  }
  std::shared_ptr<Communicator> all;
  model::Model model;
  SharedParameters shared;
  OptimizerState optimizer;
};

/// Saves what the processes have; returns whether all were told that it is there.
bool save(Process& process, const Path& folder, const std::string& tag) {
  SaverOptions options;
  options.folder = folder;
  options.place = {process.all->rank(), process.all->size()};
  options.tag = tag;
  if (process.model.store().has_divided_masters()) {
    options.gather_values = [&](const at::Tensor& whole) { process.shared.gather_masters(whole); };
  }
  BackgroundSaver saver(process.model.store(), process.optimizer, options);
  SaveRequest request;
  request.state.step = 1;
  saver.start(std::move(request));
  if (process.all->alone()) return saver.wait()->saved;
  saver.commit(process.all->gather(saver.part(), "parts"));
  return saver.wait()->saved;
}

TEST(DistributedStepTest, DividedMastersAreSavedWholeAndLoadedByAnyNumber) {
  TrainingConfig config = small_config(model::Precision::kBf16);
  config.train.shard_optimizer = true;
  const gato::test::TempFolder folder;
  const std::string tag = checkpoint::process_tag();
  at::Tensor saved;
  test::with_ranks(3, [&](const auto& all) {
    Process process(config, all, 3);
    for (const OwnPart& part : process.shared.parts()) {
      process.shared.masters_of(part).add_(0.001 * static_cast<double>(part.offset % 97));
    }
    process.optimizer.first_moment.fill_(2);
    process.shared.share_values();
    process.shared.finish_values();
    const at::Tensor values = process.values();
    if (all->rank() == 0) saved = values;
    EXPECT_TRUE(save(process, folder.path(), tag));
    all->barrier("saved");
  });
  const Path path = folder / checkpoint::step_name(1);
  for (const int64_t size : {1, 2, 4}) {
    const auto load = [&](const auto& all) {
      Process process(config, all, 9);
      EXPECT_FALSE(at::equal(process.values(), saved));
      (void)load_checkpoint(path, process.model, process.optimizer);
      EXPECT_TRUE(at::equal(process.values(), saved)) << size;
      EXPECT_TRUE(at::equal(by_name(process.model.store(), process.model.store().compute()), saved.to(at::kBFloat16)));
      check_replicas(*all, process.shared.replicas(), 1);
      for (const at::Tensor& buffer : process.shared.replicas()) {
        if (all->rank() == size - 1) buffer.slice(0, 0, 1).add_(1);
        if (size > 1) {
          EXPECT_THROW(check_replicas(*all, process.shared.replicas(), 2), DivergedError);
        }
        if (all->rank() == size - 1) buffer.slice(0, 0, 1).sub_(1);
      }
    };
    size == 1 ? load(std::make_shared<Communicator>()) : test::with_ranks(size, load);
  }
}

TEST(BucketLayoutTest, BucketsGrowWithTheModelAndTheProcesses) {
  constexpr int64_t kMi = int64_t{1} << 20;
  EXPECT_EQ(bucket_layout(1000, 8, 0).elements, kMi / 4);
  EXPECT_EQ(bucket_layout(12 * kMi, 8, 0).elements, kMi);
  EXPECT_EQ(bucket_layout(1200 * kMi, 8, 0).elements, 4 * kMi);
  EXPECT_EQ(bucket_layout(1200 * kMi, 64, 0).elements, 16 * kMi);
  EXPECT_EQ(bucket_layout(1200 * kMi, 64, 2).elements, kMi / 2) << "comm.bucket_mib decides";
}

TEST(DistributedStepTest, SignalsTravelWithTheStep) {
  for (const bool sharded : {false, true}) {
    TrainingConfig config = small_config();
    config.train.shard_optimizer = sharded;
    std::vector<StepSignals> agreed(3);
    std::vector<int64_t> tokens(3);
    test::with_ranks(3, [&](const auto& all) {
      at::set_num_threads(1);
      const auto plan = shared_data().plan(config.data);
      model::Model model(config.model, model_shape(shared_data().vocabulary()), 3, model::Model::Purpose::kTraining,
                         at::kCPU, bucket_layout(0, all->size(), 0.01));
      SharedParameters shared(all, model.store(), sharded);
      OptimizerState optimizer = shared.make_optimizer();
      Stepper stepper(config, shared, model, optimizer);
      const data::RowRange own = data::rows_of_rank(0, 12, static_cast<int>(all->rank()), 3);
      data::Batch batch = data::RowBuilder(plan, true).build(own.first, own.count);
      const auto rank = static_cast<size_t>(all->rank());
      tokens[rank] = batch.tokens;
      LabelMeter meter(*plan);
      TrainingState state;
      const auto say = [&] {
        StepSignals signals;
        signals.stop = rank == 1 ? 1 : 0;
        signals.damage = static_cast<int64_t>(rank);
        return signals;
      };
      agreed[rank] =
          stepper.run(InputPreparer(at::kCPU, config, 3).prepare(std::move(batch)), state, meter, say).agreed;
      EXPECT_EQ(state.tokens, agreed[rank].tokens);
      shared.finish_values();
    });
    for (const StepSignals& signals : agreed) {
      EXPECT_EQ(signals.stop, 1);
      EXPECT_EQ(signals.damage, 3);
      EXPECT_EQ(signals.out_of_time, 0);
      EXPECT_EQ(signals.tokens, tokens[0] + tokens[1] + tokens[2]);
    }
  }
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

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "gato/data/statistics.h"
#include "gato/run/metrics.h"
#include "gato/run/run_folder.h"
#include "gato/run/step_log.h"
#include "gato/train/batch_tensors.h"
#include "gato/train/trainer.h"
#include "support/synthetic_data.h"

namespace gato::train {
namespace {

using data::test::shared_data;

/// A model that learns in seconds on the synthetic data.
TrainingConfig small_config(const Path& run) {
  static const Path tokenizer_file = [] {
    const Path path = shared_data().folder() / "tokenizer.model";
    write_file_atomic(path, shared_data().text().model_bytes());
    return path;
  }();
  TrainingConfig config;
  config.run.dir = run.string();
  config.tokenizer = {tokenizer_file.string(), true};
  config.data = shared_data().config(64);
  config.model.layers = 2;
  config.model.width = 32;
  config.model.heads = 2;
  config.model.head_dim = 16;
  config.model.hidden = 64;
  config.model.patch_channels = 8;
  config.model.stochastic_depth = 0.1;
  config.optimizer.learning_rate = 3e-3;
  config.optimizer.warmup_steps = 5;
  config.train.steps = 24;
  config.train.batch_rows = 4;
  config.train.micro_batch_rows = {2};
  config.train.soft_target_bins = 4;
  config.train.log_every = 4;
  config.train.validate_every = 8;
  config.train.validation_rows = 8;
  config.train.checkpoint_every = 10;
  config.train.threads = 2;
  return config;
}

class TrainTest : public testing::Test {
 protected:
  void SetUp() override { log::set_level(log::Level::kError); }
  void TearDown() override { clear_signal_flags(); }
  gato::test::TempFolder folder_;
};

std::string final_file(const Path& run, const std::string& name, int64_t step) {
  return read_file(run::RunFolder(run).checkpoints_path() / checkpoint::step_name(step) / name);
}

TEST_F(TrainTest, InterruptedRunGivesTheSameBitsAsAnUninterruptedOne) {
  const TrainingOutcome whole = train(small_config(folder_ / "whole"), {"test"});
  EXPECT_TRUE(whole.finished);
  EXPECT_EQ(whole.step, 24);

  int interruptions = 0;
  for (bool finished = false; !finished;) {
    std::atomic<bool> done = false;
    const int64_t saved_before = [&] {
      const auto newest = checkpoint::newest_valid(run::RunFolder(folder_ / "parts").checkpoints_path());
      return newest ? newest->step : 0;
    }();
    // Stops the run some steps after it began: each attempt at another place.
    std::thread stopper([&] {
      const Path metrics = run::RunFolder(folder_ / "parts").metrics_path();
      while (!done) {
        const auto points = run::read_metrics(metrics).points;
        if (!points.empty() && points.back().step > saved_before && interruptions < 3) {
          request_stop();
          return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    try {
      finished = train(small_config(folder_ / "parts"), {"test"}).finished;
    } catch (const Interrupted&) {
      ++interruptions;
    }
    done = true;
    stopper.join();
    clear_signal_flags();
  }
  EXPECT_GE(interruptions, 1);
  for (const char* file :
       {"model.safetensors", "optimizer-first_moment.safetensors", "optimizer-second_moment.safetensors"}) {
    EXPECT_TRUE(final_file(folder_ / "whole", file, 24) == final_file(folder_ / "parts", file, 24))
        << file << " differs";
  }
  const auto whole_losses =
      run::read_metrics(run::RunFolder(folder_ / "whole").metrics_path()).series("validation/loss");
  const auto parts_losses =
      run::read_metrics(run::RunFolder(folder_ / "parts").metrics_path()).series("validation/loss");
  EXPECT_EQ(whole_losses, parts_losses);
}

TEST_F(TrainTest, MicroBatchIsMeasuredWhenARunBeginsAndKeptAfterwards) {
  TrainingConfig config = small_config(folder_ / "auto");
  config.train.micro_batch_rows = {MicroBatchRows::kAuto};
  config.train.steps = 2;
  train(config, {"test"});
  const auto recorded = read_config<TrainingConfig>(load_yaml((folder_ / "auto/config.yaml").string()));
  EXPECT_EQ(recorded.train.micro_batch_rows.rows, 4) << "four rows of this model fit everywhere";

  train(small_config(folder_ / "two"), {"test"});
  config = small_config(folder_ / "resumed");
  config.train.max_minutes = 1e-6;
  EXPECT_FALSE(train(config, {"test"}).finished);  // saved before its first step
  config = small_config(folder_ / "resumed");
  config.train.micro_batch_rows = {MicroBatchRows::kAuto};
  train(config, {"test"});
  EXPECT_TRUE(final_file(folder_ / "two", "model.safetensors", 24) ==
              final_file(folder_ / "resumed", "model.safetensors", 24))
      << "a resumed run measured again";
}

TEST_F(TrainTest, LossFallsAndValidationIsReportedByDomain) {
  TrainingConfig config = small_config(folder_ / "run");
  config.train.steps = 60;
  config.model.stochastic_depth = 0;
  const TrainingOutcome outcome = train(config, {"test"});
  const auto losses = run::read_metrics(run::RunFolder(config.run.dir).metrics_path()).series("train/loss/text");
  ASSERT_GE(losses.size(), 10u);
  EXPECT_LT(losses.back().second, losses.front().second - 0.5);
  for (const char* domain : {"control", "game", "grid", "text"})
    EXPECT_TRUE(outcome.validation_loss.count(domain)) << domain;
}

TEST_F(TrainTest, FinishedRunDoesNothingMore) {
  const TrainingConfig config = small_config(folder_ / "run");
  train(config, {"test"});
  const auto before =
      std::filesystem::last_write_time(run::RunFolder(config.run.dir).checkpoints_path() / checkpoint::step_name(24));
  EXPECT_TRUE(train(config, {"test"}).finished);
  EXPECT_EQ(before, std::filesystem::last_write_time(run::RunFolder(config.run.dir).checkpoints_path() /
                                                     checkpoint::step_name(24)));
}

TEST_F(TrainTest, OtherSettingsDoNotGoOnWithARun) {
  TrainingConfig config = small_config(folder_ / "run");
  train(config, {"test"});
  config.model.layers = 3;
  config.train.seed = 5;
  try {
    train(config, {"test"});
    FAIL() << "a run went on with another model";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("model"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("train.seed"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("run.dir"), std::string::npos);
  }
}

TEST_F(TrainTest, DamagedCheckpointIsPassedOverAndComputedAgain) {
  TrainingConfig config = small_config(folder_ / "run");
  train(config, {"test"});
  const Path newest =
      run::RunFolder(config.run.dir).checkpoints_path() / checkpoint::step_name(24) / "model.safetensors";
  const std::string whole = read_file(newest);
  std::string damaged = whole;
  damaged[damaged.size() / 2] ^= 1;
  std::filesystem::remove(newest);
  write_file_atomic(newest, damaged);
  EXPECT_TRUE(train(config, {"test"}).finished);  // from step 20
  EXPECT_TRUE(final_file(config.run.dir, "model.safetensors", 24) == whole);
}

TEST_F(TrainTest, DivergenceIsRefusedBeforeTheUpdateAndNamed) {
  TrainingConfig config = small_config(folder_ / "run");
  config.optimizer.learning_rate = 10;
  config.optimizer.clip_norm = 0;
  config.optimizer.weight_decay = 10;
  config.train.steps = 2000;
  config.train.checkpoint_every = 100000;
  config.train.validate_every = 0;
  EXPECT_THROW(train(config, {"test"}), DivergedError);
}

TEST_F(TrainTest, RepeatedDivergenceRollsBackOnceAndThenStops) {
  TrainingConfig config = small_config(folder_ / "run");
  config.optimizer.learning_rate = 10;
  config.optimizer.clip_norm = 0;
  config.optimizer.weight_decay = 10;
  config.train.steps = 2000;
  config.train.checkpoint_every = 2;
  config.train.validate_every = 0;
  try {
    train(config, {"test"});
    FAIL() << "did not diverge";
  } catch (const DivergedError& error) {
    EXPECT_NE(std::string(error.what()).find("after a rollback before"), std::string::npos) << error.what();
  }
  const run::RunFolder folder(config.run.dir);
  const auto newest = checkpoint::newest_valid(folder.checkpoints_path());
  ASSERT_TRUE(newest);
  const std::string state = read_file(newest->path / "training_state.json");
  EXPECT_NE(state.find("\"rollbacks\": 1"), std::string::npos) << state;
  int64_t refused = 0;
  for (const run::StepRecord& step : run::read_steps(folder.steps_path())) {
    EXPECT_EQ(step.first_row, (step.step - 1) * config.train.batch_rows);  // refused steps consume their rows
    refused += step.refused ? 1 : 0;
  }
  EXPECT_GE(refused, 5);
}

TEST_F(TrainTest, ReplayGivesTheSameBitsAndNoticesOthers) {
  TrainingConfig config = small_config(folder_ / "run");
  train(config, {"test"});
  const Path steps = run::RunFolder(config.run.dir).steps_path();
  ASSERT_EQ(run::read_steps(steps).size(), 24u);
  const Replay last = replay(config.run.dir, 24);
  EXPECT_EQ(last.from_step, 20);
  EXPECT_EQ(last.compared, 4);
  EXPECT_TRUE(last.same_numbers) << last.report;
  EXPECT_TRUE(last.compared_parameters);
  EXPECT_TRUE(last.same_parameters) << last.report;
  EXPECT_NE(last.report.find("control/arm"), std::string::npos) << last.report;
  const Replay first = replay(config.run.dir, 3);
  EXPECT_EQ(first.from_step, 0);
  EXPECT_TRUE(first.same_numbers) << first.report;
  EXPECT_FALSE(first.compared_parameters);

  const std::string before = read_file(steps);
  std::string changed = before;
  changed.replace(changed.rfind("\n1,24,") + 1, std::string::npos, "1,24,92,1.5,1,0\n");
  write_file_atomic(steps, changed);
  EXPECT_FALSE(replay(config.run.dir, 24).same_numbers);
  EXPECT_THROW(static_cast<void>(replay(config.run.dir, 25)), ConfigError);
  EXPECT_THROW(static_cast<void>(replay((folder_ / "none").string(), 1)), ConfigError);
}

TEST_F(TrainTest, ReplayTakesTheRunsRouteOfAttention) {
  TrainingConfig config = small_config(folder_ / "run");
  config.train.steps = 4;
  config.kernels.attention = kernels::AttentionRoute::kReference;
  train(config, {"test"});
  kernels::set_attention_route(kernels::AttentionRoute::kOwn);  // as in another process
  const Replay again = replay(config.run.dir, 4);
  EXPECT_TRUE(again.same_numbers) << again.report;
  EXPECT_TRUE(again.same_parameters) << again.report;
  kernels::set_attention_route(kernels::AttentionRoute::kAuto);
}

TEST_F(TrainTest, ARouteOfAttentionThatCannotBeIsRefusedBeforeAnythingIsWritten) {
  TrainingConfig config = small_config(folder_ / "run");
  config.kernels.attention = kernels::AttentionRoute::kFlash;
  EXPECT_THROW(train(config, {"test"}), ConfigError);
  EXPECT_FALSE(std::filesystem::exists(config.run.dir));
}

TEST_F(TrainTest, MetricsTellSharesLossesAndOutliersByTask) {
  TrainingConfig config = small_config(folder_ / "run");
  train(config, {"test"});
  const auto points = run::read_metrics(run::RunFolder(config.run.dir).metrics_path()).points;
  ASSERT_FALSE(points.empty());
  const run::MetricValues& values = points.front().values;
  for (const char* kind :
       {"data/token_share/", "data/label_share/", "data/loss_share/", "train/task_gradient_share/"}) {
    double sum = 0;
    for (const auto& [name, value] : values) sum += name.rfind(kind, 0) == 0 ? value : 0;
    EXPECT_NEAR(sum, 1, 1e-9) << kind;
  }
  EXPECT_GT(values.at("data/fill"), 0.9);
  EXPECT_TRUE(values.count("train/loss_z") == 1 && values.count("train/gradient_norm_z") == 1);
  EXPECT_TRUE(values.count("train/task_loss/text/tales") == 1);
}

TEST_F(TrainTest, ProfileNamesThePartsOfAStepAndChangesNoNumber) {
  const TrainingConfig plain = small_config(folder_ / "plain"), profiled = small_config(folder_ / "profiled");
  train(plain, {"test"});
  train(profiled, {"test"}, 5);
  const std::string trace = read_file(folder_ / "profiled" / "profile-8.json");  // after three steps and five
  for (const char* part : {"attention forward", "head backward", "optimizer", "waiting for data"})
    EXPECT_NE(trace.find(part), std::string::npos) << part;
  EXPECT_TRUE(final_file(plain.run.dir, "model.safetensors", 24) ==
              final_file(profiled.run.dir, "model.safetensors", 24));
}

/// A data set of one task without text, in a folder of its own.
void write_new_task(const Path& folder, int64_t episodes = 20) {
  episode::TaskSpec task = data::test::control_task();
  task.id = "added/arm";
  episode::DatasetWriter writer(folder, {"added", "Synthetic.", "", "test"}, {task});
  for (int64_t e = 0; e < episodes; ++e) writer.add(0, data::test::random_episode(task, e, false));
  writer.finish();
}

TEST_F(TrainTest, DataAddedInALaterPhaseIsUsedFromThereAndOldRowsStay) {
  TrainingConfig config = small_config(folder_ / "run");
  config.train.steps = 16;  // 64 rows: one block
  train(config, {"test"});
  write_new_task(folder_ / "new");
  config.train.steps = 32;
  config.data.schedule.push_back({.first_row = 64,
                                  .mixture = {{.tasks = "*", .share = 1}, {.tasks = "added/*", .share = 1}},
                                  .datasets = {shared_data().folder().string(), (folder_ / "new").string()}});
  EXPECT_TRUE(train(config, {"test"}).finished);
  const run::RunFolder folder(config.run.dir);
  const auto points = run::read_metrics(folder.metrics_path()).points;
  EXPECT_EQ(points.front().values.count("data/token_share/added/arm"), 0u);
  EXPECT_GT(points.back().values.at("data/token_share/added/arm"), 0.1);
  EXPECT_NE(folder.read_schedule()->find("added"), std::string::npos);
  const Replay before = replay(config.run.dir, 5);  // inside the warm-up, where the longer schedule changes nothing
  EXPECT_EQ(before.compared, 5);
  EXPECT_TRUE(before.same_numbers) << before.report;

  // What has begun must stay as it was.
  TrainingConfig changed = config;
  changed.data.schedule[0].mixture[0].share = 5;
  changed.train.steps = 40;
  EXPECT_THROW(train(changed, {"test"}), ConfigError);
}

/// Flips a byte in the middle of the newest shard of a folder.
void damage_a_shard(const Path& folder) {
  const Path shard = episode::list_shards(folder).front();
  std::string bytes = read_file(shard);
  char& byte = bytes[bytes.size() / 2];  // behind the index, without which nothing in the shard can be read
  byte = static_cast<char>(byte ^ 1);
  std::filesystem::remove(shard);
  write_file_atomic(shard, bytes);
}

TEST_F(TrainTest, DamagedEpisodesAreLeftOutOnRecordOrStopTheRun) {
  write_new_task(folder_ / "data", 600);  // several blocks
  TrainingConfig config = small_config(folder_ / "run");
  config.data.datasets = {(folder_ / "data").string()};
  config.data.schedule = {{0, {{.tasks = "*", .share = 1}}}};
  damage_a_shard(folder_ / "data");
  try {
    train(config, {"test"});
    FAIL() << "damage went unnoticed";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(".gato"), std::string::npos) << error.what();
  }
  config.run.dir = (folder_ / "other").string();
  config.data.on_corrupt = data::OnCorrupt::kQuarantine;
  config.data.quarantine_budget = 1;
  EXPECT_TRUE(train(config, {"test"}).finished);
  const Path list = run::RunFolder(config.run.dir).quarantine_path();
  EXPECT_NE(read_file(list).find("added/arm"), std::string::npos);
  const Replay again = replay(config.run.dir, 24);
  EXPECT_TRUE(again.same_numbers && again.same_parameters) << again.report;
}

TEST_F(TrainTest, AccumulationGivesTheGradientsOfTheWholeBatch) {
  TrainingConfig config = small_config(folder_ / "run");
  const auto builder = data::RowBuilder(shared_data().plan(config.data), true);
  const data::Batch batch = builder.build(0, 4);
  model::Model whole(config.model, {shared_data().vocabulary().size(), shared_data().vocabulary().first_bin(), 1024},
                     1);
  model::Model parts(config.model, {shared_data().vocabulary().size(), shared_data().vocabulary().first_bin(), 1024},
                     1);
  const auto add = [&](model::Model& model, int64_t first, int64_t count) {
    const BatchTensors tensors = batch_tensors(batch, first, count);
    model.backward(model.loss(tensors.input, tensors.loss).loss);
    return tensors.weight_sum;
  };
  whole.store().zero_gradients();
  parts.store().zero_gradients();
  const double whole_weight = add(whole, 0, 4);
  const double parts_weight = add(parts, 0, 1) + add(parts, 1, 3);
  EXPECT_NEAR(whole_weight, parts_weight, 1e-4);
  EXPECT_TRUE(at::allclose(whole.store().gradients(), parts.store().gradients(), 1e-3, 1e-4));
  EXPECT_GT(whole.store().gradients().abs().max().item<double>(), 0);
}

TEST(LearningRateTest, WarmsUpLinearlyAndEndsAtItsShare) {
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  config.warmup_steps = 100;
  config.final_share = 0.1;
  EXPECT_NEAR(learning_rate(config, 50, 1000), 0.5e-3, 1e-6);
  EXPECT_NEAR(learning_rate(config, 100, 1000), 1e-3, 1e-12);
  EXPECT_NEAR(learning_rate(config, 550, 1000), 0.5 * (1e-3 + 1e-4), 1e-9);
  EXPECT_NEAR(learning_rate(config, 1000, 1000), 1e-4, 1e-12);
  config.warmup_steps = 0;
  EXPECT_TRUE(std::isfinite(learning_rate(config, 1, 1)));
}

TEST(CheckReportTest, SaysParametersAndWhatIsMissing) {
  TrainingConfig config;
  config.data.datasets = {"/nonexistent"};
  config.tokenizer.model = "/nonexistent/tokenizer.model";
  const std::string report = check_report(config);
  EXPECT_NE(report.find("parameters: 73"), std::string::npos) << report;  // 73.2 M and the patch embedder
  EXPECT_NE(report.find("does not exist"), std::string::npos) << report;
}

}  // namespace
}  // namespace gato::train

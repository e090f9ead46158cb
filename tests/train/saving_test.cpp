#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "gato/checkpoint/retention.h"
#include "gato/core/log.h"
#include "gato/run/metrics.h"
#include "gato/run/run_folder.h"
#include "gato/run/step_log.h"
#include "gato/train/trainer.h"
#include "support/file_faults.h"
#include "support/synthetic_data.h"

// Whole runs whose saves fail, are deleted, or begin another run.
namespace gato::train {
namespace {

using data::test::shared_data;
using testing_hooks::FileFault;
using testing_hooks::FileOperation;
using testing_hooks::ScopedFileFault;

class SavingTest : public testing::Test {
 protected:
  void SetUp() override { log::set_level(log::Level::kError); }

  /// A run of twelve steps that saves every second one.
  [[nodiscard]] TrainingConfig config(const std::string& run) const {
    static const Path tokenizer_file = [] {
      const Path path = shared_data().folder() / "tokenizer.model";
      write_file_atomic(path, shared_data().text().model_bytes());
      return path;
    }();
    TrainingConfig config;
    config.run.dir = (folder_ / run).string();
    config.tokenizer = {tokenizer_file.string(), true};
    config.data = shared_data().config(64);
    config.model.layers = 1;
    config.model.width = 16;
    config.model.heads = 2;
    config.model.head_dim = 8;
    config.model.hidden = 32;
    config.model.patch_channels = 4;
    config.optimizer.learning_rate = 3e-3;
    config.optimizer.warmup_steps = 2;
    config.train.steps = 12;
    config.train.batch_rows = 2;
    config.train.micro_batch_rows = {2};
    config.train.log_every = 4;
    config.train.validate_every = 2;
    config.train.validation_rows = 2;
    config.train.checkpoint_every = 2;
    config.train.threads = 1;
    config.train.demonstration_steps = 2;
    return config;
  }
  [[nodiscard]] Path checkpoints(const std::string& run) const {
    return run::RunFolder(folder_ / run).checkpoints_path();
  }
  [[nodiscard]] std::vector<int64_t> steps(const std::string& run) const {
    std::vector<int64_t> found;
    for (const auto& info : checkpoint::list_checkpoints(checkpoints(run))) found.push_back(info.step);
    return found;
  }
  [[nodiscard]] std::string weights(const std::string& run, int64_t step) const {
    return read_file(checkpoints(run) / checkpoint::step_name(step) / "model.safetensors");
  }
  gato::test::TempFolder folder_;
};

TEST_F(SavingTest, InTheBackgroundOrNotTheBitsAreTheSame) {
  TrainingConfig at_once = config("at_once");
  at_once.train.background_save = false;
  train(config("background"), {"test"});
  train(at_once, {"test"});
  EXPECT_EQ(steps("background"), (std::vector<int64_t>{12, 10, 8}));
  EXPECT_EQ(steps("at_once"), steps("background"));
  for (const int64_t step : steps("at_once")) EXPECT_EQ(weights("background", step), weights("at_once", step)) << step;
  const auto metrics = run::read_metrics(run::RunFolder(folder_ / "background").metrics_path());
  EXPECT_FALSE(metrics.series("checkpoint/stall_seconds").empty());
  EXPECT_FALSE(metrics.series("checkpoint/seconds").empty());
}

TEST_F(SavingTest, OneFailedSaveDoesNotEndARun) {
  for (const auto& [operation, error] : {std::pair{FileOperation::kFsync, EIO}, {FileOperation::kWrite, ENOSPC}}) {
    const std::string run = cat("run", static_cast<int>(operation));
    const ScopedFileFault fault(
        {.operation = operation, .nth = 1, .error_number = error, .path_contains = checkpoint::step_name(4) + ".tmp-"});
    EXPECT_TRUE(train(config(run), {"test"}).finished);
    EXPECT_EQ(steps(run), (std::vector<int64_t>{12, 10, 8}));
  }
}

TEST_F(SavingTest, AFullDiskForRecordsEndsNoRunAndLosesNothing) {
  for (const char* file : {"steps.csv", "metrics.jsonl"}) {
    const ScopedFileFault fault(
        {.operation = FileOperation::kWrite, .nth = 1, .error_number = ENOSPC, .path_contains = file});
    const std::string name = cat("full-", file[0]);
    EXPECT_TRUE(train(config(name), {"test"}).finished);
    const run::RunFolder folder(folder_ / name);
    EXPECT_EQ(run::read_steps(folder.steps_path()).size(), 12u);
    EXPECT_EQ(run::read_metrics(folder.metrics_path()).series("train/loss").size(), 3u);
  }
}

TEST_F(SavingTest, ThreeFailedSavesEndItAndTheSameCommandGoesOn) {
  for (const char* name : {"whole", "run"}) {
    TrainingConfig first = config(name);
    first.train.steps = 4;
    train(first, {"test"});
  }
  train(config("whole"), {"test"});
  std::string message;
  {
    const ScopedFileFault fault({.operation = FileOperation::kWrite,
                                 .nth = 1,
                                 .all_after = true,
                                 .error_number = ENOSPC,
                                 .path_contains = checkpoints("run").string()});
    try {
      train(config("run"), {"test"});
    } catch (const CheckpointError& error) {
      message = error.what();
    }
  }
  EXPECT_NE(message.find("3 saves in a row failed, the last of step 10: "), std::string::npos) << message;
  EXPECT_NE(message.find("the newest checkpoint is of step 4"), std::string::npos) << message;
  EXPECT_EQ(steps("run"), (std::vector<int64_t>{4, 2}));
  EXPECT_TRUE(train(config("run"), {"test"}).finished);
  EXPECT_EQ(weights("run", 12), weights("whole", 12));
}

TEST_F(SavingTest, ADamagedCheckpointIsSetAsideAndTheOlderOneGoesOn) {
  train(config("run"), {"test"});
  const std::string expected = weights("run", 12);
  for (const int64_t step : {12, 10}) {
    std::string content = weights("run", step);
    content[5000] = static_cast<char>(~content[5000]);
    write_file_atomic(checkpoints("run") / checkpoint::step_name(step) / "model.safetensors", content);
  }
  EXPECT_TRUE(train(config("run"), {"test"}).finished);
  EXPECT_EQ(weights("run", 12), expected);
  for (const int64_t step : {12, 10}) {
    EXPECT_TRUE(std::filesystem::exists(checkpoints("run") / (checkpoint::step_name(step) + ".damaged-1"))) << step;
  }
}

TEST_F(SavingTest, TheBestAndThePinnedStay) {
  TrainingConfig best = config("run");
  best.train.keep_checkpoints = 2;
  best.train.keep_best = 1;
  best.train.best_is = BestIs::kMax;  // of a falling loss: the oldest
  best.train.steps = 6;
  train(best, {"test"});
  EXPECT_EQ(steps("run"), (std::vector<int64_t>{6, 4, 2}));
  checkpoint::pin(checkpoints("run"), 4);
  best.train.steps = 12;
  best.train.best_is = BestIs::kMin;
  train(best, {"test"});
  const std::vector<int64_t> left = steps("run");
  EXPECT_EQ(left.front(), 12);
  EXPECT_TRUE(std::find(left.begin(), left.end(), 4) != left.end()) << "pinned";
  EXPECT_TRUE(std::find(left.begin(), left.end(), 2) == left.end()) << "no longer the best";
}

TEST_F(SavingTest, ARunBeginsWithTheWeightsOfAnother) {
  TrainingConfig first = config("first");
  first.train.steps = 4;
  train(first, {"test"});
  TrainingConfig second = config("second");
  second.train.init_from = (folder_ / "first").string();
  second.optimizer.learning_rate = 0;
  second.optimizer.weight_decay = 0;
  second.optimizer.warmup_steps = 0;
  second.train.seed = 77;
  second.train.steps = 2;
  train(second, {"test"});
  EXPECT_EQ(weights("second", 2), weights("first", 4));
  second.run.dir = (folder_ / "third").string();
  second.model.layers = 2;
  EXPECT_THROW(train(second, {"test"}), CheckpointError);
}

TEST_F(SavingTest, ChangedFixedSettingsAreListedWithBothValues) {
  TrainingConfig changed = config("run");
  changed.train.steps = 2;
  train(changed, {"test"});
  changed.train.seed = 5;
  changed.model.hidden = 64;
  changed.optimizer.learning_rate = 1e-3;  // may change
  try {
    train(changed, {"test"});
    FAIL() << "it went on";
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("model.hidden: 32 -> 64"), std::string::npos) << text;
    EXPECT_NE(text.find("train.seed: 0 -> 5"), std::string::npos) << text;
    EXPECT_EQ(text.find("learning_rate"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace gato::train

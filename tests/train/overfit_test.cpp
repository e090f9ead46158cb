#include "gato/train/overfit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/run/metrics.h"
#include "gato/run/run_folder.h"
#include "gato/train/trainer.h"
#include "support/synthetic_data.h"

// Checks that catch errors which change no shape and throw nothing: labels that cannot be learned, and labels that are
// seen before they are asked for.
namespace gato::train {
namespace {

using data::test::field;
using data::test::shared_data;
using episode::Modality;

const Path& tokenizer_file() {
  static const Path file = [] {
    const Path path = shared_data().folder() / "tokenizer.model";
    write_file_atomic(path, shared_data().text().model_bytes());
    return path;
  }();
  return file;
}

TrainingConfig tiny_config(const Path& datasets) {
  TrainingConfig config;
  config.tokenizer = {tokenizer_file().string(), true};
  config.data.datasets = {datasets.string()};
  config.data.row_tokens = 48;
  config.data.validation_share = 0;
  config.data.schedule = {{0, {{.tasks = "*", .share = 1}}}};
  config.model.layers = 2;
  config.model.width = 48;
  config.model.heads = 2;
  config.model.head_dim = 16;
  config.model.hidden = 128;
  config.model.patch_channels = 8;
  config.optimizer.learning_rate = 6e-3;
  config.train.batch_rows = 2;
  config.train.threads = 1;
  return config;
}

/// A task whose actions are random, so that they can only be known by heart.
struct Modal {
  const char* name;
  std::vector<episode::FieldSpec> observation, action;
  bool text_steps = false;  // windows may be cut anywhere in a text
};

class ModalityTest : public ::testing::TestWithParam<Modal> {
 protected:
  void SetUp() override { log::set_level(log::Level::kError); }
};

TEST_P(ModalityTest, OverfitsAlone) {
  const Modal& modal = GetParam();
  episode::TaskSpec task;
  task.id = std::string("test/") + modal.name;
  task.observation = modal.observation;
  task.action = modal.action;
  if (task.observation.empty()) task.scoring = episode::Scoring::kLoss;
  const gato::test::TempFolder folder;
  episode::DatasetWriter writer(folder.path() / "data", {"data", "Synthetic.", "", "test"}, {task}, 1 << 24);
  for (int64_t e = 0; e < 6; ++e) writer.add(0, data::test::random_episode(task, e, false));
  writer.finish();
  TrainingConfig config = tiny_config(folder.path());
  for (const Path& shard : data::find_shards(config.data)) data::tokenize_shard(shard, shared_data().text());

  const OverfitOutcome outcome = overfit_one_batch(config, {.steps = 600, .tolerance = 0.05});
  EXPECT_TRUE(outcome.reached) << outcome.first_loss << " -> " << outcome.loss << ", lowest " << outcome.lowest;
  EXPECT_GT(outcome.first_loss, 1);
  EXPECT_LT(outcome.lowest, 0.3);  // what stands before the labels tells them apart
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "runs"));
}

const episode::FieldSpec kPicture = field("picture", Modality::kImage, {32, 32, 3});
const episode::FieldSpec kText = field("text", Modality::kText);

INSTANTIATE_TEST_SUITE_P(
    Modalities, ModalityTest,
    ::testing::Values(
        Modal{"text", {}, {kText}}, Modal{"image", {kPicture}, {field("move", Modality::kDiscrete, {}, 12)}},
        Modal{"discrete", {field("view", Modality::kDiscrete, {3}, 9)}, {field("move", Modality::kDiscrete, {}, 12)}},
        Modal{
            "continuous", {field("state", Modality::kContinuous, {3})}, {field("torque", Modality::kContinuous, {2})}},
        Modal{"caption", {kPicture}, {kText}},
        Modal{"question", {field("question", Modality::kText), kPicture}, {field("answer", Modality::kText)}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(OverfitTest, EveryKindOfPositionsOverfits) {
  log::set_level(log::Level::kError);
  for (const auto position :
       {model::PositionEncoding::kRelative, model::PositionEncoding::kRotary, model::PositionEncoding::kNone}) {
    TrainingConfig config = tiny_config(shared_data().folder() / "control-arm");
    config.model.position = position;
    config.model.stochastic_depth = 0.5;  // is switched off, as is dropout
    config.model.dropout = 0.5;
    EXPECT_TRUE(overfit_one_batch(config, {.steps = 800}).reached);
  }
}

TEST(OverfitTest, SaysSoWhenItDoesNotSucceed) {
  log::set_level(log::Level::kError);
  std::vector<int64_t> told;
  const OverfitOutcome outcome = overfit_one_batch(tiny_config(shared_data().folder() / "control-arm"), {.steps = 12},
                                                   [&](int64_t step, double) { told.push_back(step); });
  EXPECT_FALSE(outcome.reached);
  EXPECT_EQ(outcome.steps, 12);
  EXPECT_GT(outcome.loss, 1);
  EXPECT_EQ(told, (std::vector<int64_t>{1, 2, 5, 10, 12}));
  EXPECT_THROW((void)overfit_one_batch(tiny_config(shared_data().folder()), {.steps = 0}), ContractError);
}

/// One row; every token carries its id and what is asked of it.
data::Batch row_of(std::vector<int32_t> ids, std::vector<int32_t> starts, std::vector<int32_t> targets) {
  data::Batch batch;
  batch.rows = 1;
  batch.row_tokens = static_cast<int64_t>(ids.size());
  batch.local_positions.assign(ids.size(), -1);
  batch.ids = std::move(ids);
  batch.sequence_starts = std::move(starts);
  batch.targets = std::move(targets);
  for (const int32_t target : batch.targets) batch.loss_weights.push_back(target >= 0 ? 1.0f : 0.0f);
  return batch;
}

TEST(LowestLossTest, IsTheEntropyBehindTheSameContext) {
  // Behind the same "5 6": targets 7 and 8; behind "4 6": always 9.
  EXPECT_NEAR(lowest_loss(row_of({5, 6, 7, 5, 6, 8}, {0, 0, 0, 3, 3, 3}, {-1, -1, 7, -1, -1, 8})), std::log(2), 1e-12);
  EXPECT_NEAR(lowest_loss(row_of({5, 6, 7, 4, 6, 8}, {0, 0, 0, 3, 3, 3}, {-1, -1, 7, -1, -1, 8})), 0, 1e-12);
  // The same tokens further on in one sequence are another context.
  EXPECT_NEAR(lowest_loss(row_of({5, 6, 7, 5, 6, 8}, {0, 0, 0, 0, 0, 0}, {-1, -1, 7, -1, -1, 8})), 0, 1e-12);
  EXPECT_EQ(lowest_loss(row_of({5, 6}, {0, 0}, {-1, -1})), 0);
  data::Batch weighted = row_of({5, 1, 5, 2}, {0, 0, 2, 2}, {-1, 1, -1, 2});
  weighted.loss_weights[1] = 3;
  EXPECT_NEAR(lowest_loss(weighted), -0.75 * std::log(0.75) - 0.25 * std::log(0.25), 1e-12);
}

TEST(LowestLossTest, PatchesAndPositionsTellContextsApartAndHiddenActionsDoNot) {
  data::Batch batch = row_of({-1, 1, -1, 2}, {0, 0, 2, 2}, {-1, 1, -1, 2});
  batch.patch_index = {0, 2};
  batch.patches.assign(2 * 768, 7);
  batch.patch_rows = batch.patch_columns = {64, 64};
  EXPECT_NEAR(lowest_loss(batch), std::log(2), 1e-12);
  data::Batch other = batch;
  other.patches[900] = 8;
  EXPECT_NEAR(lowest_loss(other), 0, 1e-12);
  other = batch;
  other.patch_columns[1] = 65;
  EXPECT_NEAR(lowest_loss(other), 0, 1e-12);
  data::Batch actions = row_of({3, 1, 4, 2}, {0, 0, 2, 2}, {-1, 1, -1, 2});
  actions.local_positions = {512, 512, 512, 512};
  EXPECT_NEAR(lowest_loss(actions, true), 0, 1e-12);
  EXPECT_NEAR(lowest_loss(actions, false), std::log(2), 1e-12);
}

TEST(RandomTargetsTest, LossOnFreshDataStaysAtTheEntropy) {
  // The synthetic actions are drawn without looking at anything. Whoever predicts them better than by chance has seen
  // them: a mask, a shift or a position is wrong.
  log::set_level(log::Level::kError);
  const gato::test::TempFolder folder;
  TrainingConfig config = tiny_config(shared_data().folder());
  config.run.dir = (folder / "run").string();
  config.data = shared_data().config(64);
  config.data.validation_share = 0.3;
  config.data.schedule = {
      {0, {{.tasks = "grid/*", .share = 3, .steps = {1, 3, false}}, {.tasks = "control/*", .share = 2}}}};
  config.model.width = 32;
  config.optimizer.learning_rate = 5e-3;
  config.optimizer.warmup_steps = 10;
  config.train.steps = 100;
  config.train.batch_rows = 4;
  config.train.validate_every = 0;
  config.train.validation_rows = 64;
  config.train.checkpoint_every = 1000;
  config.train.log_every = 50;
  const auto loss = train(config, {"test"}).validation_loss;
  EXPECT_GT(loss.at("grid"), std::log(4) - 0.05);       // 4 moves
  EXPECT_GT(loss.at("control"), std::log(1024) - 0.1);  // a number in [-1, 1], uniform over the bins
  EXPECT_LT(loss.at("grid"), std::log(4) + 0.5);        // and it has learned which values there are at all
}

}  // namespace
}  // namespace gato::train

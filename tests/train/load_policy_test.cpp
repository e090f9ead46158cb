#include "train/load_policy.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "gato/checkpoint/tensor_set.h"
#include "gato/core/log.h"
#include "small_state.h"
#include "support/temp_folder.h"
#include "train/resume_rules.h"

namespace gato::train {
namespace {

namespace fs = std::filesystem;
using checkpoint::step_name;
using test::request_of;
using test::SmallState;

void flip_byte(const Path& path, size_t offset) {
  std::string content = read_file(path);
  content.at(offset) = static_cast<char>(~content[offset]);
  write_file_atomic(path, content);
}

template <class Use>
std::string error_of(const Use& use) {
  try {
    use();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class LoadPolicyTest : public testing::Test {
 protected:
  void SetUp() override { log::set_level(log::Level::kError); }
  void save(std::initializer_list<int64_t> steps) {
    for (const int64_t step : steps) {
      state_.fill(static_cast<double>(step));
      save_checkpoint(folder_.path(), request_of(step), state_.model, state_.optimizer);
    }
  }
  gato::test::TempFolder folder_;
  SmallState state_{1};
};

TEST_F(LoadPolicyTest, TheNewestValidOneIsChosenAndDamagedOnesAreSetAside) {
  EXPECT_EQ(choose_checkpoint(folder_ / "none", {}), std::nullopt);
  save({1, 2, 3});
  EXPECT_EQ(choose_checkpoint(folder_.path(), {})->step, 3);
  flip_byte(folder_ / step_name(3) / "model.safetensors", 40000);
  EXPECT_EQ(choose_checkpoint(folder_.path(), {})->step, 2);
  EXPECT_TRUE(fs::exists(folder_ / "step-00000003.damaged-1"));
  SmallState loaded(9);
  load_checkpoint(folder_ / step_name(2), loaded.model, loaded.optimizer);
  EXPECT_TRUE(loaded.has(2));
}

TEST_F(LoadPolicyTest, ARunDoesNotBeginAnewOverDamagedCheckpoints) {
  save({1});
  flip_byte(folder_ / step_name(1) / "training_state.json", 3);
  for (int time = 0; time < 2; ++time) {
    EXPECT_NE(
        error_of([&] { static_cast<void>(choose_checkpoint(folder_.path(), {})); }).find("none of the checkpoints"),
        std::string::npos);
  }
  fs::create_directory(folder_ / "other");
  fs::create_directory(folder_ / "other" / "step-00000001.tmp-1-2");
  EXPECT_EQ(choose_checkpoint(folder_ / "other", {}), std::nullopt) << "killed before its first save was done";
}

/// The texts of threads that stand for ranks.
class Meeting {
 public:
  explicit Meeting(size_t size) : texts_(size) {}
  std::vector<std::string> gather(size_t rank, const std::string& text) {
    std::unique_lock lock(mutex_);
    const int64_t round = round_;
    texts_[rank] = text;
    if (++arrived_ == texts_.size()) {
      arrived_ = 0;
      ++round_;
      result_ = texts_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return round_ > round; });
    return result_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> texts_, result_;
  size_t arrived_ = 0;
  int64_t round_ = 0;
};

TEST_F(LoadPolicyTest, AllRanksTakeTheNewestThatEverybodySees) {
  save({1, 2, 3});
  // The disk as rank 2 sees it lags behind.
  const Path stale = folder_ / "stale";
  fs::create_directory(stale);
  fs::copy(folder_ / step_name(1), stale / step_name(1));
  fs::copy(folder_ / step_name(2), stale / step_name(2));
  fs::resize_file(stale / step_name(2) / "model.safetensors", 100);
  Meeting meeting(3);
  std::vector<std::optional<checkpoint::CheckpointInfo>> chosen(3);
  std::vector<std::thread> ranks;
  for (size_t rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      chosen[rank] = choose_checkpoint(rank == 2 ? stale : folder_.path(), {static_cast<int64_t>(rank), 3},
                                       [&](const std::string& text) { return meeting.gather(rank, text); });
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const auto& choice : chosen) {
    ASSERT_TRUE(choice);
    EXPECT_EQ(choice->step, 1);
  }
  EXPECT_EQ(checkpoint::list_checkpoints(folder_.path()).size(), 3u) << "what rank 0 reads well is not set aside";
}

TEST_F(LoadPolicyTest, WeightsComeFromACheckpointARunAnExportOrAFile) {
  const at::Tensor expected = state_.model.store().values().clone();
  const gato::test::TempFolder run;
  save_checkpoint(run / "checkpoints", request_of(4), state_.model, state_.optimizer);
  const Path saved = run / "checkpoints" / step_name(4);
  static_cast<void>(checkpoint::write_tensor_set(run / "export", state_.model.store().export_tensors(), 20000));
  ASSERT_TRUE(fs::exists(run / "export" / checkpoint::kTensorIndexName));
  for (const Path& from : {saved, run.path(), run / "export", saved / "model.safetensors"}) {
    SmallState other(2);
    ASSERT_FALSE(other.model.store().values().equal(expected));
    const std::string taken = load_initial_weights({find_initial_weights(from)}, other.model);
    EXPECT_NE(taken.find(" parameters are from "), std::string::npos);
    EXPECT_TRUE(other.model.store().values().equal(expected)) << from;
  }
  flip_byte(saved / "model.safetensors", 40000);
  SmallState other(2);
  EXPECT_THROW(load_initial_weights({saved}, other.model), CheckpointError);
  EXPECT_THROW((void)find_initial_weights(run.path()), ConfigError);
}

TEST_F(LoadPolicyTest, OnlyParametersThatMatchAreTaken) {
  SmallState other(2);
  const at::Tensor before = other.model.store().values().clone();
  save({1});
  load_initial_weights({folder_ / step_name(1), {"blocks.*"}, {"*norm*"}}, other.model);
  int64_t taken = 0;
  for (const model::Segment& segment : other.model.store().segments()) {
    const bool wanted = segment.name.starts_with("blocks.") && segment.name.find("norm") == std::string::npos;
    const auto of = [&](const at::Tensor& flat) { return flat.narrow(0, segment.offset, segment.size); };
    const at::Tensor& source = wanted ? state_.model.store().values() : before;
    EXPECT_TRUE(of(other.model.store().values()).equal(of(source))) << segment.name;
    taken += wanted ? 1 : 0;
  }
  EXPECT_GT(taken, 2);
  EXPECT_THROW(load_initial_weights({folder_ / step_name(1), {"nothing*"}}, other.model), ConfigError);
}

TEST_F(LoadPolicyTest, WhatDoesNotFitIsListedAndChangesNothingIfStrict) {
  auto views = state_.model.store().export_tensors();
  const std::string missing = views[1].name, misshapen = views[2].name;
  views.erase(views.begin() + 1);
  views[1].shape.push_back(1);
  views.push_back({"extra.weight", checkpoint::Dtype::kF32, {0}, {}});
  checkpoint::write_safetensors(folder_ / "odd.safetensors", views);
  SmallState other(2);
  const at::Tensor before = other.model.store().values().clone();
  const std::string error = error_of([&] { load_initial_weights({folder_ / "odd.safetensors"}, other.model); });
  for (const std::string& part : {"missing: " + missing, "another shape: " + misshapen,
                                  std::string("unexpected: extra.weight"), std::string("3 differences")}) {
    EXPECT_NE(error.find(part), std::string::npos) << part << " is not in " << error;
  }
  EXPECT_TRUE(other.model.store().values().equal(before));
  load_initial_weights({folder_ / "odd.safetensors", {"*"}, {}, false}, other.model);
  EXPECT_FALSE(other.model.store().values().equal(before));
}

TEST(ResumeRulesTest, EverySettingHasOneRuleAndEveryRuleASetting) {
  TrainingConfig config;
  config.data.schedule = {data::default_phase()};
  config.data.filters.emplace_back();
  std::set<std::string> used;
  for (const auto& [path, value] : config_leaves(config)) used.insert(resume_rule(path).path);
  for (const ResumeRule& rule : resume_rules()) EXPECT_TRUE(used.contains(rule.path)) << rule.path << " is no setting";
  EXPECT_THROW(static_cast<void>(resume_rule("train.nothing")), ContractError);
}

TEST(ResumeRulesTest, OnlyChangedFixedSettingsAreListed) {
  TrainingConfig before, now;
  now.train.steps = 7;
  now.optimizer.learning_rate = 3;
  now.data.datasets = {"elsewhere"};
  EXPECT_TRUE(changed_fixed_settings(before, now, true).empty());
  now.model.layers = 3;
  now.data.filters.emplace_back();
  now.train.micro_batch_rows.rows = 2;
  const auto with_rows = changed_fixed_settings(before, now, true);
  const auto changed = changed_fixed_settings(before, now, false);
  EXPECT_EQ(with_rows.size(), changed.size() + 1) << "another number of processes may divide rows otherwise";
  const std::string text = describe(changed);
  EXPECT_NE(text.find("model.layers: 8 -> 3 (other parameters"), std::string::npos) << text;
  EXPECT_NE(text.find("data.filters[0]"), std::string::npos) << text;
  EXPECT_NE(text.find("(none) -> "), std::string::npos) << text;
}

TEST(TrainingStateTest, EveryVersionIsRead) {
  const TrainingState plain{3, 6, 360, 0, 3, 0.5, 0, {}, 1};
  TrainingState state = plain;
  state.rollbacks = 1;
  state.recent_refused = {2};
  state.processes = 4;
  EXPECT_EQ(parse_training_state(to_json(state), "here"), state);
  // Version 1 at first, and later.
  const std::string first = R"({"step": 3, "next_row": 6, "tokens": 360, "refused": 0, "updates": 3, "seconds": 0.5})";
  EXPECT_EQ(parse_training_state(first, "here"), plain);
  EXPECT_NE(error_of([&] {
              static_cast<void>(parse_training_state(R"({"version": 3, "step": 1})", "here"));
            }).find("version 3 is not known"),
            std::string::npos);
  const std::string text = to_json(state);
  for (size_t length = 0; length + 2 < text.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_training_state(text.substr(0, length), "here")), Error) << length;
  }
}

/// A whole checkpoint as the first version of the trainer wrote it must be loaded for ever.
TEST(CheckpointFixtureTest, Version1OfTheTrainerIsLoaded) {
  const Path fixture = Path(GATO_SOURCE_DIR) / "tests/train/fixtures/checkpoint_v1/step-00000003";
  for (const auto& damage : checkpoint::verify_checkpoint(fixture)) ADD_FAILURE() << damage.describe();
  const auto config = read_config<TrainingConfig>(load_yaml((fixture / "config.yaml").string()));
  EXPECT_TRUE(changed_fixed_settings(config, config, true).empty());
  EXPECT_EQ(config.model.width, test::tiny_config().model.width);
  model::Model model(config.model, {3073, 1024, 1024}, 0, model::Model::Purpose::kTraining);
  const OptimizerState optimizer = {at::zeros_like(model.store().values()), at::zeros_like(model.store().values())};
  const TrainingState state = load_checkpoint(fixture, model, optimizer);
  EXPECT_EQ(state.step, 3);
  EXPECT_EQ(state.next_row, 6);
  EXPECT_EQ(state.tokens, 360);
  EXPECT_EQ(state.processes, 1);
  EXPECT_GT(optimizer.first_moment.abs().sum().item<double>(), 0);
  EXPECT_GT(optimizer.second_moment.min().item<double>(), -1e-30);
}

}  // namespace
}  // namespace gato::train

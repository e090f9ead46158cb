#include "gato/eval/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gato/data/statistics.h"
#include "gato/eval/agent.h"
#include "gato/eval/report.h"
#include "gato/run/results.h"
#include "gato/run/run_folder.h"
#include "integration/small_run.h"

namespace gato::eval {
namespace {

using testing::small_run;

TEST(AgentTest, KnowsItsTasksFromTheCheckpointAlone) {
  const Agent agent(small_run().checkpoint());
  EXPECT_EQ(agent.step(), 30);
  ASSERT_NE(agent.trained_task("grid/go_to"), nullptr);
  EXPECT_EQ(agent.trained_task("grid/go_to")->expert.episodes, 5);
  EXPECT_EQ(agent.trained_task("grid/unknown"), nullptr);
  EXPECT_EQ(agent.context_steps("control/point_mass"), 1);
  EXPECT_EQ(agent.context_steps("grid/go_to"), 4);
  EXPECT_EQ(agent.context_steps("text/kjv"), 0);
}

TEST(AgentTest, HeldoutLossStandsBesideAUnigramModelOnTheSameTokens) {
  const Agent agent(small_run().checkpoint());
  const auto losses = agent.heldout_losses();
  ASSERT_EQ(losses.size(), 1u);
  const auto& loss = losses.at("text/kjv");
  EXPECT_GT(loss.tokens, 1500);
  EXPECT_GT(loss.unigram_nats_per_token, 3);
  EXPECT_LT(loss.unigram_nats_per_token, std::log(400.0));
  EXPECT_GT(loss.nats_per_token, 1);
  EXPECT_LT(loss.nats_per_token, std::log(static_cast<double>(agent.vocabulary().size())));
}

TEST(AgentTest, EnvironmentOfAnotherSpecificationIsRefusedWithTheDifference) {
  const Agent agent(small_run().checkpoint());
  episode::TaskSpec changed = env::make_environment("control/point_mass")->spec();
  changed.action[0].high = {2};
  try {
    static_cast<void>(make_model_policy(agent, changed, 1));
    FAIL() << "an environment with other bounds was accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(changed.action[0].name), std::string::npos) << error.what();
  }
}

TEST(AgentTest, CheckpointCarriesTheStatisticsOfItsData) {
  const auto statistics = data::parse_statistics(read_file(small_run().checkpoint() / "value_statistics.json"), "test");
  const data::TaskStatistics& task = statistics.at("grid/go_to");
  EXPECT_EQ(task.episodes, 30);
  int64_t moves = 0;
  for (const data::FieldStatistics& field : task.fields) {
    if (field.group == episode::Group::kAction) moves += field.count;
  }
  EXPECT_EQ(moves, task.steps);
}

TEST(AgentTest, DamagedCheckpointIsNamed) {
  const gato::test::TempFolder folder;
  const Path copy = folder / "step-00000030";
  std::filesystem::copy(small_run().checkpoint(), copy, std::filesystem::copy_options::recursive);
  std::string bytes = read_file(copy / "model.safetensors");
  bytes[bytes.size() - 5] ^= 4;
  std::filesystem::remove(copy / "model.safetensors");
  write_file_atomic(copy / "model.safetensors", bytes);
  try {
    const Agent agent(copy);
    FAIL() << "a flipped bit went unnoticed";
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("model.safetensors at offset"), std::string::npos) << error.what();
  }
}

/// Grid moves that a policy chooses in one episode.
std::vector<int32_t> moves(const Agent& agent, env::Decoding decoding, double top_p) {
  const auto environment = env::make_environment("grid/go_to");
  PolicyOptions options;
  options.decoding = decoding;
  options.top_p = top_p;
  const auto policy = make_model_policy(agent, environment->spec(), 1, options);
  policy->begin_episode(0, 1);
  episode::StepValues observation = environment->reset(3);
  std::vector<int32_t> chosen;
  for (int step = 0; step < 20; ++step) {
    const auto actions = policy->act(std::vector<int>{0}, std::vector<episode::StepValues>{observation});
    chosen.push_back(actions[0][0].discrete[0]);
    const auto result = environment->step(actions[0]);
    if (result.done()) break;
    observation = result.observation;
  }
  return chosen;
}

TEST(ModelPolicyTest, TheSmallestNucleusIsGreedyAndTheWholeOneIsNot) {
  const Agent agent(small_run().checkpoint());
  EXPECT_EQ(moves(agent, env::Decoding::kSample, 1e-9), moves(agent, env::Decoding::kGreedy, 1));
  EXPECT_NE(moves(agent, env::Decoding::kSample, 1), moves(agent, env::Decoding::kGreedy, 1));
}

TEST(ModelPolicyTest, WeightsOfEveryTypeActAlike) {
  const Agent trained(small_run().checkpoint());
  EXPECT_EQ(trained.acting()->type(), kernels::WeightType::kFp32);
  const std::vector<int32_t> expected = moves(trained, env::Decoding::kGreedy, 1);
  for (const kernels::WeightType type : {kernels::WeightType::kBf16, kernels::WeightType::kInt8}) {
    const Agent agent(small_run().checkpoint(), type);
    EXPECT_EQ(agent.acting()->type(), type);
    // A hardly trained model's choices are close to ties: the first one must agree, not all.
    EXPECT_EQ(moves(agent, env::Decoding::kGreedy, 1).front(), expected.front());
  }
}

TEST(EvaluateTest, OtherWeightsAreAnEvaluationOfTheirOwn) {
  EvaluateOptions options;
  options.checkpoint = small_run().checkpoint();
  options.suite = small_run().suite();
  options.suite.name = "precision";
  options.tasks = {"game/catch"};
  options.device = "cpu";  // which alone takes int8
  options.record_episodes = 0;
  const EvaluateOutcome trained = evaluate(options);
  options.weights = kernels::WeightType::kInt8;
  const EvaluateOutcome narrow = evaluate(options);
  EXPECT_EQ(trained.out.filename(), "step-00000030@precision");
  EXPECT_EQ(narrow.out.filename(), "step-00000030@precision-int8");
  EXPECT_EQ(run::read_results(trained.out).at(0).decoding.weights, "fp32");
  EXPECT_EQ(run::read_results(narrow.out).at(0).decoding.weights, "int8");
}

/// Actions of the policy stay inside what the fields allow, step after step, past the context and the row.
TEST(ModelPolicyTest, ActionsAreAlwaysInsideTheSpecification) {
  const Agent agent(small_run().checkpoint());
  for (const std::string task : {"control/point_mass", "grid/go_to", "game/catch", "pictures/question"}) {
    for (const env::Decoding decoding : {env::Decoding::kDefault, env::Decoding::kGreedy, env::Decoding::kSample}) {
      const auto environment = env::make_environment(task);
      PolicyOptions options;
      options.decoding = decoding;
      options.max_text_tokens = 6;
      const auto policy = make_model_policy(agent, environment->spec(), 1, options);
      policy->begin_episode(0, 1);
      episode::StepValues observation = environment->reset(3);
      for (int step = 0; step < 25; ++step) {
        const auto actions = policy->act(std::vector<int>{0}, std::vector<episode::StepValues>{observation});
        const auto& spec = environment->spec().action[0];
        for (const float value : actions[0][0].continuous) {
          ASSERT_GE(value, spec.low_of(0));
          ASSERT_LE(value, spec.high_of(0));
        }
        for (const int32_t value : actions[0][0].discrete) ASSERT_LT(value, spec.num_values);
        const auto result = environment->step(actions[0]);
        if (result.done()) break;
        observation = result.observation;
      }
    }
  }
}

TEST(ModelPolicyTest, OneStepOfContextForgetsThePast) {
  const Agent agent(small_run().checkpoint());
  const auto environment = env::make_environment("control/point_mass");
  const episode::StepValues first = environment->reset(1), second = environment->reset(2);
  const auto policy = make_model_policy(agent, environment->spec(), 2);
  policy->begin_episode(0, 7);
  policy->begin_episode(1, 7);
  static_cast<void>(policy->act(std::vector<int>{0}, std::vector<episode::StepValues>{first}));
  // Slot 0 saw another state before, slot 1 did not: with one step of context both act alike.
  const auto actions = policy->act(std::vector<int>{0, 1}, std::vector<episode::StepValues>{second, second});
  EXPECT_EQ(actions[0], actions[1]);
}

TEST(ModelPolicyTest, MoreContextSeesThePast) {
  const Agent agent(small_run().checkpoint());
  const auto environment = env::make_environment("grid/go_to");
  const episode::StepValues first = environment->reset(1), second = environment->reset(2);
  bool differs = false;
  for (uint64_t seed = 0; seed < 40 && !differs; ++seed) {
    const auto policy = make_model_policy(agent, environment->spec(), 2);
    policy->begin_episode(0, seed);
    policy->begin_episode(1, seed);
    for (int i = 0; i < 3; ++i)
      static_cast<void>(policy->act(std::vector<int>{0, 1}, std::vector<episode::StepValues>{first, second}));
    const auto actions = policy->act(std::vector<int>{0, 1}, std::vector<episode::StepValues>{second, second});
    differs = !(actions[0] == actions[1]);
  }
  EXPECT_TRUE(differs);
}

TEST(EvaluateTest, ScoresEveryTaskAndGoesOnWhereItWas) {
  EvaluateOptions options;
  options.checkpoint = small_run().run();
  options.suite = small_run().suite();
  const EvaluateOutcome outcome = evaluate(options);
  EXPECT_EQ(outcome.out, run::RunFolder(small_run().run()).results_path(30, "small"));
  ASSERT_EQ(outcome.summary.tasks.size(), 5u);
  EXPECT_EQ(outcome.summary.tasks.at("pictures/question").rollouts, 20);
  EXPECT_TRUE(outcome.summary.tasks.at("control/point_mass").score.has_value());
  EXPECT_TRUE(outcome.summary.tasks.at("text/kjv").loss.has_value());
  EXPECT_FALSE(outcome.summary.tasks.at("text/kjv").score.has_value());
  EXPECT_NE(summary_table(outcome.summary).find("grid/go_to"), std::string::npos);

  // Only what is missing is played again.
  const auto written = std::filesystem::last_write_time(outcome.out / "control-point_mass.shard-0.json");
  std::filesystem::remove(outcome.out / "grid-go_to.shard-0.json");
  const EvaluateOutcome again = evaluate(options);
  EXPECT_EQ(written, std::filesystem::last_write_time(outcome.out / "control-point_mass.shard-0.json"));
  EXPECT_EQ(again.summary.tasks.at("grid/go_to"), outcome.summary.tasks.at("grid/go_to"));

  const std::string page = read_file(write_report(small_run().run()));
  for (const char* part : {"grid/go_to", "data:image/png;base64,", "Learning curves", "unigram model", "right:"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(page.find("http://"), std::string::npos);
  EXPECT_EQ(page.find("https://"), std::string::npos);
}

TEST(EvaluateTest, GraphsAreRefusedOnTheCpuNamingTheSettings) {
  EvaluateOptions options;
  options.checkpoint = small_run().checkpoint();
  options.suite = small_run().suite();
  options.device = "cpu";
  options.cuda_graph = true;
  try {
    static_cast<void>(evaluate(options));
    FAIL() << "graphs were taken";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("--cuda-graph"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--device cpu"), std::string::npos) << error.what();
  }
}

TEST(EvaluateTest, WrongPlacesAreNamed) {
  const gato::test::TempFolder folder;
  EvaluateOptions options;
  options.suite = small_run().suite();
  options.checkpoint = folder.path();
  EXPECT_THROW(evaluate(options), ConfigError);
  EXPECT_THROW(static_cast<void>(write_report(folder.path())), ConfigError);
}

}  // namespace
}  // namespace gato::eval

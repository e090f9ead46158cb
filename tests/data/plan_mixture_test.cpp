// Mixtures, prompts and groups.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "gato/core/file.h"
#include "support/plan_data.h"

namespace gato::data {
namespace {

using test::Contents;
using test::PlanData;
using test::shared_data;

constexpr WindowSteps kRow{1, 1, true};

std::map<std::string, double> asked_by_task(const RowPlan& plan, int64_t row = 0) {
  std::map<std::string, double> shares;
  for (const SourceShare& share : plan.shares(row)) shares[share.task] += share.asked_share;
  return shares;
}

const PlanData& three_arms() {
  static const std::unique_ptr<const PlanData> data = [] {
    auto made = std::make_unique<PlanData>();
    made->add_numbers("a", 5, 40, 10, 60);
    made->add_numbers("b", 5, 40, 10, 60);
    made->add_numbers("c", 5, 40, 10, 60);
    made->add_documents("notes", 60, 20, 80);
    return made;
  }();
  return *data;
}

TEST(MixtureTest, SharesInsideAnEntryAreEqualOrAsWeighed) {
  DataConfig config =
      three_arms().config(128, {{.tasks = "control/*", .share = 3}, {.tasks = "text/*", .steps = kRow}});
  auto shares = asked_by_task(*three_arms().plan(config));
  EXPECT_NEAR(shares["control/a"], 0.25, 1e-12);
  EXPECT_NEAR(shares["control/c"], 0.25, 1e-12);
  EXPECT_NEAR(shares["text/notes"], 0.25, 1e-12);
  config.schedule[0].mixture[0].within = {{"control/a", 2}, {"control/c", 0}};
  shares = asked_by_task(*three_arms().plan(config));
  EXPECT_NEAR(shares["control/a"], 0.5, 1e-12);
  EXPECT_NEAR(shares["control/b"], 0.25, 1e-12);
  EXPECT_EQ(shares.count("control/c"), 0u);
}

TEST(MixtureTest, DataSetsOfOneTaskShareByTheirTokens) {
  PlanData data;
  const episode::TaskSpec task = test::numbers_task("control/arm", 5);
  const auto make = [&](int64_t e) { return test::plain_episode(task, "e" + std::to_string(e), 20); };
  data.add("first", task, 30, make);
  data.add("second", task, 10, make);
  const auto shares = data.plan(data.config(128, {{.tasks = "*"}}))->shares(0);
  ASSERT_EQ(shares.size(), 2u);
  EXPECT_NEAR(shares[0].asked_share, 0.75, 1e-12);
  EXPECT_NEAR(shares[1].asked_share, 0.25, 1e-12);
}

TEST(MixtureTest, MissingDataIsAnErrorUnlessAllowed) {
  DataConfig config = three_arms().config(128, {{.tasks = "control/a"}, {.tasks = "atari/*", .share = 3}});
  try {
    static_cast<void>(three_arms().plan(config));
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("atari/*"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("allow_missing"), std::string::npos) << error.what();
  }
  config.schedule[0].allow_missing = true;
  const auto plan = three_arms().plan(config);
  EXPECT_NEAR(asked_by_task(*plan)["control/a"], 1, 1e-12);
  EXPECT_EQ(plan->missing_patterns(0), std::vector<std::string>{"atari/*"});
  config.schedule[0].mixture[0].within = {{"control/b", 2}};  // of another entry's tasks
  config.schedule[0].allow_missing = false;
  config.schedule[0].mixture.pop_back();
  EXPECT_THROW(static_cast<void>(three_arms().plan(config)), ConfigError);
}

TEST(MixtureTest, TableOneOfThePaperIsATemplate) {
  const std::string path = GATO_SOURCE_DIR "/configs/mixtures/gato.yaml";
  const auto file = read_config<MixtureFile>(load_yaml(path));
  double control = 0, language = 0;
  int64_t prompted = 0, grouped = 0;
  for (const MixtureEntry& entry : file.mixture) {
    const std::string domain = split(entry.tasks, '/')[0];
    const bool is_language = std::set<std::string>{"text", "web", "captions", "questions"}.count(domain) != 0;
    (is_language ? language : control) += entry.share;
    prompted += entry.prompt_probability == 0.25 ? 1 : 0;
    grouped += entry.group == 5 ? 1 : 0;
  }
  EXPECT_NEAR(control, 85.21, 1e-9);
  EXPECT_NEAR(language, 14.72, 1e-9);
  EXPECT_EQ(file.mixture.size(), 24u);
  EXPECT_EQ(prompted, 16);
  EXPECT_EQ(grouped, 6);

  DataConfig config = three_arms().config(256, {});
  config.schedule[0].mixture_file = path;
  config.schedule[0].allow_missing = true;
  EXPECT_THROW(static_cast<void>(three_arms().plan(config)), ConfigError) << "none of its domains is there";
  PlanData data;
  data.add("reach", test::numbers_task("metaworld/reach", 9), 30, [](int64_t e) {
    return test::plain_episode(test::numbers_task("metaworld/reach", 9), std::to_string(e), 40);
  });
  data.add("text", test::document_task("text/massive_text"), 30,
           [rng = Rng(3)](int64_t e) mutable { return test::document(std::to_string(e), test::sentence(rng, 90)); });
  config.datasets = {data.folder().string()};
  const auto plan = data.plan(config);
  EXPECT_NEAR(asked_by_task(*plan)["metaworld/reach"], 8.96 / (8.96 + 6.7), 1e-9);
  EXPECT_EQ(plan->missing_patterns(0).size(), 22u);
  EXPECT_TRUE(plan->config().schedule[0].mixture_file.empty());
  EXPECT_EQ(plan->config().schedule[0].mixture.size(), 24u);
}

TEST(MixtureTest, WrongSettingsAreNamed) {
  const auto problem_of = [](const std::string& yaml) -> std::string {
    try {
      static_cast<void>(read_config<DataConfig>(parse_yaml(yaml, "test.yaml")));
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  const std::string phase = "schedule:\n  - first_row: 0\n";
  EXPECT_EQ(problem_of(phase + "    mixture: [{tasks: a/*, prompt_steps: [2, 8], group: 5}]\n"), "");
  EXPECT_EQ(problem_of(phase + "    mixture_file: some.yaml\n"), "");
  EXPECT_NE(problem_of(phase + "    mixture: [{tasks: a/*, group: 0}]\n").find("group"), std::string::npos);
  EXPECT_NE(problem_of(phase + "    mixture: [{tasks: a/*, group: 5, steps: row}]\n").find("group"), std::string::npos);
  EXPECT_NE(problem_of(phase + "    mixture: [{tasks: a/*, within: [{tasks: a/b, share: -1}]}]\n").find("within"),
            std::string::npos);
  EXPECT_NE(problem_of(phase + "    mixture: [{tasks: a/*}]\n    mixture_file: x.yaml\n").find("mixture_file"),
            std::string::npos);
  EXPECT_NE(problem_of(phase + "    allow_missing: true\n").find("mixture"), std::string::npos);
  const auto with_second = [&](const std::string& first_row) {
    const std::string mixture = "    mixture: [{tasks: a/*}]\n";
    return problem_of(phase + mixture + "  - first_row: " + first_row + "\n" + mixture);
  };
  EXPECT_EQ(with_second("1"), "") << "from row 64 on";
  for (const char* bad : {"0", "-5", "9223372036854775807"}) {
    EXPECT_NE(with_second(bad).find("schedule.[1].first_row"), std::string::npos) << bad << ": " << with_second(bad);
  }
  DataConfig config;
  config.schedule = {{.first_row = 0, .mixture_file = "/nonexistent/mixture.yaml"}};
  EXPECT_THROW(expand_mixture_files(config), Error);
}

/// Episodes by three agents: one with many, one with two, one with a single episode.
const PlanData& agents() {
  static const std::unique_ptr<const PlanData> data = [] {
    auto made = std::make_unique<PlanData>();
    const episode::TaskSpec task = test::numbers_task("control/arm", 6);
    made->add(
        "arm", task, 83,
        [&](int64_t e) {
          const std::string agent = e == 0 ? "lonely" : e <= 2 ? "rare" : "common";
          return test::plain_episode(task, std::to_string(e), 15 + e % 30, agent);
        },
        4'000);
    return made;
  }();
  return *data;
}

TEST(PromptTest, ProbabilityAgentAndPlaceAreAsAsked) {
  for (const double probability : {0.25, 0.6}) {
    for (const WindowSteps& steps : {kRow, WindowSteps{1, 1, false}, WindowSteps{2, 5, false}}) {
      const auto plan = agents().plan(agents().config(
          256, {{.tasks = "*", .steps = steps, .prompt_probability = probability, .prompt_steps = {2, 12, false}}}));
      const Source& source = *plan->sources()[0];
      double sequences = 0, prompts = 0, at_end = 0, rare = 0, missed = 0;
      for (int64_t b = 0; b < 40; ++b) {
        const auto block = plan->block(b);
        missed += static_cast<double>(block->missed_prompts);
        for (const PlannedRow& row : block->rows) {
          for (const PlannedSequence& sequence : row.sequences) {
            ++sequences;
            const std::string agent = test::agent_of(source, sequence.window.episode);
            if (!sequence.has_prompt) continue;
            ASSERT_NE(agent, "lonely");
            ++prompts;
            rare += agent == "rare" ? 1 : 0;
            ASSERT_NE(sequence.prompt.episode, sequence.window.episode) << "a prompt must not hold what is predicted";
            ASSERT_EQ(test::agent_of(source, sequence.prompt.episode), agent);
            ASSERT_LE(sequence.prompt.count, 12);
            const int64_t end = sequence.prompt.first + sequence.prompt.count;
            ASSERT_LE(end, source.length(sequence.prompt.episode));
            at_end += end == source.length(sequence.prompt.episode) ? 1 : 0;
            ASSERT_EQ(source.window_tokens(sequence.prompt) + source.window_tokens(sequence.window), sequence.tokens);
          }
        }
      }
      // Five standard deviations of a coin thrown that often (drawing is more even than that).
      const double tolerance = 5 * std::sqrt(probability * (1 - probability) / sequences) + 0.005;
      EXPECT_NEAR((prompts + missed) / sequences, probability, tolerance) << config_value_yaml(steps);
      EXPECT_GT(rare, 0) << "an agent with two episodes has prompts";
      EXPECT_GT(missed, 0) << "an agent with one episode has none";
      // Uniform places touch the end now and then.
      EXPECT_GE(at_end / prompts, 0.45);
      EXPECT_LE(at_end / prompts, 0.65);
      const SourceShare share = plan->shares(0)[0];
      EXPECT_NEAR(share.without_prompt, 1.0 / 83, 1e-9);
      EXPECT_NEAR(share.prompt_share, prompts / sequences, 0.02);
    }
  }
}

TEST(PromptTest, ThePlaceOfPromptsIsConfigurable) {
  DataConfig config = agents().config(256, {{.tasks = "*", .steps = {2, 2, false}, .prompt_probability = 1}});
  config.prompt_from_end = 1;
  const auto from_end = agents().plan(config);
  config.prompt_from_end = 0;
  config.prompt_tokens_share = 0.1;
  const auto anywhere = agents().plan(config);
  int64_t touching = 0, all = 0;
  for (const PlannedSequence& sequence : Contents(*from_end, 0, 4).sequences) {
    if (!sequence.has_prompt) continue;
    EXPECT_EQ(sequence.prompt.first + sequence.prompt.count, from_end->sources()[0]->length(sequence.prompt.episode));
  }
  for (const PlannedSequence& sequence : Contents(*anywhere, 0, 4).sequences) {
    if (!sequence.has_prompt) continue;
    ++all;
    EXPECT_LE(anywhere->sources()[0]->window_tokens(sequence.prompt), 25);
    touching += sequence.prompt.first + sequence.prompt.count == anywhere->sources()[0]->length(sequence.prompt.episode)
                    ? 1
                    : 0;
  }
  EXPECT_LT(static_cast<double>(touching), 0.15 * static_cast<double>(all));
}

TEST(PromptTest, TextStepsCountWithTheirRealTokens) {
  DataConfig config = shared_data().config(256);
  config.schedule = {{0, {{.tasks = "grid/*", .share = 1, .steps = kRow, .prompt_probability = 0.5}}}};
  const auto plan = shared_data().plan(config);
  const auto sequences = Contents(*plan, 0, 20).sequences;
  const Source& source = *plan->sources()[static_cast<size_t>(sequences[0].source)];
  double longest = 0;
  for (const PlannedSequence& sequence : sequences) {
    if (!sequence.has_prompt) continue;
    const int64_t tokens = source.window_tokens(sequence.prompt);
    ASSERT_LE(tokens, 128);
    longest = std::max(longest, static_cast<double>(tokens));
    ASSERT_LE(sequence.tokens, 256);
  }
  // By the longest step alone, prompts would end far below their limit.
  EXPECT_GE(longest, 128 - static_cast<double>(source.max_step_tokens()));
}

TEST(PromptTest, PromptsCarryLossOnlyIfAsked) {
  for (const bool with_loss : {false, true}) {
    DataConfig config =
        agents().config(256, {{.tasks = "*", .steps = kRow, .prompt_probability = 0.5, .prompt_steps = {4, 4, false}}});
    config.prompt_loss = with_loss;
    const auto plan = agents().plan(config);
    const RowBuilder builder(plan, true);
    double in_prompts = 0, in_windows = 0;
    for (int64_t row = 0; row < kBlockRows; ++row) {
      const Batch batch = builder.build(row, 1);
      size_t at = 0;
      for (const PlannedSequence& sequence : plan->block(0)->rows[static_cast<size_t>(row)].sequences) {
        const int64_t prompt_tokens = sequence.has_prompt ? plan->sources()[0]->window_tokens(sequence.prompt) : 0;
        for (int64_t t = 0; t < sequence.tokens; ++t)
          (t < prompt_tokens ? in_prompts : in_windows) += static_cast<double>(batch.loss_weights[at++]);
      }
    }
    EXPECT_EQ(in_prompts > 0, with_loss);
    EXPECT_GT(in_windows, 0);
  }
}

TEST(GroupTest, SamplesOfASourceFormOneSequenceWithoutReplacement) {
  PlanData data;
  const episode::TaskSpec task = test::question_task("questions/what");
  data.add(
      "what", task, 203, [&](int64_t e) { return test::plain_episode(task, std::to_string(e), 1); }, 20'000);
  const auto plan = data.plan(data.config(1024, {{.tasks = "*", .group = 5}}));
  const Source& source = *plan->sources()[0];
  EXPECT_EQ(plan->shares(0)[0].items_per_epoch, 41);
  const Contents contents(*plan, 0, 3);
  EXPECT_GE(contents.fill, 0.9);
  std::map<uint64_t, std::map<int64_t, int>> uses;
  int64_t short_groups = 0;
  for (const PlannedSequence& sequence : contents.sequences) {
    const std::vector<Window> windows = test::windows_of(sequence);
    if (windows.size() != 5) ++short_groups;
    int64_t tokens = 0;
    std::set<int64_t> episodes;
    for (const Window& window : windows) {
      ASSERT_EQ(window.count, 1);
      tokens += source.window_tokens(window);
      ASSERT_EQ(++uses[sequence.epoch][window.episode], 1);
    }
    ASSERT_EQ(tokens, sequence.tokens);
  }
  // 203 = 40 groups of five and one of three per epoch.
  EXPECT_LE(static_cast<double>(short_groups), 2 * static_cast<double>(uses.size()));

  // They attend to each other: one sequence in the row.
  const RowBuilder builder(plan, true);
  const Batch batch = builder.build(0, 1);
  size_t at = 0;
  for (const PlannedSequence& sequence : plan->block(0)->rows[0].sequences) {
    const auto begin = static_cast<int32_t>(at);
    for (int64_t t = 0; t < sequence.tokens; ++t) ASSERT_EQ(batch.sequence_starts[at++], begin);
  }
}

TEST(GroupTest, GroupsThatNoRowHoldsAreDivided) {
  PlanData data;
  const episode::TaskSpec task = test::numbers_task("captions/long", 50);
  data.add("long", task, 60, [&](int64_t e) { return test::plain_episode(task, std::to_string(e), 1); });
  const auto plan = data.plan(data.config(128, {{.tasks = "*", .group = 5}}));
  const Contents contents(*plan, 0, 4);
  EXPECT_GE(contents.sequences.size(), 100u);
  for (const PlannedSequence& sequence : contents.sequences) EXPECT_LE(sequence.tokens, 100);
  const auto documents = three_arms().config(128, {{.tasks = "text/*", .group = 5}});
  EXPECT_THROW(static_cast<void>(three_arms().plan(documents)), ConfigError);
}

}  // namespace
}  // namespace gato::data

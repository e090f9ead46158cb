#include "env/dialogue/dialogue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "gato/core/text.h"
#include "gato/env/rollout.h"

namespace gato::env::dialogue {
namespace {

TEST(DialogueTest, AnswersFollowFromWhatWasTold) {
  std::set<size_t> lengths;
  int untold = 0, total = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const std::vector<Turn> turns = make_dialogue(seed);
    lengths.insert(turns.size());
    std::map<std::string, std::string> colors;
    for (const Turn& turn : turns) {
      const std::vector<std::string> words = split(turn.user, ' ');
      if (words[0] == "my") {
        EXPECT_EQ(colors.count(words[1]), 0u) << "told twice";
        colors[words[1]] = words[3];
        EXPECT_EQ(turn.reply, cat("i see , a ", words[3], " ", words[1], " ."));
      } else if (words[0] == "what") {
        ++total;
        const auto told = colors.find(words[4]);
        untold += told == colors.end() ? 1 : 0;
        EXPECT_EQ(turn.reply, told == colors.end() ? std::string("you did not say .")
                                                   : cat("your ", words[4], " is ", told->second, " ."));
      }
    }
  }
  EXPECT_EQ(lengths, (std::set<size_t>{2, 3, 4, 5}));
  EXPECT_EQ(total, 1000);
  EXPECT_NEAR(untold, 200, 50);
}

TEST(DialogueTest, ExactMatchMeansEveryTurn) {
  const auto environment = make_environment("dialogue/colors");
  const size_t turns = make_dialogue(3).size();
  environment->reset(3);
  StepResult step;
  for (size_t turn = 0; turn < turns; ++turn) {
    StepValues action(1);
    action[0].text = turn == 0 ? "what ?" : environment->reference_answer().value();
    step = environment->step(action);
    EXPECT_DOUBLE_EQ(step.reward, turn == 0 ? 0 : 1.0 / static_cast<double>(turns));
    EXPECT_EQ(step.terminated, turn + 1 == turns);
  }
  EXPECT_EQ(step.success, std::optional(false));
  EXPECT_FALSE(environment->reference_answer());

  const auto results = roll_out_reference("dialogue/colors", ReferenceAgent::kExpert, {3});
  EXPECT_EQ(results[0].exact_match, std::optional(true));
  EXPECT_EQ(results[0].success, std::optional(true));
  EXPECT_EQ(results[0].length, static_cast<int64_t>(turns));
  EXPECT_EQ(static_cast<size_t>(std::count(results[0].answer.begin(), results[0].answer.end(), '\n')), turns - 1);
  EXPECT_NEAR(results[0].episode_return, 1, 1e-12);
}

}  // namespace
}  // namespace gato::env::dialogue

#include <gtest/gtest.h>

#include <cmath>

#include "gato/run/metrics.h"
#include "gato/run/results.h"

// Files as released versions wrote them must be read for ever.
namespace gato::run {
namespace {

const Path kFolder = Path(GATO_SOURCE_DIR) / "tests" / "run" / "fixtures";

TEST(RunFixtureTest, Version1IsRead) {
  const Path folder = kFolder / "v1";
  const std::vector<TaskResult> results = read_results(folder / "step-00001000@demo");
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0].task, "control/cart-pole");
  EXPECT_EQ(results[0].rollouts[1].success, false);
  EXPECT_EQ(results[1].rollouts[1].answer, "a red ball");
  EXPECT_EQ(results[2].loss->tokens, 1000);

  const Summary summary = parse_summary(read_file(folder / "step-00001000@demo" / "summary.json"), "summary.json");
  Summary again = summarise(results);
  EXPECT_EQ(again.tasks_at.at(50), summary.tasks_at_50);
  again.tasks_at.clear();  // later additions
  again.mean_ci95.reset();
  for (auto& [domain, line] : again.domains) line.ci95.reset();
  for (auto& [task, line] : again.tasks) line.success_ci95.reset();
  EXPECT_EQ(again, summary) << "the same results give the same table";
  const std::vector<ScoreLine> scores = read_scores(folder / "scores.jsonl");
  ASSERT_EQ(scores.size(), 1u);
  EXPECT_EQ(scores[0].summary, summary);

  const Metrics metrics = read_metrics(folder / "metrics.jsonl");
  ASSERT_EQ(metrics.points.size(), 2u);
  EXPECT_EQ(metrics.points[0].values.at("train/loss/control"), 2.5);
  EXPECT_TRUE(std::isnan(metrics.points[1].values.at("train/loss/control")));
}

}  // namespace
}  // namespace gato::run

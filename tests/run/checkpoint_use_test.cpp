#include "gato/run/checkpoint_use.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/text.h"
#include "gato/run/metrics.h"
#include "gato/run/results.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

using Scores = std::map<int64_t, double>;

TEST(ScoresByStepTest, MetricsAreTakenAsTheyAreOrTurned) {
  const gato::test::TempFolder folder;
  const RunFolder run(folder.path());
  EXPECT_TRUE(scores_by_step(run, "validation/loss", false).empty()) << "no file yet";
  const MetricsWriter metrics(run.metrics_path(), 1);
  metrics.write(10, 0, {{"validation/loss", 3.0}, {"train/loss", 1.0}});
  metrics.write(20, 0, {{"validation/loss", 2.0}});
  metrics.write(30, 0, {{"validation/loss", INFINITY}});
  metrics.write(40, 0, {{"train/loss", 1.0}});
  EXPECT_EQ(scores_by_step(run, "validation/loss", true), (Scores{{10, 3.0}, {20, 2.0}}));
  EXPECT_EQ(scores_by_step(run, "validation/loss", false), (Scores{{10, -3.0}, {20, -2.0}})) << "lower is better";
  EXPECT_TRUE(scores_by_step(run, "nothing", true).empty());
}

TEST(ScoresByStepTest, EvaluationsAreChosenBySuiteAndValue) {
  const gato::test::TempFolder folder;
  const RunFolder run(folder.path());
  Summary summary;
  summary.suite = "demo";
  for (const int64_t step : {10, 20}) {
    summary.step = step;
    summary.checkpoint = cat("step-000000", step);
    summary.mean_score = static_cast<double>(step) / 2;
    summary.tasks_at_50 = step / 10;
    summary.tasks["control/reacher"].score = 100.0 - static_cast<double>(step);
    append_scores(run.scores_path(), summary);
  }
  summary.suite = "other";
  summary.step = 30;
  summary.mean_score.reset();
  append_scores(run.scores_path(), summary);
  EXPECT_EQ(scores_by_step(run, "demo:mean_score", true), (Scores{{10, 5.0}, {20, 10.0}}));
  EXPECT_EQ(scores_by_step(run, "demo:tasks_at_50", true), (Scores{{10, 1.0}, {20, 2.0}}));
  EXPECT_EQ(scores_by_step(run, "demo:control/reacher", true), (Scores{{10, 90.0}, {20, 80.0}}));
  EXPECT_TRUE(scores_by_step(run, "demo:control/none", true).empty());
  EXPECT_TRUE(scores_by_step(run, "other:mean_score", true).empty());
  EXPECT_TRUE(scores_by_step(run, "nothing:mean_score", true).empty());
}

}  // namespace
}  // namespace gato::run

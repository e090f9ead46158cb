#include "queue_campaign.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace gato::run {
namespace {

int64_t number_from(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoll(text);
}

/// Of full size by tools/faults/evaluation_queue, which sets the variables.
TEST(QueueCampaignTest, EveryJobIsInTheResultsExactlyOnceHoweverWorkersEnd) {
  test::CampaignOptions options;
  options.workers = number_from("GATO_QUEUE_WORKERS", options.workers);
  options.jobs = number_from("GATO_QUEUE_JOBS", options.jobs);
  options.seed = static_cast<uint64_t>(number_from("GATO_QUEUE_SEED", 1));
  options.most_ms = static_cast<int>(number_from("GATO_QUEUE_JOB_MS", options.most_ms));
  const test::CampaignOutcome outcome = test::Campaign(options).run();
  const auto figure = [](const char* name, int64_t value) {
    std::printf("figure evaluation_queue/%s %lld count\n", name, static_cast<long long>(value));
  };
  figure("jobs", options.jobs);
  figure("workers", options.workers);
  figure("kills", outcome.kills);
  figure("held_up", outcome.stops);
  figure("attempts_lost", outcome.lost);
  figure("results", outcome.results);
  figure("asleep_seconds", static_cast<int64_t>(outcome.sleeper_seconds));
  EXPECT_GT(outcome.kills, 0);
  EXPECT_GT(outcome.sleeper_seconds, options.lease_seconds);
  EXPECT_EQ(outcome.sleeper_end.exit_code, 0) << "who wakes after all is done ends well";
  EXPECT_EQ(outcome.jobs_done, options.jobs);
  EXPECT_EQ(outcome.done_events, options.jobs);
  EXPECT_EQ(outcome.jobs_done_twice, 0);
  EXPECT_EQ(outcome.results, options.jobs);
  EXPECT_EQ(outcome.rollouts, 5 * options.jobs);
  EXPECT_EQ(outcome.scored_rollouts, 5 * options.jobs);
  EXPECT_LE(outcome.leftovers, options.workers) << "killed workers leave no more than what the last of them left";
}

}  // namespace
}  // namespace gato::run

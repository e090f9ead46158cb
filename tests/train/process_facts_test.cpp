#include "train/process_facts.h"

#include <gtest/gtest.h>

#include "ranks.h"
#include "support/synthetic_data.h"
#include "train/session.h"
#include "train/step_signals.h"

namespace gato::train {
namespace {

using data::test::shared_data;

TrainingConfig config_of_data() {
  TrainingConfig config;
  config.data = shared_data().config(64);
  const Path file = shared_data().folder() / "facts.model";
  if (!std::filesystem::exists(file)) write_file_atomic(file, shared_data().text().model_bytes());
  config.tokenizer = {file.string(), true};
  return config;
}

TEST(ProcessFactsTest, SameConfigurationsAndDataAreAlike) {
  TrainingConfig config = config_of_data(), other = config;
  other.train.threads = 3;
  other.comm.interface = "eth7";
  other.train.device = "cpu";
  const Launch launch = test::launch_of(0, 2, 1);
  const auto facts = [&](const TrainingConfig& one) { return process_facts(one, open_data(one), launch, at::kCPU); };
  const ProcessFacts mine = facts(config);
  EXPECT_EQ(mine, facts(other)) << differences({mine, facts(other)});
  other.optimizer.learning_rate *= 2;
  EXPECT_NE(mine.at("configuration"), facts(other).at("configuration"));
  other = config;
  other.data.schedule[0].mixture.pop_back();
  EXPECT_NE(mine.at("data"), facts(other).at("data"));
}

TEST(ProcessFactsTest, ADifferenceNamesRankAndFieldAtEveryRank) {
  const int port = test::free_port();
  const auto errors = test::in_threads(3, [&](int64_t rank) {
    const auto all = Communicator::connect(test::launch_of(rank, 3, port), at::kCPU);
    check_alike(*all, {{"gato version", "1"}, {"device", "cpu"}});
    ProcessFacts facts{{"gato version", rank == 2 ? "2" : "1"}, {"device", "cpu"}};
    if (rank == 1) facts.erase("device");
    check_alike(*all, facts);
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("rank 2 has gato version 2, rank 0 has 1"), std::string::npos) << error;
    EXPECT_NE(error.find("rank 1 has device nothing, rank 0 has cpu"), std::string::npos) << error;
  }
}

TEST(ProcessFactsTest, MeasuresTheExchange) {
  test::with_ranks(2, [](const auto& all) {
    const ExchangeSpeed speed = measure_exchange(*all, at::kCPU);
    EXPECT_GT(speed.bytes_per_second, 0);
    EXPECT_GT(speed.latency, 0);
    EXPECT_GE(speed.slowest_factor, 1);
    EXPECT_TRUE(speed.slowest_rank == 0 || speed.slowest_rank == 1);
  });
}

TEST(ProcessFactsTest, GathersTimesByRank) {
  test::with_ranks(3, [](const auto& all) {
    const auto rank = static_cast<double>(all->rank());
    const auto times = gather_times(*all, {10 + rank, rank, 2});
    ASSERT_EQ(times.size(), 3u);
    for (size_t r = 0; r < 3; ++r) {
      EXPECT_EQ(times[r].step, 10 + static_cast<double>(r));
      EXPECT_EQ(times[r].busy(), 8);
    }
  });
}

TEST(StragglerWatchTest, NamesWhoIsSlowForAWhile) {
  StragglerWatch watch;
  const std::vector<ProcessTimes> even = {{1.0, 0.2, 0}, {1.0, 0.2, 0}, {1.0, 0.15, 0}},
                                  slow = {{1.5, 0.7, 0}, {1.5, 0.0, 0}, {1.5, 0.7, 0}};
  EXPECT_EQ(watch.look(even), "");
  EXPECT_EQ(watch.look(slow), "");
  EXPECT_EQ(watch.look(slow), "");
  const std::string said = watch.look(slow);
  EXPECT_NE(said.find("rank 1 works 1500.0 ms a step, the median is 800.0 ms"), std::string::npos) << said;
  EXPECT_EQ(watch.look(slow), "") << "not at every point";
  EXPECT_EQ(watch.look(even), "");
  EXPECT_EQ(watch.look(slow), "") << "a new stretch begins";
}

TEST(StragglerWatchTest, OneProcessIsNeverSlow) {
  StragglerWatch watch;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(watch.look({{1.0 + i, 0, 0}}), "");
}

TEST(StepSignalsTest, EveryProcessGetsTheSums) {
  test::with_ranks(3, [](const auto& all) {
    StepSignals own;
    own.stop = all->rank() == 2 ? 1 : 0;
    own.tokens = 100 + all->rank();
    own.damage = all->rank();
    const StepSignals sums = agree(*all, own);
    EXPECT_EQ(sums.stop, 1);
    EXPECT_EQ(sums.save, 0);
    EXPECT_EQ(sums.damage, 3);
    EXPECT_EQ(sums.tokens, 303);
  });
  Communicator alone;
  StepSignals own;
  own.tokens = 7;
  EXPECT_EQ(agree(alone, own).tokens, 7);
}

TEST(StepSignalsTest, NumbersHoldThemExactly) {
  StepSignals own;
  own.tokens = (int64_t{1} << 40) + 1;
  own.save_ended = 1;
  EXPECT_EQ(from_numbers(to_numbers(own)), own);
}

TEST(TrainingClockTest, WhatIsNoTrainingDoesNotCount) {
  double now = 100, waited = 7;
  TrainingClock clock([&] { return waited; }, [&] { return now; });
  const auto pass = [&](double seconds, double of_it_waited) { now += seconds, waited += of_it_waited; };
  pass(10, 1);
  {
    const TrainingClock::Pause saving(clock);
    pass(50, 40);
    {
      const TrainingClock::Pause settling(clock);
      pass(5, 5);
    }
    pass(1, 0);
  }
  pass(2, 0.5);
  TrainingClock::Stretch stretch = clock.restart();
  EXPECT_DOUBLE_EQ(stretch.seconds, 12);
  EXPECT_DOUBLE_EQ(stretch.waited, 1.5) << "a save of others makes nobody a straggler";
  pass(3, 0.25);
  stretch = clock.restart();
  EXPECT_DOUBLE_EQ(stretch.seconds, 3);
  EXPECT_DOUBLE_EQ(stretch.waited, 0.25);
}

}  // namespace
}  // namespace gato::train

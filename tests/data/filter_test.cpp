#include "gato/data/filter.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "support/synthetic_data.h"

namespace gato::data {
namespace {

struct Outcome {
  float total_return = 0;
  std::optional<bool> success;
  bool rewarded = true;
};

/// Shards of two episodes each, with these returns.
class Recorded {
 public:
  explicit Recorded(const std::vector<Outcome>& outcomes, episode::ReturnRecord random = {}) {
    episode::TaskSpec task = test::control_task();
    task.random = random;
    for (size_t begin = 0; begin < outcomes.size(); begin += 2) {
      const Path path = folder_ / cat("part-", 10000 + begin, ".gato");
      episode::ShardWriter writer(path, {"recorded", "", "", "test"}, {task});
      for (size_t i = begin; i < std::min(begin + 2, outcomes.size()); ++i) {
        episode::Episode made = test::random_episode(task, static_cast<int64_t>(i), false);
        made.reward.assign(outcomes[i].rewarded ? static_cast<size_t>(made.num_steps) : 0, 0.0f);
        if (outcomes[i].rewarded) made.reward[0] = outcomes[i].total_return;
        made.success = outcomes[i].success;
        writer.add(0, made);
      }
      writer.finish();
      paths_.push_back(path);
      shards_.push_back({std::make_shared<const episode::ShardReader>(path), 0});
    }
  }
  [[nodiscard]] const std::vector<TaskShard>& shards() const { return shards_; }
  [[nodiscard]] const std::vector<Path>& paths() const { return paths_; }

 private:
  gato::test::TempFolder folder_;
  std::vector<Path> paths_;
  std::vector<TaskShard> shards_;
};

std::vector<int> kept(const FilteredEpisodes& filtered) {
  std::vector<int> numbers;
  int number = 0;
  for (const auto& shard : filtered.keep) {
    for (const bool keep : shard) {
      if (keep) numbers.push_back(number);
      ++number;
    }
  }
  return numbers;
}

std::vector<Outcome> returns(const std::vector<float>& values) {
  std::vector<Outcome> outcomes;
  for (const float value : values) outcomes.push_back({.total_return = value, .success = {}});
  return outcomes;
}

TEST(WindowMeansTest, FollowsTheDefinition) {
  const std::vector<double> values = {1, 5, 3, -2, 8, 8, 0};
  EXPECT_DOUBLE_EQ(window_means(values, 1).largest, 8);
  EXPECT_DOUBLE_EQ(window_means(values, 2).largest, 8);
  EXPECT_DOUBLE_EQ(window_means(values, 3).largest, 16.0 / 3);
  EXPECT_DOUBLE_EQ(window_means(values, 3).smallest, 2);
  EXPECT_DOUBLE_EQ(window_means(values, 100).largest, 23.0 / 7) << "fewer episodes than a window: all of them";
}

TEST(WindowMeansTest, LongSeriesKeepTheirPrecision) {
  std::vector<double> values;
  for (int i = 0; i < 20000; ++i) values.push_back(i % 2 == 0 ? 1e9 + 0.25 : -1e9);
  EXPECT_NEAR(window_means(values, 2).largest, 0.125, 1e-6);
}

TEST(FilterTest, ExpertReturnIsTheBestWindowOverAllShards) {
  // N = 20, so W = 2: the best neighbours are 9 and 11, across two shards; the lone 15 does not count.
  std::vector<float> values(20, 1.0f);
  values[3] = 15;
  values[9] = 9;
  values[10] = 11;
  values[15] = 8.5f;
  const Recorded data(returns(values));
  const FilteredEpisodes filtered = filter_episodes({.tasks = "*", .min_return_share = 0.8}, "s", data.shards());
  EXPECT_EQ(filtered.report.window, 2);
  EXPECT_DOUBLE_EQ(*filtered.report.expert_return, 10);
  EXPECT_DOUBLE_EQ(*filtered.report.threshold, 8);
  EXPECT_EQ(kept(filtered), (std::vector<int>{3, 9, 10, 15}));
  EXPECT_EQ(filtered.report.kept_episodes, 4);
  EXPECT_EQ(filtered.report.episodes, 20);
  EXPECT_LT(filtered.report.kept_steps, filtered.report.steps);
  const FilteredEpisodes single =
      filter_episodes({.tasks = "*", .min_return_share = 0.8, .window = 1}, "s", data.shards());
  EXPECT_EQ(kept(single), (std::vector<int>{3})) << "with windows of one episode the best is the expert";
}

TEST(FilterTest, ReturnsBelowZeroAreMeasuredFromTheRandomAgent) {
  const std::vector<float> values = {-100, -60, -10, -22, -30, -100, -90, -80, -70, -95};
  const Recorded measured(returns(values), {-110, 1, 100});
  const FilteredEpisodes filtered = filter_episodes({.tasks = "*", .min_return_share = 0.8}, "s", measured.shards());
  EXPECT_DOUBLE_EQ(*filtered.report.expert_return, -10);
  EXPECT_DOUBLE_EQ(*filtered.report.base_return, -110);
  EXPECT_DOUBLE_EQ(*filtered.report.threshold, -30);
  EXPECT_EQ(kept(filtered), (std::vector<int>{2, 3, 4}));
  const Recorded unmeasured(returns(values));
  const FilteredEpisodes from_worst =
      filter_episodes({.tasks = "*", .min_return_share = 0.8}, "s", unmeasured.shards());
  EXPECT_DOUBLE_EQ(*from_worst.report.base_return, -100);
  EXPECT_DOUBLE_EQ(*from_worst.report.threshold, -28);
}

TEST(FilterTest, QuantileBoundsAndSuccess) {
  std::vector<Outcome> outcomes = returns({5, 1, 4, 4, 2, 3, 0, 4});
  for (size_t i = 0; i < outcomes.size(); ++i) outcomes[i].success = i % 2 == 0;
  const Recorded data(outcomes);
  const auto with = [&](const FilterEntry& entry) { return kept(filter_episodes(entry, "s", data.shards())); };
  EXPECT_EQ(with({.tasks = "*", .top_quantile = 0.25}), (std::vector<int>{0, 2, 3, 7})) << "ties stay together";
  EXPECT_EQ(with({.tasks = "*", .success = true}), (std::vector<int>{0, 2, 4, 6}));
  EXPECT_EQ(with({.tasks = "*", .min_return = 1, .max_return = 3}), (std::vector<int>{1, 4, 5}));
  EXPECT_EQ(with({.tasks = "*", .success = true, .min_return = 3}), (std::vector<int>{0, 2}));
  EXPECT_EQ(with({.tasks = "*"}).size(), 8u);
}

TEST(FilterTest, NothingLeftIsAnErrorThatNamesTaskAndRule) {
  const Recorded data(returns({1, 2, 3}));
  for (const FilterEntry& entry :
       {FilterEntry{.tasks = "control/*", .min_return = 10}, FilterEntry{.tasks = "control/*", .success = true}}) {
    try {
      static_cast<void>(filter_episodes(entry, "recorded:control/arm", data.shards()));
      FAIL();
    } catch (const ConfigError& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find("recorded:control/arm"), std::string::npos) << message;
      EXPECT_NE(message.find(entry.success ? "success" : "return >= 10"), std::string::npos) << message;
    }
  }
}

TEST(FilterTest, ReturnsThatWereNotRecordedAreAnError) {
  const Recorded data({{.total_return = 1, .success = {}}, {.total_return = 0, .success = {}, .rewarded = false}});
  EXPECT_THROW(static_cast<void>(filter_episodes({.tasks = "*", .min_return_share = 0.8}, "s", data.shards())),
               ConfigError);
}

TEST(FilterTest, LastMatchingEntryHoldsAndReportsAreComplete) {
  const std::vector<FilterEntry> filters = {{.tasks = "*", .success = true}, {.tasks = "control/*", .min_return = 2}};
  EXPECT_EQ(filter_of(filters, "control/arm"), &filters[1]);
  EXPECT_EQ(filter_of(filters, "text/tales"), &filters[0]);
  EXPECT_EQ(filter_of({}, "text/tales"), nullptr);
  const Recorded data(returns({1, 2, 3}));
  const std::vector<FilterReport> reports = filter_shards(data.paths(), filters);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].kept_episodes, 2);
  EXPECT_NE(filter_table(reports).find("2 of 3 (66.7 %)"), std::string::npos) << filter_table(reports);
  const Json json = parse_json(filter_json(reports), "report");
  EXPECT_EQ(json[0]["kept_episodes"], 2);
  EXPECT_EQ(json[0]["threshold"], 2.0);
  EXPECT_TRUE(json[0]["expert_return"].is_null());
}

TEST(FilterTest, WrongEntriesAreRefused) {
  for (const char* yaml :
       {"{tasks: '*', min_return_share: 1.5}", "{tasks: '*', top_quantile: 0}", "{tasks: '*', window: 10}",
        "{min_return: 1}", "{tasks: '*', min_return: 2, max_return: 1}"}) {
    EXPECT_THROW(static_cast<void>(read_config<FilterEntry>(parse_yaml(yaml, "test"))), ConfigError) << yaml;
  }
  const auto entry = read_config<FilterEntry>(parse_yaml("{tasks: 'a/*', min_return_share: 0.8, window: 5}", "test"));
  EXPECT_EQ(entry.window, 5);
}

}  // namespace
}  // namespace gato::data

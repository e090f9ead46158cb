// Phases of the schedule: epochs that go on, data added later, what a run records of them.
#include "gato/data/schedule.h"

#include <gtest/gtest.h>

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

std::unique_ptr<PlanData> some_data() {
  auto data = std::make_unique<PlanData>();
  data->add_numbers("a", 5, 80, 10, 60);
  data->add_numbers("b", 7, 60, 10, 60);
  data->add_documents("notes", 60, 20, 80);
  return data;
}

std::vector<MixtureEntry> first_mixture() {
  return {{.tasks = "control/a", .share = 3, .steps = kRow, .prompt_probability = 0.25},
          {.tasks = "control/b"},
          {.tasks = "text/*", .steps = kRow}};
}

/// The same windows in other shares, in another order of entries.
std::vector<MixtureEntry> other_shares() {
  return {{.tasks = "text/*", .share = 2, .steps = kRow},
          {.tasks = "control/b", .share = 3},
          {.tasks = "control/a", .share = 1, .steps = kRow, .prompt_probability = 0.25}};
}

TEST(PhaseTest, EpochsGoOnThroughPhases) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  config.schedule.push_back({2 * kBlockRows, other_shares()});
  config.schedule.push_back({3 * kBlockRows, {{.tasks = "control/b"}}});  // the others pause
  config.schedule.push_back({4 * kBlockRows + 7, first_mixture()});       // rounded up to block 5
  const auto plan = data->plan(config);
  std::map<std::pair<int32_t, uint64_t>, std::map<std::pair<int64_t, int64_t>, int>> uses;
  std::map<int32_t, std::set<uint64_t>> epochs;
  for (const PlannedSequence& sequence : Contents(*plan, 0, 12).sequences) {
    epochs[sequence.source].insert(sequence.epoch);
    for (int64_t s = 0; s < sequence.window.count; ++s) {
      ASSERT_EQ(++(uses[{sequence.source, sequence.epoch}][{sequence.window.episode, sequence.window.first + s}]), 1)
          << "epoch " << sequence.epoch;
    }
  }
  for (const auto& [source, seen] : epochs) {
    // No epoch was left before its end: all but the last one are whole, except for what packing dropped.
    EXPECT_EQ(*seen.rbegin() + 1, seen.size()) << "epochs follow one another";
    const Source& data_of = *plan->sources()[static_cast<size_t>(source)];
    int64_t all = 0;
    for (int64_t e = 0; e < data_of.num_episodes(); ++e) all += data_of.length(e);
    for (uint64_t epoch = 0; epoch < *seen.rbegin(); ++epoch) {
      EXPECT_GE(static_cast<double>(uses[{source, epoch}].size()), 0.95 * static_cast<double>(all))
          << data_of.id() << " epoch " << epoch;
    }
  }
}

TEST(PhaseTest, OtherWindowsBeginANewEpoch) {
  const auto data = some_data();
  DataConfig config = data->config(256, {{.tasks = "control/a"}});
  config.schedule.push_back({kBlockRows, {{.tasks = "control/a", .steps = {4, 4, false}}}});
  const auto plan = data->plan(config);
  std::set<uint64_t> before, after;
  for (const PlannedSequence& sequence : Contents(*plan, 0, 1).sequences) before.insert(sequence.epoch);
  for (const PlannedSequence& sequence : Contents(*plan, 1, 2).sequences) after.insert(sequence.epoch);
  EXPECT_EQ(*after.begin(), *before.rbegin() + 1);
}

TEST(PhaseTest, AppendedPhasesLeaveOldRowsAsTheyWere) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  const auto before = data->plan(config);
  config.schedule.push_back({6 * kBlockRows, other_shares()});
  const auto after = data->plan(config);
  for (int64_t b = 0; b < 6; ++b) ASSERT_TRUE(*before->block(b) == *after->block(b)) << "block " << b;
  EXPECT_FALSE(*before->block(6) == *after->block(6));
}

TEST(PhaseTest, PhaseThatRepeatsTheMixtureChangesNothingInTheOrderOfItems) {
  const auto data = some_data();
  DataConfig config = data->config(256, {{.tasks = "control/b"}});
  const auto whole = data->plan(config);
  config.schedule.push_back({3 * kBlockRows, {{.tasks = "control/b"}}});
  const auto divided = data->plan(config);
  const auto items = [](const RowPlan& plan) {
    std::set<std::pair<uint64_t, uint64_t>> found;
    for (const PlannedSequence& sequence : Contents(plan, 0, 6).sequences)
      found.insert({sequence.epoch, sequence.item});
    return found;
  };
  const auto a = items(*whole), b = items(*divided);
  std::vector<std::pair<uint64_t, uint64_t>> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  EXPECT_GE(both.size() + 20, a.size());
}

TEST(PhaseTest, ValidationWithoutHeldOutEpisodesHasNoRows) {
  PlanData data;
  data.add_numbers("a", 5, 200, 10, 20);
  data.add_numbers("b", 5, 2, 10, 20);
  DataConfig config = data.config(128, {{.tasks = "control/a"}});
  config.schedule.push_back({kBlockRows, {{.tasks = "control/b"}}});
  config.schedule.push_back({2 * kBlockRows, {{.tasks = "*"}}});
  config.validation_share = 0.05;
  std::vector<std::shared_ptr<const Source>> held_out;
  for (const auto& source : data.sources(config, Split::kValidation)) {
    if (source->spec().id == "control/a") held_out.push_back(source);
  }
  ASSERT_EQ(held_out.size(), 1u);
  const auto plan = std::make_shared<const RowPlan>(config, held_out, 1, true);
  EXPECT_TRUE(plan->has_rows(0));
  EXPECT_FALSE(plan->has_rows(kBlockRows));
  EXPECT_TRUE(plan->has_rows(2 * kBlockRows));
  EXPECT_EQ(plan->block(1)->planned_tokens, 0);
  EXPECT_EQ(RowBuilder(plan, false).build(kBlockRows, 2).tokens, 0);
  EXPECT_TRUE(plan->shares(kBlockRows).empty());
  EXPECT_THROW(RowPlan(config, held_out, 1, false), ConfigError);
}

OpenedPhases open(const DataConfig& config, const ScheduleRecord* recorded = nullptr, int64_t consumed = 0) {
  return open_phases(config, shared_data().vocabulary(), &shared_data().text(), recorded, consumed);
}

PlanData::Episodes more_of_a(int64_t first) {
  return [first](int64_t e) {
    return test::plain_episode(test::numbers_task("control/a", 5), "later" + std::to_string(first + e), 30);
  };
}

/// Adds shards to the data set of control/a, under new file names.
void add_later_shards(const PlanData& data) {
  episode::DatasetWriter writer(data.folder() / "staging", {"a", "Made for a test.", "", "test"},
                                {test::numbers_task("control/a", 5)}, 16'000);
  for (int64_t e = 0; e < 100; ++e) writer.add(0, more_of_a(0)(e));
  writer.finish();
  for (const Path& shard : writer.shards())
    std::filesystem::rename(shard, data.folder() / "a" / ("later-" + shard.filename().string()));
  std::filesystem::remove_all(data.folder() / "staging");
}

TEST(ScheduleTest, DataAddedLaterEntersWithANewPhase) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  const OpenedPhases first = open(config);
  const RowPlan before(config, first.training, 1);
  add_later_shards(*data);

  const OpenedPhases resumed = open(config, &first.record, 1000);
  EXPECT_FALSE(resumed.notes.empty());
  EXPECT_NE(resumed.notes[0].find("later-"), std::string::npos);
  EXPECT_TRUE(resumed.record == first.record);
  const RowPlan same(config, resumed.training, 1);
  for (int64_t b = 0; b < 4; ++b) ASSERT_TRUE(*before.block(b) == *same.block(b)) << "block " << b;

  config.schedule.push_back({1024, first_mixture()});
  const OpenedPhases grown = open(config, &first.record, 1000);
  ASSERT_EQ(grown.training.size(), 2u);
  const RowPlan after(config, grown.training, 1);
  for (int64_t b = 0; b < 16; ++b) ASSERT_TRUE(*before.block(b) == *after.block(b)) << "block " << b;
  EXPECT_EQ(after.sources().size(), 6u) << "three sources in each phase, as objects of their own";
  bool later = false;
  for (const PlannedSequence& sequence : Contents(after, 0, 30).sequences) {
    const Source& source = *after.sources()[static_cast<size_t>(sequence.source)];
    later = later || source.episode_name(sequence.window.episode).starts_with("later");
  }
  EXPECT_TRUE(later);

  // And the run goes on from that record.
  const OpenedPhases again = open(config, &grown.record, 1100);
  EXPECT_TRUE(again.record == grown.record);
  const RowPlan third(config, again.training, 1);
  for (const int64_t b : {3, 15, 16, 20}) ASSERT_TRUE(*third.block(b) == *after.block(b)) << "block " << b;
}

TEST(ScheduleTest, APhaseMayNameItsOwnDataSets) {
  const auto data = some_data();
  DataConfig config = data->config(128, {{.tasks = "control/a"}});
  config.datasets = {(data->folder() / "a").string()};
  config.schedule.push_back(
      {64, {{.tasks = "control/*"}}, "", false, {(data->folder() / "a").string(), (data->folder() / "b").string()}});
  config.schedule.push_back({128, {{.tasks = "control/b"}}});
  const OpenedPhases opened = open(config);
  const RowPlan plan(config, opened.training, 1);
  EXPECT_EQ(plan.shares(0).size(), 1u);
  EXPECT_EQ(plan.shares(64).size(), 2u);
  EXPECT_EQ(plan.shares(128).size(), 1u);
  EXPECT_EQ(opened.record.phases[2].sources.size(), 2u);
  EXPECT_EQ(opened.training[1].sources[0], opened.training[2].sources[0]) << "equal shards are opened once";
}

TEST(ScheduleTest, MovedFoldersAreFoundMissingAndChangedShardsAreNamed) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  const OpenedPhases first = open(config);
  const RowPlan before(config, first.training, 1);
  std::filesystem::create_directories(data->folder() / "moved");
  for (const char* name : {"a", "b", "notes"}) {
    std::filesystem::rename(data->folder() / name, data->folder() / "moved" / (std::string("x") + name));
  }
  DataConfig moved = config;
  moved.datasets = {(data->folder() / "moved" / "xnotes").string(), (data->folder() / "moved" / "xb").string(),
                    (data->folder() / "moved" / "xa").string()};
  const RowPlan after(moved, open(moved, &first.record, 640).training, 1);
  EXPECT_TRUE(*before.block(2) == *after.block(2));

  const Path victim = find_shards(moved).back(), kept = data->folder() / "kept";
  std::filesystem::rename(victim, kept);
  const auto message = [&] {
    try {
      static_cast<void>(open(moved, &first.record, 640));
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message().find(victim.filename().string()), std::string::npos) << message();
  EXPECT_NE(message().find("missing"), std::string::npos) << message();
  std::filesystem::copy_file(find_shards(moved).front(), victim);
  EXPECT_NE(message().find("changed"), std::string::npos) << message();
  std::filesystem::remove(victim);
  std::filesystem::rename(kept, victim);
  EXPECT_EQ(message(), "");
  std::filesystem::rename(victim, kept);
  EXPECT_EQ(open(moved, &first.record, 0).record.phases.size(), 1u) << "no row was used: nothing is bound";
}

TEST(ScheduleTest, PhasesThatHaveBegunKeepTheirMixture) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  config.schedule.push_back({640, other_shares()});
  const OpenedPhases first = open(config);
  config.schedule[1].mixture[0].share = 5;
  EXPECT_EQ(open(config, &first.record, 640).record.phases[1].mixture[0].share, 5);
  try {
    static_cast<void>(open(config, &first.record, 641));
    FAIL() << "a phase that has begun was changed";
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("schedule.[1]"), std::string::npos) << message;
    EXPECT_NE(message.find("- "), std::string::npos) << message;
    EXPECT_NE(message.find("share: 5"), std::string::npos) << message;
    EXPECT_NE(message.find("share: 2"), std::string::npos) << message;
  }
  config.schedule.pop_back();
  EXPECT_THROW(static_cast<void>(open(config, &first.record, 641)), ConfigError);
  EXPECT_EQ(open(config, &first.record, 600).training.size(), 1u);
}

TEST(ScheduleTest, NewPhasesBeginBehindTheRowsThatWereUsed) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  const OpenedPhases first = open(config);
  config.schedule.push_back({600, other_shares()});  // from row 640 on
  EXPECT_EQ(open(config, &first.record, 640).training.size(), 2u);
  try {
    static_cast<void>(open(config, &first.record, 1000));
    FAIL() << "rows 640 to 999 were changed";
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("schedule.[1]"), std::string::npos) << message;
    EXPECT_NE(message.find("used 1000 rows"), std::string::npos) << message;
  }
  // A recorded phase that has not begun may move, but not there either.
  config.schedule[1].first_row = 2000;
  const OpenedPhases both = open(config, &first.record, 1000);
  config.schedule[1].first_row = 1000;
  EXPECT_EQ(open(config, &both.record, 1000).record.phases[1].first_row, 1000);
  config.schedule[1].first_row = 900;
  EXPECT_THROW(static_cast<void>(open(config, &both.record, 1000)), ConfigError);
}

TEST(ScheduleTest, OverlappingFoldersAndCopiesCountOnce) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  const OpenedPhases first = open(config);
  const size_t shards = find_shards(config).size();
  DataConfig twice = config;
  twice.datasets.push_back((data->folder() / "a").string());
  twice.datasets.push_back((data->folder() / "a" / ".." / "b").string());
  EXPECT_EQ(find_shards(twice).size(), shards);
  std::filesystem::copy(data->folder() / "a", data->folder() / "copy");
  const OpenedPhases copied = open(config);
  EXPECT_GT(find_shards(config).size(), shards);
  ASSERT_FALSE(copied.notes.empty());
  EXPECT_NE(copied.notes[0].find("same content"), std::string::npos) << copied.notes[0];
  const RowPlan before(config, first.training, 1), after(config, copied.training, 1);
  EXPECT_TRUE(*before.block(3) == *after.block(3));
}

TEST(ScheduleTest, BothSplitsComeFromTheSameShards) {
  const auto data = some_data();
  DataConfig config = data->config(256, first_mixture());
  config.validation_share = 0.3;
  const OpenedPhases opened = open(config);
  ASSERT_EQ(opened.validation.size(), 1u);
  ASSERT_EQ(opened.validation[0].sources.size(), opened.training[0].sources.size());
  for (size_t s = 0; s < opened.training[0].sources.size(); ++s) {
    const Source& training = *opened.training[0].sources[s];
    const Source& validation = *opened.validation[0].sources[s];
    EXPECT_EQ(training.id(), validation.id());
    EXPECT_EQ(training.shard(0).reader, validation.shard(0).reader) << "opened once";
    EXPECT_GT(training.num_episodes(), validation.num_episodes());
  }
}

ScheduleRecord some_record() {
  ScheduleRecord record;
  RecordedPhase phase;
  phase.mixture = {{.tasks = "control/*",
                    .share = 0.1,
                    .steps = {1, 4, false},
                    .prompt_probability = 1e-5,
                    .prompt_steps = {3, 3, false},
                    .within = {{"control/a", 2.5}}},
                   {.tasks = "text/\"quoted\": #no comment", .steps = {1, 1, true}}};
  phase.sources = {{"set:control/a", {{"data/set-00000.gato", "0123456789abcdef"}, {"data/set-00001.gato", "ff"}}}};
  record.phases.push_back(phase);
  phase.first_row = 1 << 20;
  phase.allow_missing = true;
  phase.sources.clear();
  record.phases.push_back(phase);
  return record;
}

TEST(ScheduleRecordTest, SurvivesWritingAndReading) {
  const ScheduleRecord record = some_record();
  EXPECT_TRUE(parse_schedule_record(to_json(record), "test") == record);
  EXPECT_TRUE(parse_schedule_record(to_json(ScheduleRecord{}), "test") == ScheduleRecord{});
}

TEST(ScheduleRecordTest, DamageIsADataErrorAtEveryByte) {
  const std::string text = to_json(some_record());
  for (size_t length = 0; length + 1 < text.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_schedule_record(text.substr(0, length), "cut")), DataError) << length;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    for (const char flip : {'\x01', '\x20', '\x80'}) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ flip);
      try {
        static_cast<void>(parse_schedule_record(damaged, "flipped"));
      } catch (const DataError&) {
      }
    }
  }
  for (const char* bad : {"[]", "{}", R"({"version": 2, "phases": []})", R"({"version": 1, "phases": [{}]})",
                          R"({"version": 1, "phases": [], "more": 1})"}) {
    EXPECT_THROW(static_cast<void>(parse_schedule_record(bad, "bad")), DataError) << bad;
  }
}

}  // namespace
}  // namespace gato::data

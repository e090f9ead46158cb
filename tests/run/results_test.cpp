#include "gato/run/results.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/run/confidence.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

using gato::test::TempFolder;

TaskResult control_result() {
  TaskResult result;
  result.task = "control/cart-pole";
  result.checkpoint = "step-00001000";
  result.step = 1000;
  result.suite = "demo";
  result.decoding = {"mean", 0.5, 8, "training", 0.9, "int8"};
  result.expert = {500, 1.5, 100};
  result.random = {20, 0.5, 100};
  result.versions = {{"gato", "0.1.0"}, {"mujoco", "3.3.0"}};
  result.seconds = 1.25;
  for (uint64_t i = 0; i < 50; ++i) {
    RolloutRecord& rollout = result.rollouts.emplace_back();
    rollout.seed = i << 40;
    rollout.episode_return = 400 + static_cast<double>(i % 5);
    rollout.length = 500;
    rollout.success = i % 4 != 0;
  }
  return result;
}

TaskResult caption_result() {
  TaskResult result = control_result();
  result.task = "pictures/caption";
  result.scoring = TaskScoring::kExactMatch;
  result.rollouts.clear();
  for (uint64_t i = 0; i < 10; ++i) {
    const bool hit = i != 3;
    result.rollouts.push_back(
        {i, hit ? 1.0 : 0.0, 1, std::nullopt, hit, hit ? "a red \"cube\"" : "", "a red \"cube\""});
  }
  return result;
}

TaskResult text_result() {
  TaskResult result = control_result();
  result.task = "text/jargon";
  result.scoring = TaskScoring::kLoss;
  result.rollouts.clear();
  result.expert = result.random = {};
  result.loss = TextLoss{3.5, 1000, 6.25};
  return result;
}

template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(TaskResultTest, RoundTrips) {
  for (const TaskResult& result : {control_result(), caption_result(), text_result()}) {
    EXPECT_EQ(parse_task_result(to_json(result), "x"), result);
  }
}

TEST(TaskResultTest, ReturnsThatAreNotFiniteBecomeNull) {
  TaskResult result = control_result();
  result.rollouts[0].episode_return = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isnan(parse_task_result(to_json(result), "x").rollouts[0].episode_return));
}

TEST(TaskResultTest, AnswersThatAreNotUtf8AreMadeSo) {
  TaskResult result = caption_result();
  result.rollouts[0].answer = "a\xff";
  EXPECT_EQ(parse_task_result(to_json(result), "x").rollouts[0].answer, "a\xef\xbf\xbd");
}

TEST(TaskResultTest, ReadingIsStrict) {
  const std::string control = to_json(control_result());
  const auto expect = [&](const std::string& from, const std::string& to, const std::string& problem) {
    const std::string message =
        refusal([&] { static_cast<void>(parse_task_result(replaced(control, from, to), "r.json")); });
    EXPECT_NE(message.find(problem), std::string::npos) << to << ": " << message;
    EXPECT_EQ(message.find("r.json"), 0u) << message;
  };
  expect("gato-result", "other", "format");
  expect("\"version\": 1", "\"version\": 2", "version 2");
  expect("\"task\": \"control/cart-pole\"", "\"task\": \"control\"", "domain/name");
  expect("control/cart-pole", "control/../../x", "domain/name");
  expect("control/cart-pole", "/control", "domain/name");
  expect("\"demo\"", "\"../demo\"", "suite");
  expect("\"step\": 1000", "\"step\": 1001", "step");
  expect("\"step\": 1000", "\"step\": \"1000\"", "step: expected a whole number");
  expect("\"step\": 1000", "\"stepp\": 1000", "\"step\" is missing");
  expect("\"shard\": 0", "\"shard\": 1", "is 1 of 1");
  expect("\"seconds\"", "\"secondz\": 1, \"seconds\"", "unknown key \"secondz\"; did you mean \"seconds\"?");
  expect("\"return\",", "\"score\",", "scoring: expected one of");
  expect("\"scoring\": \"return\"", "\"scoring\": \"loss\"", "loss");
  expect("\"scoring\": \"return\"", "\"scoring\": \"exact_match\"", "needs exact_match");
  expect("\"temperature\": 0.5", "\"temperature\": 0", "temperature");
  expect("\"standard_error\": 1.5", "\"standard_error\": -1.5", "expert: standard_error");
  expect("\"mean\": 500.0", "\"mean\": null", "expert: mean");
  expect("\"length\": 500", "\"length\": -1", "rollouts[0]: length");
  expect("\"return\": 400.0", "\"return\": \"400\"", "rollouts[0]: return");
  expect("\"success\": false", "\"success\": 0", "rollouts[0]: success");
  expect("\"seed\": 1099511627776", "\"seed\": 0", "seed 0 is there twice");
  expect("\"seed\": 0", "\"seed\": -1", "rollouts[0]: seed");
  expect("\"mujoco\": \"3.3.0\"", "\"mujoco\": 3", "versions: mujoco");
}

TEST(TaskResultTest, TruncatedAndFlippedFilesAreRefusedOrRead) {
  TaskResult small = control_result();
  small.rollouts.resize(1);
  const std::string text = to_json(small);
  for (size_t size = 0; size + 2 < text.size(); ++size) {
    ASSERT_NE(refusal([&] { static_cast<void>(parse_task_result(text.substr(0, size), "x")); }), "") << size;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      static_cast<void>(refusal([&] { static_cast<void>(parse_task_result(flipped, "x")); }));
    }
  }
}

TEST(TaskResultTest, WhatTheReaderWouldRefuseIsNeverWritten) {
  TaskResult result = control_result();
  result.rollouts[1].seed = result.rollouts[0].seed;
  EXPECT_NE(refusal([&] { static_cast<void>(to_json(result)); }).find("twice"), std::string::npos);
  result = control_result();
  result.task = "no domain";
  EXPECT_NE(refusal([&] { static_cast<void>(to_json(result)); }), "");
}

TEST(ResultFilesTest, WriteAndReadAFolder) {
  const TempFolder folder("results");
  TaskResult second = control_result();
  second.num_shards = 2;
  TaskResult first = second;
  second.shard = 1;
  for (RolloutRecord& rollout : second.rollouts) rollout.seed += 1;
  for (const TaskResult& result : {text_result(), second, caption_result(), first}) write_result(folder / "r", result);
  write_file_atomic(folder / "r" / "summary.json", "{}");
  EXPECT_TRUE(std::filesystem::exists(folder / "r" / "control-cart-pole.shard-1.json"));
  EXPECT_EQ(read_results(folder / "r"), (std::vector<TaskResult>{first, second, caption_result(), text_result()}));
  first.seconds = 9;
  write_result(folder / "r", first);
  EXPECT_EQ(read_results(folder / "r")[0].seconds, 9);

  TaskResult alike = control_result();
  alike.task = "control/cart/pole";
  EXPECT_NE(refusal([&] { write_result(folder / "r", alike); }).find("another task"), std::string::npos);
  std::ofstream(folder / "r" / "control-cart-pole.shard-0.json") << "{";
  EXPECT_NE(refusal([&] { static_cast<void>(read_results(folder / "r")); }).find("control-cart-pole.shard-0.json"),
            std::string::npos);
  write_result(folder / "r", alike);
  EXPECT_THROW(static_cast<void>(read_results(folder / "missing")), IoError);
}

TEST(SummaryTest, ScoresAreAsDesigned) {
  const Summary summary = summarise({control_result(), caption_result(), text_result()});
  EXPECT_EQ(summary.checkpoint, "step-00001000");
  EXPECT_EQ(summary.suite, "demo");

  const TaskSummary& control = summary.tasks.at("control/cart-pole");
  EXPECT_EQ(control.rollouts, 50);
  EXPECT_DOUBLE_EQ(*control.mean_return, 402);
  EXPECT_DOUBLE_EQ(*control.score, 100 * (402.0 - 20) / 480);
  EXPECT_DOUBLE_EQ(*control.success_rate, 37.0 / 50);
  std::vector<double> returns;
  for (const RolloutRecord& rollout : control_result().rollouts) returns.push_back(rollout.episode_return);
  const auto [low, high] = bootstrap_mean_ci95(returns, hash_name("control/cart-pole"));
  EXPECT_DOUBLE_EQ(control.ci95->first, 100 * (low - 20) / 480);
  EXPECT_DOUBLE_EQ(control.ci95->second, 100 * (high - 20) / 480);
  EXPECT_LT(control.ci95->first, *control.score);
  EXPECT_GT(control.ci95->second, *control.score);
  EXPECT_EQ(control.note, "");

  const TaskSummary& caption = summary.tasks.at("pictures/caption");
  EXPECT_DOUBLE_EQ(*caption.exact_match, 0.9);
  EXPECT_DOUBLE_EQ(*caption.score, 90);
  EXPECT_DOUBLE_EQ(caption.ci95->first, 100 * wilson_ci95(9, 10).first);
  EXPECT_FALSE(caption.success_rate.has_value());

  const TaskSummary& text = summary.tasks.at("text/jargon");
  EXPECT_FALSE(text.score.has_value());
  EXPECT_FALSE(text.ci95.has_value());
  EXPECT_EQ(text.loss, text_result().loss);

  EXPECT_EQ(summary.domains.size(), 2u) << "a domain without a score is no domain of the table";
  EXPECT_DOUBLE_EQ(summary.domains.at("pictures").score, 90);
  EXPECT_EQ(summary.domains.at("pictures").tasks, 1);
  EXPECT_EQ(summary.domains.at("control").ci95, control.ci95) << "one task: its own interval";
  EXPECT_LT(summary.mean_ci95->first, *summary.mean_score);
  EXPECT_GT(summary.mean_ci95->second, *summary.mean_score);
  EXPECT_DOUBLE_EQ(*summary.mean_score, (*control.score + 90) / 2);
  EXPECT_EQ(summary.tasks_at_50, 2);
}

TEST(SummaryTest, MeansAreOverTasksThenDomains) {
  std::vector<TaskResult> results;
  const auto add = [&](const std::string& task, double mean) {
    TaskResult result = control_result();
    result.task = task;
    result.expert.mean = 100;
    result.random.mean = 0;
    for (RolloutRecord& rollout : result.rollouts) rollout.episode_return = mean;
    results.push_back(result);
  };
  add("a/one", 100);
  add("a/two", 50);
  add("a/three", 0);
  add("b/one", 49.999);
  const Summary summary = summarise(results);
  EXPECT_DOUBLE_EQ(summary.domains.at("a").score, 50);
  EXPECT_EQ(summary.domains.at("a").tasks, 3);
  EXPECT_DOUBLE_EQ(*summary.mean_score, (50 + 49.999) / 2);
  EXPECT_NEAR(summary.domains.at("a").ci95->first, 50, 1e-9) << "rollouts all alike: no spread but that of tasks";
  EXPECT_EQ(summary.tasks_at_50, 2);
}

TEST(SummaryTest, TasksWithoutAScoreSayWhy) {
  const auto note_of = [](const TaskResult& result) {
    const Summary summary = summarise({result});
    const TaskSummary& task = summary.tasks.at(result.task);
    EXPECT_FALSE(task.score.has_value());
    EXPECT_FALSE(summary.mean_score.has_value());
    EXPECT_TRUE(summary.domains.empty());
    EXPECT_EQ(summary.tasks_at_50, 0);
    return task.note;
  };
  TaskResult result = control_result();
  result.expert.mean = result.random.mean;
  EXPECT_NE(note_of(result).find("not better than random"), std::string::npos);
  result.expert.mean = result.random.mean - 1;
  EXPECT_NE(note_of(result).find("not better than random"), std::string::npos);
  result = control_result();
  result.expert.episodes = 0;
  EXPECT_NE(note_of(result).find("expert was not measured"), std::string::npos);
  EXPECT_FALSE(summarise({result}).tasks.at(result.task).expert_return.has_value());
  EXPECT_TRUE(summarise({result}).tasks.at(result.task).mean_return.has_value());
  result = control_result();
  result.random.episodes = 0;
  EXPECT_NE(note_of(result).find("random actions were not measured"), std::string::npos);
  result = control_result();
  result.rollouts[7].episode_return = std::nan("");
  EXPECT_NE(note_of(result).find("1 of 50 returns are not finite"), std::string::npos);
  result.rollouts[7].episode_return = 1e308;
  EXPECT_NE(note_of(result).find("1 of 50 returns"), std::string::npos);
  EXPECT_EQ(parse_summary(to_json(summarise({result})), "x"), summarise({result}));
  result = control_result();
  result.random.mean = std::nextafter(0.0, 1.0);
  result.expert.mean = 2 * result.random.mean;
  EXPECT_NE(note_of(result).find("not better than random"), std::string::npos);
  result = control_result();
  result.rollouts.clear();
  EXPECT_NE(note_of(result).find("no rollouts"), std::string::npos);
}

TEST(SummaryTest, OneRolloutHasNoInterval) {
  TaskResult result = control_result();
  result.rollouts.resize(1);
  const TaskSummary task = summarise({result}).tasks.at(result.task);
  EXPECT_TRUE(task.score.has_value());
  EXPECT_FALSE(task.ci95.has_value());
  EXPECT_NE(task.note.find("one rollout"), std::string::npos);
}

TEST(SummaryTest, DividingIntoShardsChangesNothing) {
  const Summary whole = summarise({control_result(), text_result()});
  std::vector<TaskResult> shards(3, control_result());
  for (int64_t i = 0; i < 3; ++i) {
    TaskResult& shard = shards[static_cast<size_t>(i)];
    shard.shard = i;
    shard.num_shards = 3;
    shard.seconds = static_cast<double>(i);
    shard.rollouts.clear();
  }
  const TaskResult all = control_result();
  for (size_t i = 0; i < all.rollouts.size(); ++i) shards[(i * 7) % 3].rollouts.push_back(all.rollouts[i]);
  shards.push_back(text_result());
  EXPECT_EQ(summarise(shards), whole);
  std::reverse(shards.begin(), shards.end());
  EXPECT_EQ(summarise(shards), whole);
  shards.erase(shards.begin() + 1);
  EXPECT_NE(summarise(shards).tasks.at("control/cart-pole").note.find("2 of 3 shards"), std::string::npos);
}

TEST(SummaryTest, LossesAreJoinedByTokens) {
  TaskResult first = text_result();
  first.num_shards = 2;
  TaskResult second = first;
  second.shard = 1;
  second.loss = TextLoss{1.5, 3000, 2.25};
  const TextLoss loss = *summarise({first, second}).tasks.at("text/jargon").loss;
  EXPECT_DOUBLE_EQ(loss.nats_per_token, 2.0);
  EXPECT_DOUBLE_EQ(loss.unigram_nats_per_token, 3.25);
  EXPECT_EQ(loss.tokens, 4000);
}

TEST(SummaryTest, ResultsMustBelongTogether) {
  const auto refusal_of = [](const auto& change) {
    TaskResult other = control_result();
    other.shard = 1;
    other.num_shards = 2;
    TaskResult first = other;
    first.shard = 0;
    for (RolloutRecord& rollout : other.rollouts) rollout.seed += 1;
    change(other);
    return refusal([&] { static_cast<void>(summarise({first, other})); });
  };
  EXPECT_EQ(refusal_of([](TaskResult&) {}), "");
  EXPECT_NE(refusal_of([](TaskResult& r) { r.step = 2000; }).find("does not belong"), std::string::npos);
  EXPECT_NE(refusal_of([](TaskResult& r) { r.suite = "full"; }).find("does not belong"), std::string::npos);
  EXPECT_NE(refusal_of([](TaskResult& r) { r.shard = 0; }).find("shard 0 is there twice"), std::string::npos);
  EXPECT_NE(refusal_of([](TaskResult& r) { r.rollouts[3].seed -= 1; }).find("is there twice"), std::string::npos);
  EXPECT_NE(refusal_of([](TaskResult& r) { r.expert.mean += 1; }).find("differs"), std::string::npos);
  EXPECT_NE(refusal_of([](TaskResult& r) { r.decoding.rule = "greedy"; }).find("differs"), std::string::npos);
  EXPECT_NE(refusal_of([](TaskResult& r) { r.num_shards = 3; }).find("differs"), std::string::npos);
  EXPECT_THROW(static_cast<void>(summarise({})), ContractError);
}

TEST(SummaryTest, JsonIsAsDesigned) {
  Summary summary = summarise({control_result(), caption_result(), text_result()});
  EXPECT_EQ(parse_summary(to_json(summary), "x"), summary);
  const std::string text = to_json(summary);
  for (const char* key :
       {"\"checkpoint\": \"step-00001000\"", "\"suite\": \"demo\"", "\"tasks\": {", "\"control/cart-pole\": {",
        "\"score\": ", "\"ci95\": [", "\"rollouts\": 50", "\"mean_return\": 402.0", "\"expert_return\": 500.0",
        "\"random_return\": 20.0", "\"success_rate\": 0.74", "\"exact_match\": 0.9", "\"domains\": {",
        "\"mean_score\": ", "\"tasks_at_50\": 2"}) {
    EXPECT_NE(text.find(key), std::string::npos) << key;
  }
  summary = summarise({text_result()});
  EXPECT_NE(to_json(summary).find("\"mean_score\": null"), std::string::npos);
  EXPECT_EQ(parse_summary(to_json(summary), "x"), summary);
}

TEST(SummaryTest, ReadingIsStrict) {
  const std::string text = to_json(summarise({control_result()}));
  const auto expect = [&](const std::string& from, const std::string& to, const std::string& problem) {
    const std::string message = refusal([&] { static_cast<void>(parse_summary(replaced(text, from, to), "s.json")); });
    EXPECT_NE(message.find(problem), std::string::npos) << to << ": " << message;
  };
  expect("gato-summary", "x", "format");
  expect("\"suite\"", "\"sweet\"", "\"suite\" is missing");
  expect("\"rollouts\": 50", "\"rollouts\": 50.5", "tasks.control/cart-pole: rollouts");
  expect("\"tasks_at_50\": 1", "\"tasks_at_50\": -1", "tasks_at_50");
  expect("\"ci95\": [", "\"ci95\": [1e9,", "ci95");
  expect("\"mean_score\"", "\"more\": 0, \"mean_score\"", "unknown key \"more\"");
}

TEST(ScoresFileTest, LastLineOfEachStepCounts) {
  const TempFolder folder("scores");
  const Path path = folder / "scores.jsonl";
  EXPECT_TRUE(read_scores(path).empty());
  Summary summary = summarise({control_result()});
  append_scores(path, summary);
  Summary later = summary;
  later.step = 2000;
  later.checkpoint = "step-00002000";
  append_scores(path, later);
  summary.tasks_at_50 = 7;
  append_scores(path, summary);
  std::ofstream(path, std::ios::app) << "{\"torn";
  const std::vector<ScoreLine> lines = read_scores(path);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].summary, summary);
  EXPECT_EQ(lines[1].summary, later);
  EXPECT_GT(lines[1].time, 1.7e9);
  write_summary(folder.path(), summary);
  EXPECT_EQ(parse_summary(read_file(folder / "summary.json"), "x"), summary);
}

TEST(ResultFilesTest, EveryFailingCallLeavesTheOldResult) {
  const TempFolder folder("results");
  write_result(folder.path(), control_result());
  TaskResult changed = control_result();
  changed.seconds = 77;
  using testing_hooks::FileOperation;
  for (const FileOperation operation : {FileOperation::kWrite, FileOperation::kFsync, FileOperation::kRename}) {
    const testing_hooks::ScopedFileFault fault({.operation = operation, .error_number = ENOSPC});
    EXPECT_THROW(write_result(folder.path(), changed), IoError);
    testing_hooks::clear_file_fault();
    EXPECT_EQ(read_results(folder.path()), std::vector<TaskResult>{control_result()});
  }
}

}  // namespace
}  // namespace gato::run

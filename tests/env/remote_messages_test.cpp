#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "env/remote/frame.h"
#include "env/remote/messages.h"
#include "env/remote/values.h"
#include "gato/core/error.h"
#include "gato/env/fields.h"
#include "gato/env/remote.h"

namespace gato::env::remote {
namespace {

TaskSpec mixed_task() {
  TaskSpec spec;
  spec.id = "test/mixed";
  spec.description = "All modalities.";
  spec.observation = {text_field("words"), image_field("picture", 2, 3), discrete_field("cells", 5, {2, 2}),
                      continuous_field("state", 3, -1, 1, "m")};
  spec.action = {discrete_field("button", 4), continuous_field("push", 2, -1, 1)};
  spec.max_steps = 100;
  spec.partial_view = true;
  return spec;
}

StepValues values_of(int slot) {
  StepValues values(4);
  values[0].text = slot == 0 ? "go to the red ball" : "";
  values[1].image.height = 2;
  values[1].image.width = 3;
  values[1].image.pixels.assign(18, static_cast<uint8_t>(40 + slot));
  values[2].discrete = {0, 1, 2, 3 + slot % 2};
  values[3].continuous = {0.5F, -1e30F, static_cast<float>(slot)};
  return values;
}

Steps steps_of(int count) {
  std::vector<StepValues> slots;
  Steps steps;
  for (int slot = 0; slot < count; ++slot) {
    slots.push_back(values_of(slot));
    steps.reward.push_back(0.25 * slot);
  }
  steps.columns = pack(mixed_task().observation, slots);
  steps.terminated.assign(static_cast<size_t>(count), 0);
  steps.truncated = steps.success = steps.terminated;
  return steps;
}

std::vector<Reply> all_replies() {
  Steps failed = steps_of(2);
  failed.failures = {{1, "it broke"}};
  return {Refused{"no such task"},
          Welcome{1, 42, {{"metaworld", "3.1.1"}, {"numpy", "2"}}},
          Tasks{{{mixed_task(), true}, {mixed_task(), false}}},
          Opened{{mixed_task(), true}},
          Observations{steps_of(3).columns, {{2, "it cannot begin"}}},
          steps_of(3),
          failed,
          Actions{steps_of(1).columns, {}},
          Picture{120, 160},
          Closed{}};
}

std::vector<Request> all_requests() {
  return {Hello{1, "metaworld", 1 << 20},
          ListTasks{},
          Open{"test/mixed", 3},
          Reset{{0, 2}, {1, UINT64_MAX}},
          Step{{0, 1}, steps_of(2).columns},
          Act{{1}},
          Look{2},
          Close{}};
}

TEST(RemoteFrameTest, GivesBackBodiesHoweverBytesCome) {
  const std::string stream = make_frame(FrameType::kReply, "first") + make_frame(FrameType::kReply, "") +
                             make_frame(FrameType::kReply, std::string(100'000, 'x'));
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{4096}, stream.size()}) {
    FrameReader reader(FrameType::kReply);
    std::vector<std::string> bodies;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.append(std::string_view(stream).substr(at, piece));
      while (auto body = reader.next()) bodies.push_back(*body);
    }
    ASSERT_EQ(bodies.size(), 3U);
    EXPECT_EQ(bodies[0], "first");
    EXPECT_EQ(bodies[1], "");
    EXPECT_EQ(bodies[2], std::string(100'000, 'x'));
    EXPECT_FALSE(reader.has_rest());
  }
}

TEST(RemoteFrameTest, EveryFlippedByteIsFound) {
  const std::string frame = make_frame(FrameType::kReply, "a body of some bytes");
  for (size_t i = 0; i < frame.size(); ++i) {
    std::string damaged = frame;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x20);
    FrameReader reader(FrameType::kReply);
    reader.append(damaged);
    try {  // a longer length waits for bytes that never come
      EXPECT_FALSE(reader.next().has_value()) << "byte " << i;
    } catch (const DataError&) {
    }
  }
}

TEST(RemoteFrameTest, CutFramesWaitForMore) {
  const std::string frame = make_frame(FrameType::kReply, "a body of some bytes");
  for (size_t length = 0; length < frame.size(); ++length) {
    FrameReader reader(FrameType::kReply);
    reader.append(std::string_view(frame).substr(0, length));
    EXPECT_FALSE(reader.next().has_value());
  }
}

TEST(RemoteFrameTest, RefusesWhatIsTooLongWithoutWaitingForIt) {
  std::string frame = make_frame(FrameType::kReply, "x");
  const uint32_t length = kMaxBodyBytes + 1;
  std::memcpy(frame.data() + 8, &length, sizeof length);
  FrameReader reader(FrameType::kReply);
  reader.append(frame);
  EXPECT_THROW(static_cast<void>(reader.next()), DataError);
  FrameReader requests(FrameType::kRequest);
  requests.append(make_frame(FrameType::kReply, "x"));
  EXPECT_THROW(static_cast<void>(requests.next()), DataError);
}

TEST(RemoteMessagesTest, ComeBackAsTheyWere) {
  for (const Request& request : all_requests()) EXPECT_EQ(parse_request(encode(request)), request);
  for (const Reply& reply : all_replies()) EXPECT_EQ(parse_reply(encode(reply)), reply);
}

TEST(RemoteMessagesTest, DamagedOnesAreReadOrRefused) {
  for (const Reply& reply : all_replies()) {
    const std::string body = encode(reply);
    for (size_t i = 0; i <= body.size(); ++i) {
      try {
        static_cast<void>(parse_reply(body.substr(0, i)));
      } catch (const DataError&) {
      }
      if (i == body.size()) break;
      for (const int bit : {0x01, 0x08, 0x80}) {
        std::string damaged = body;
        damaged[i] = static_cast<char>(damaged[i] ^ bit);
        try {
          static_cast<void>(parse_reply(damaged));
        } catch (const DataError&) {
        }
      }
    }
  }
  EXPECT_THROW(static_cast<void>(parse_reply("")), DataError);
  EXPECT_THROW(static_cast<void>(parse_request("\xff\xff")), DataError);
}

TEST(RemoteMessagesTest, TasksThatCannotBeAreRefused) {
  const auto refused = [](const auto& change) {
    TaskSpec spec = mixed_task();
    change(spec);
    EXPECT_THROW(static_cast<void>(parse_reply(encode(Reply(Opened{{spec, false}})))), DataError);
  };
  refused([](TaskSpec& spec) { spec.id = "nodomain"; });
  refused([](TaskSpec& spec) { spec.observation[1].shape = {0, 0, 3}; });
  refused([](TaskSpec& spec) { spec.observation[3].shape = {1 << 20, 1 << 20}; });
  refused([](TaskSpec& spec) { spec.observation[3].shape = {-3}; });
  refused([](TaskSpec& spec) { spec.action[0].num_values = 0; });
  refused([](TaskSpec& spec) { spec.action[1].low = {1}; });
  refused([](TaskSpec& spec) { spec.observation[0].name = spec.observation[1].name; });
}

TEST(RemoteValuesTest, ColumnsGiveBackTheValuesOfEverySlot) {
  const TaskSpec spec = mixed_task();
  const std::vector<StepResult> results = read_results(spec, steps_of(3), 3);
  ASSERT_EQ(results.size(), 3U);
  for (int slot = 0; slot < 3; ++slot) {
    const StepResult& result = results[static_cast<size_t>(slot)];
    EXPECT_EQ(result.observation, values_of(slot));
    EXPECT_EQ(result.reward, 0.25 * slot);
    EXPECT_FALSE(result.done());
    EXPECT_EQ(result.failure, "");
    EXPECT_FALSE(result.success.has_value());
  }
}

TEST(RemoteValuesTest, OneSlotsFailureIsNoOthers) {
  const TaskSpec spec = mixed_task();
  Steps steps = steps_of(4);
  steps.failures = {{1, "it broke"}};
  steps.terminated[2] = 1;
  steps.success[2] = 2;
  const float none = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(steps.columns[3].numbers.data() + 3 * 3 * sizeof(float), &none, sizeof none);
  const std::vector<StepResult> results = read_results(spec, steps, 4);
  EXPECT_EQ(results[0].failure, "");
  EXPECT_EQ(results[1].failure, "it broke");
  EXPECT_TRUE(results[1].truncated);
  EXPECT_EQ(results[1].observation, blank_values(spec.observation));
  EXPECT_TRUE(results[2].terminated);
  EXPECT_EQ(results[2].success, true);
  EXPECT_NE(results[3].failure.find("not finite"), std::string::npos);
}

TEST(RemoteValuesTest, AnswersThatDoNotFitAreRefused) {
  const TaskSpec spec = mixed_task();
  const auto refused = [&](const auto& change) {
    Steps steps = steps_of(2);
    change(steps);
    EXPECT_THROW(static_cast<void>(read_results(spec, steps, 2)), DataError);
  };
  refused([](Steps& steps) { steps.columns.pop_back(); });
  refused([](Steps& steps) { steps.columns[0].text.pop_back(); });
  refused([](Steps& steps) { steps.columns[1].pixels += 'x'; });
  refused([](Steps& steps) { steps.columns[2].numbers.pop_back(); });
  refused([](Steps& steps) { steps.columns[3].numbers.clear(); });
  refused([](Steps& steps) { steps.columns[3].text.emplace_back("more"); });
  refused([](Steps& steps) { steps.reward.pop_back(); });
  refused([](Steps& steps) { steps.terminated[0] = 2; });
  refused([](Steps& steps) { steps.success += '\0'; });
  refused([](Steps& steps) { steps.failures = {{2, "of nobody"}}; });
}

TEST(RemoteValuesTest, FlagsThatContradictEachOtherFailTheEpisode) {
  const TaskSpec spec = mixed_task();
  Steps steps = steps_of(3);
  steps.terminated[0] = steps.truncated[0] = 1;
  steps.success[1] = 1;
  steps.reward[2] = std::numeric_limits<double>::infinity();
  for (const StepResult& result : read_results(spec, steps, 3)) {
    EXPECT_NE(result.failure, "");
    EXPECT_TRUE(result.truncated);
  }
}

TEST(RemoteCatalogueTest, ComesBackAsItWas) {
  RemoteFamily family;
  family.name = "test";
  family.packages = {{"thing", "1.2"}};
  family.seed = 7;
  RemoteTask measured{.spec = mixed_task(), .has_expert = true, .expert_success = 0.5, .random_success = 0};
  measured.spec.expert = {1.5, 0.25, 50};
  measured.spec.random = {-0.1, 0.125, 50};
  measured.random_failures = 2;
  RemoteTask plain{.spec = mixed_task()};
  plain.spec.id = "test/plain";
  plain.spec.action[1].low = {-0.1F, -1e-7F};
  plain.spec.action[1].high = {0.3F, 3.4e38F};
  family.tasks = {measured, plain};
  const std::string text = to_json(family);
  const RemoteFamily read = parse_catalogue(text, "test.json");
  EXPECT_EQ(to_json(read), text);
  ASSERT_EQ(read.tasks.size(), 2U);
  EXPECT_EQ(read.tasks[0].spec, measured.spec);
  EXPECT_EQ(read.tasks[1].spec, plain.spec);
  EXPECT_EQ(read.tasks[0].expert_success, 0.5);
  EXPECT_EQ(read.tasks[0].random_failures, 2);
  EXPECT_TRUE(expert_is_better(measured.spec));
  for (size_t length = 0; length + 1 < text.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_catalogue(text.substr(0, length), "test.json")), DataError) << length;
  }
}

TEST(RemoteCatalogueTest, AnExpertMustBeBetterThanChance) {
  TaskSpec spec = mixed_task();
  spec.expert = {1.0, 0.3, 50};
  spec.random = {0.5, 0.3, 50};
  EXPECT_FALSE(expert_is_better(spec));
  spec.expert.mean = 1.5;
  EXPECT_TRUE(expert_is_better(spec));
  spec.expert = spec.random = {0.0, 0.0, 50};
  EXPECT_FALSE(expert_is_better(spec));
}

TEST(RemoteCatalogueTest, TheTrackedOnesAreInTheRegistry) {
  for (const RemoteFamily& family : remote_families()) {
    EXPECT_FALSE(family.packages.empty()) << family.name;
    for (const RemoteTask& task : family.tasks) {
      const TaskEntry& entry = find_task(task.spec.id);
      EXPECT_EQ(entry.family, family.name);
      EXPECT_EQ(entry.known, task.spec);
      EXPECT_EQ(static_cast<bool>(entry.make_expert), task.has_expert) << task.spec.id;
    }
  }
}

}  // namespace
}  // namespace gato::env::remote

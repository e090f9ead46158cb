#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "episode/sample_data.h"
#include "gato/episode/inspect.h"
#include "gato/episode/shard.h"
#include "support/temp_folder.h"

// Files of every released version of the format, kept in tests/episode/fixtures, and a second reader of them in Python
// that was written from the format's page (docs/formats/shard.md).
namespace gato::episode {
namespace {

const Path kFolder = Path(GATO_SOURCE_DIR) / "tests" / "episode";

TaskSpec fixture_task() {
  TaskSpec task = sample::mixed_task("fixture/every-modality");
  task.expert = {12.5, 0.25, 50};
  return task;
}

/// A value derived from `start` alone.
FieldValue fixture_value(const FieldSpec& field, int start) {
  FieldValue value;
  switch (field.modality) {
    case Modality::kContinuous:
      for (int k = 0; k < field.num_elements(); ++k)
        value.continuous.push_back(static_cast<float>(start + k) / 8.0f - 1.0f);
      break;
    case Modality::kDiscrete:
      for (int k = 0; k < field.num_elements(); ++k) {
        value.discrete.push_back(static_cast<int32_t>((start * 37 + k * 11) % field.num_values));
      }
      break;
    case Modality::kText:
      value.text = start % 3 == 0 ? "" : cat("gehe zu Stra\xc3\x9f", "e ", start);
      break;
    case Modality::kImage:
      value.image.height = static_cast<int32_t>(field.shape[0] > 0 ? field.shape[0] : 1 + start % 4);
      value.image.width = static_cast<int32_t>(field.shape[1] > 0 ? field.shape[1] : 2 + start % 3);
      for (int k = 0; k < value.image.height * value.image.width * 3; ++k) {
        value.image.pixels.push_back(static_cast<uint8_t>(start * 5 + k * k));
      }
      break;
  }
  return value;
}

std::vector<Column> fixture_columns(const std::vector<FieldSpec>& fields, int base, int64_t steps) {
  std::vector<Column> columns(fields.size());
  for (size_t i = 0; i < fields.size(); ++i) {
    for (int64_t step = 0; step < steps; ++step) {
      append_value(columns[i], fields[i], fixture_value(fields[i], base + static_cast<int>(step)));
    }
  }
  return columns;
}

Episode fixture_episode(const std::string& id, int base, int64_t steps, sample::Parts parts) {
  const TaskSpec task = fixture_task();
  Episode episode;
  episode.id = id;
  episode.source_agent = base % 2 == 0 ? "expert" : "random";
  episode.seed = 0x0123456789abcdefu + static_cast<uint64_t>(base);
  episode.num_steps = steps;
  episode.observation = fixture_columns(task.observation, base, steps);
  episode.action = fixture_columns(task.action, base + 1, steps);
  if (parts.label) episode.label = fixture_columns(task.action, base + 2, steps);
  for (int64_t step = 0; parts.reward && step < steps; ++step) {
    episode.reward.push_back(static_cast<float>(base) - 0.5f * static_cast<float>(step));
  }
  episode.terminated = base % 2 == 0;
  episode.truncated = base % 2 != 0;
  if (base % 3 != 0) episode.success = base % 3 == 1;
  return episode;
}

DatasetInfo fixture_info() { return {"fixture/v1", "A file of format version 1.", "CC0-1.0", "gato 0.1.0"}; }

std::vector<std::pair<int, Episode>> fixture_episodes() {
  return {{0, fixture_episode("every-modality/1", 1, 3, {.reward = true, .label = false})},
          {1, sample::document("document/1", "Ein Satz.\nNoch einer: \xe7\x8c\xab")},
          {0, fixture_episode("every-modality/2", 2, 2, {.reward = false, .label = true})},
          {0, fixture_episode("every-modality/3", 3, 4, {.reward = true, .label = true})}};
}

TokenColumns fixture_tokens(const std::string& shard_fingerprint) {
  TokenColumns columns{"00112233445566778899aabbccddeeff", shard_fingerprint, {}};
  columns.tasks = {
      {{Group::kObservation, 1, {0, 2, 2, 3, 5, 6, 8, 8, 9, 12}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 31999}},
       {Group::kAction, 2, {0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, {4000000000u}}},
      {{Group::kAction, 0, {0, 4}, {42, 43, 44, 2}}}};
  return columns;
}

/// Makes the fixture of the current version, once, when a version is released; fixtures of released versions stay as
/// they are:
///   GATO_FIXTURES=FOLDER episode_test --gtest_also_run_disabled_tests --gtest_filter='*WriteFixtures'
TEST(FixtureTest, DISABLED_WriteFixtures) {
  const char* folder = std::getenv("GATO_FIXTURES");
  ASSERT_NE(folder, nullptr);
  const Path path = Path(folder) / "v1.gato";
  ShardWriter writer(path, fixture_info(), {fixture_task(), sample::document_task("fixture/documents")});
  for (const auto& [task, episode] : fixture_episodes()) writer.add(task, episode);
  writer.finish();
  write_token_columns(token_columns_path(path), fixture_tokens(ShardReader(path).fingerprint()));
}

TEST(FixtureTest, Version1IsRead) {
  const Path path = kFolder / "fixtures" / "v1.gato";
  EXPECT_EQ(verify_files(path, {.contents = true}), std::vector<std::string>{});
  const ShardReader shard(path);
  EXPECT_EQ(shard.fingerprint(), "cbe46a97a702f2a6557896a59d6398b6");
  EXPECT_EQ(shard.info().name, fixture_info().name);
  EXPECT_EQ(shard.info().created_by, fixture_info().created_by);
  EXPECT_EQ(shard.tasks(), (std::vector<TaskSpec>{fixture_task(), sample::document_task("fixture/documents")}));
  const auto episodes = fixture_episodes();
  ASSERT_EQ(shard.index().size(), episodes.size());
  for (size_t i = 0; i < episodes.size(); ++i) {
    EXPECT_EQ(shard.index()[i].task, static_cast<uint32_t>(episodes[i].first));
    EXPECT_EQ(shard.read(static_cast<int64_t>(i)), episodes[i].second) << "episode " << i;
  }
}

TEST(FixtureTest, Version1TokenColumnsAreRead) {
  const Path path = kFolder / "fixtures" / "v1.gato";
  const TokenColumnsReader tokens(token_columns_path(path));
  const TokenColumns expected = fixture_tokens(ShardReader(path).fingerprint());
  EXPECT_EQ(tokens.tokenizer_digest(), expected.tokenizer_digest);
  EXPECT_EQ(tokens.shard_fingerprint(), expected.shard_fingerprint);
  for (size_t task = 0; task < expected.tasks.size(); ++task) {
    for (const TokenColumns::Field& field : expected.tasks[task]) {
      for (size_t step = 0; step + 1 < field.offsets.size(); ++step) {
        const auto actual = tokens.tokens(static_cast<int>(task), field.group, field.field, step);
        EXPECT_TRUE(std::equal(actual.begin(), actual.end(),
                               field.tokens.begin() + static_cast<std::ptrdiff_t>(field.offsets[step]),
                               field.tokens.begin() + static_cast<std::ptrdiff_t>(field.offsets[step + 1])));
      }
    }
  }
}

// ---- The second reader ----------------------------------------------------------------------------------------------

struct Output {
  int status = 0;
  std::string text;
};

Output run_python_reader(const std::string& arguments) {
  const std::string command = cat("python3 '", (kFolder / "read_shard.py").string(), "' ", arguments, " 2>&1");
  Output output;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return {-1, "popen failed"};
  char buffer[4096];
  for (size_t count; (count = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.text.append(buffer, count);
  output.status = ::pclose(pipe);
  return output;
}

bool have_python() { return std::system("python3 -c '' > /dev/null 2>&1") == 0; }

nlohmann::json json_of(const FieldSpec& spec, const FieldValue& value) {
  switch (spec.modality) {
    case Modality::kText:
      return value.text;
    case Modality::kImage:
      return {{"height", value.image.height}, {"width", value.image.width}, {"pixels", value.image.pixels}};
    case Modality::kDiscrete:
      return value.discrete;
    case Modality::kContinuous:
      return value.continuous;
  }
  return nullptr;
}

nlohmann::json json_of(const std::vector<FieldSpec>& specs, const std::vector<Column>& columns, int64_t steps) {
  nlohmann::json result = nlohmann::json::array();
  for (size_t i = 0; i < columns.size(); ++i) {
    nlohmann::json rows = nlohmann::json::array();
    for (int64_t step = 0; step < steps; ++step)
      rows.push_back(json_of(specs[i], value_at(columns[i], specs[i], step)));
    result.push_back(rows);
  }
  return result;
}

nlohmann::json json_of(const TaskSpec& task, int task_index, const Episode& episode) {
  nlohmann::json result = {{"id", episode.id},
                           {"source_agent", episode.source_agent},
                           {"seed", episode.seed},
                           {"task", task_index},
                           {"num_steps", episode.num_steps},
                           {"total_return", static_cast<float>(episode.total_return())},
                           {"terminated", episode.terminated},
                           {"truncated", episode.truncated},
                           {"success", nullptr},
                           {"observation", json_of(task.observation, episode.observation, episode.num_steps)},
                           {"action", json_of(task.action, episode.action, episode.num_steps)},
                           {"label", json_of(task.action, episode.label, episode.num_steps)},
                           {"reward", episode.reward}};
  if (episode.success) result["success"] = *episode.success;
  return result;
}

TEST(FixtureTest, ASecondReaderAgrees) {
  if (!have_python()) GTEST_SKIP() << "no python3";
  const Path path = kFolder / "fixtures" / "v1.gato";
  const Output output = run_python_reader(cat("'", path.string(), "' '", token_columns_path(path).string(), "'"));
  ASSERT_EQ(output.status, 0) << output.text;
  const nlohmann::json content = nlohmann::json::parse(output.text);
  EXPECT_EQ(content["info"]["name"], fixture_info().name);
  EXPECT_EQ(content["info"]["licence"], fixture_info().licence);
  const TaskSpec task = fixture_task();
  const nlohmann::json& task_json = content["tasks"][0];
  EXPECT_EQ(task_json["id"], task.id);
  EXPECT_EQ(task_json["max_steps"], task.max_steps);
  EXPECT_EQ(task_json["partial_view"], task.partial_view);
  EXPECT_EQ(task_json["expert"]["mean"], task.expert.mean);
  EXPECT_EQ(task_json["random"]["episodes"], task.random.episodes);
  EXPECT_EQ(content["tasks"][1]["scoring"], 2);
  for (size_t i = 0; i < task.observation.size(); ++i) {
    const nlohmann::json& field = task_json["observation"][i];
    EXPECT_EQ(field["name"], task.observation[i].name);
    EXPECT_EQ(field["modality"], std::string(modality_name(task.observation[i].modality)));
    EXPECT_EQ(field["shape"], task.observation[i].shape);
    EXPECT_EQ(field["low"], task.observation[i].low);
    EXPECT_EQ(field["unit"], task.observation[i].unit);
  }
  EXPECT_EQ(task_json["action"][0]["num_values"], task.action[0].num_values);
  const auto episodes = fixture_episodes();
  ASSERT_EQ(content["episodes"].size(), episodes.size());
  for (size_t i = 0; i < episodes.size(); ++i) {
    const TaskSpec spec = episodes[i].first == 0 ? task : sample::document_task();
    EXPECT_EQ(content["episodes"][i], json_of(spec, episodes[i].first, episodes[i].second)) << "episode " << i;
  }
  EXPECT_EQ(content["tokens"]["shard_fingerprint"], ShardReader(path).fingerprint());
  EXPECT_EQ(content["tokens"]["columns"][0]["steps"][8], (std::vector<uint32_t>{10, 11, 31999}));
  EXPECT_EQ(content["tokens"]["columns"][1]["steps"][8], (std::vector<uint32_t>{4000000000u}));
}

TEST(FixtureTest, ASecondReaderFindsDamage) {
  if (!have_python()) GTEST_SKIP() << "no python3";
  const test::TempFolder folder("fixture");
  std::string bytes = sample::slurp(kFolder / "fixtures" / "v1.gato");
  bytes[bytes.size() / 2] ^= 4;
  sample::spill(folder / "a.gato", bytes);
  const Output output = run_python_reader(cat("'", (folder / "a.gato").string(), "'"));
  EXPECT_NE(output.status, 0);
  EXPECT_NE(output.text.find("damaged: block at offset 0"), std::string::npos) << output.text;
}

}  // namespace
}  // namespace gato::episode

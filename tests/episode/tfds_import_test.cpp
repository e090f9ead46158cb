#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "episode/import/tf_example.h"
#include "episode/import/tfds_episode.h"
#include "episode/import/tfds_features.h"
#include "episode/import/tfds_folder.h"
#include "episode/import/tfds_mapping.h"
#include "episode/import/tfds_survey.h"
#include "episode/import/tfrecord.h"
#include "episode/tfds_forge.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/random.h"
#include "gato/episode/formats.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using test::TempFolder;

const Path kFixtures = Path(GATO_SOURCE_DIR) / "tests/episode/fixtures/import/tfds";

void write(const Path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The message of the error of type E that `call` throws; "" when it throws none.
template <class E, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

bool has_line(const std::vector<std::string>& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) { return contains(line, part); });
}

/// A data set without dataset_info.json: features.json (the content of steps' dictionary) and one file of records.
class DatasetFolder {
 public:
  explicit DatasetFolder(const std::string& step_features, const std::vector<forge::Features>& records = {}) {
    write(folder_ / "features.json",
          R"({"featuresDict":{"features":{"steps":{"sequence":{"feature":{"featuresDict":{"features":{)" +
              step_features + "}}}}}}}}");
    std::string bytes;
    for (const forge::Features& record : records) bytes += forge::tfrecord(forge::example(record));
    write(folder_ / "made-train.tfrecord-00000-of-00001", bytes);
  }
  operator Path() const { return folder_.path(); }
  Path operator/(const std::string& name) const { return folder_ / name; }

 private:
  TempFolder folder_{"tfds"};
};

const char kFloatAction[] = R"("action":{"tensor":{"shape":{"dimensions":["2"]},"dtype":"float32"}})";
const char kMarks[] = R"(,"is_first":{"tensor":{"dtype":"bool"}},"is_last":{"tensor":{"dtype":"bool"}},)"
                      R"("is_terminal":{"tensor":{"dtype":"bool"}})";

/// Three rows with marks, the last one terminal.
forge::Features marked_record() {
  return {{"steps/action", forge::floats({0, 1, 2, 3, 9, 9})},
          {"steps/is_first", forge::integers({1, 0, 0})},
          {"steps/is_last", forge::integers({0, 0, 1})},
          {"steps/is_terminal", forge::integers({0, 0, 1})}};
}

TfdsImport bounded() {
  TfdsImport options;
  options.action_low = -10;
  options.action_high = 10;
  return options;
}

/// The episodes of a format, parsed in order.
std::vector<ParsedRecord> parse_all(const ForeignFormat& format) {
  std::vector<ParsedRecord> parsed;
  for (size_t unit = 0; unit < format.units().size(); ++unit) {
    const auto stream = format.open(unit);
    RawRecord raw;
    while (stream->next(raw)) parsed.push_back(format.parse(raw));
  }
  for (ParsedRecord& record : parsed) {
    for (ParsedRecord::Part& part : record.episodes) {
      check_episode(format.tasks()[static_cast<size_t>(part.task)], part.episode);
    }
  }
  return parsed;
}

/// The message of the DataError that the only record of a data set with kFloatAction and kMarks ends in.
std::string record_error(const forge::Features& record) {
  const DatasetFolder folder(cat(kFloatAction, kMarks), {record});
  const OpenedTfds opened = tfds_format(folder, bounded());
  return message_of<DataError>([&] { parse_all(*opened.format); });
}

// ---- The files that the package `tfrecord` wrote
// ---------------------------------------------------------------------

void expect_same(const std::string& key, const ExampleFeature& feature, const Json& expected) {
  ASSERT_EQ(feature.count(), expected.at("count").get<uint64_t>()) << key;
  if (feature.count() == 0) return;
  if (feature.kind() == ExampleKind::kBytes) {
    uLong crc = crc32(0, nullptr, 0);
    feature.for_each_string([&](std::string_view text) {
      crc = crc32(crc, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
    });
    EXPECT_EQ(crc, expected.at("crc32").get<uLong>()) << key;
    return;
  }
  std::vector<double> values;
  if (feature.kind() == ExampleKind::kFloats) {
    std::vector<float> floats(feature.count());
    feature.copy_floats(floats);
    values.assign(floats.begin(), floats.end());
  } else if (feature.kind() == ExampleKind::kIntegers) {
    feature.for_each_integer([&](int64_t value) { values.push_back(static_cast<double>(value)); });
  }
  if (const auto given = expected.find("values"); given != expected.end()) {
    EXPECT_EQ(values, given->get<std::vector<double>>()) << key;
  } else {
    double sum = 0;
    for (const double value : values) sum += value;
    EXPECT_EQ(sum, expected.at("sum").get<double>()) << key;
  }
}

TEST(TfdsFixtureTest, RecordsAreWhatThePackageTfrecordReads) {
  const Json expected = parse_json(read_file(kFixtures / "expected.json"), "expected.json");
  size_t files = 0, features = 0;
  for (const auto& [name, records] : expected.items()) {
    TfRecordReader reader = open_tfrecord(kFixtures / name, Compression::kByMagic);
    std::string payload;
    for (const Json& record : records) {
      ASSERT_TRUE(reader.next(payload)) << name;
      const TfExample example = parse_tf_example(payload, name);
      for (const auto& [key, feature] : record.items()) {
        ASSERT_TRUE(example.count(key) == 1) << key;
        expect_same(key, example.at(key), feature);
        ++features;
      }
    }
    EXPECT_FALSE(reader.next(payload)) << name;
    ++files;
  }
  EXPECT_EQ(files, 4u);
  EXPECT_GT(features, 140u);
}

/// The robot arm with everything mapped.
TfdsImport robot_options(const TempFolder& folder) {
  write(folder / "map.yaml",
        "fields:\n  steps/observation/mode: {values: 5}\n  steps/observation/wrist: hand_camera\n"
        "  steps/observation/state: {name: state, unit: rad}\n  episode_metadata/file_path: file\n");
  TfdsImport options = bounded();
  options.maps = {folder / "map.yaml"};
  options.success_from = "episode_metadata/success";
  options.agent = "teleoperator";
  return options;
}

size_t field_of(const std::vector<FieldSpec>& fields, const std::string& name) {
  for (size_t i = 0; i < fields.size(); ++i) {
    if (fields[i].name == name) return i;
  }
  ADD_FAILURE() << "no field " << name;
  return 0;
}

TEST(TfdsFixtureTest, RobotDataBecomesEpisodes) {
  const TempFolder folder("tfds");
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", robot_options(folder));
  EXPECT_EQ(opened.info.name, "robot_arm");
  EXPECT_EQ(opened.info.licence, "CC0-1.0");
  ASSERT_EQ(opened.format->tasks().size(), 1u);
  const TaskSpec& task = opened.format->tasks()[0];
  EXPECT_EQ(task.id, "robot_arm/default");
  EXPECT_EQ(task.description, "An arm of the fixtures moves cups.");
  const std::vector<ParsedRecord> records = parse_all(*opened.format);
  ASSERT_EQ(records.size(), 5u);
  EXPECT_EQ(records[4].dropped, "only a last step, which holds no action");
  const std::vector<int64_t> steps = {3, 4, 2, 3};
  std::set<std::string> ids;
  for (size_t i = 0; i < steps.size(); ++i) {
    ASSERT_EQ(records[i].episodes.size(), 1u);
    const Episode& episode = records[i].episodes[0].episode;
    EXPECT_EQ(episode.num_steps, steps[i]);
    EXPECT_EQ(episode.terminated, i != 3);
    EXPECT_EQ(episode.truncated, i == 3);
    EXPECT_EQ(episode.success, i % 2 == 0);
    EXPECT_EQ(episode.total_return(), 1);
    EXPECT_EQ(episode.source_agent, "teleoperator");
    ids.insert(episode.id);
  }
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_EQ(records[3].episodes[0].episode.id, "robot_arm-train.tfrecord-00001-of-00002:0");
}

TEST(TfdsFixtureTest, ColumnsHoldWhatTheGeneratorWrote) {
  const TempFolder folder("tfds");
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", robot_options(folder));
  const TaskSpec& task = opened.format->tasks()[0];
  const Episode episode = parse_all(*opened.format)[1].episodes[0].episode;
  const auto observed = [&](const std::string& name) -> const Column& {
    return episode.observation[field_of(task.observation, name)];
  };
  const auto arm = field_of(task.action, "arm"), gripper = field_of(task.action, "gripper");
  EXPECT_EQ(episode.action[arm].continuous,
            (std::vector<float>{0, -0.5f, -2, 0.125f, -0.5f, -2, 0.25f, -0.5f, -2, 0.375f, -0.5f, -2}));
  EXPECT_EQ(episode.action[gripper].discrete, (std::vector<int32_t>{0, 1, 2, 0}));
  EXPECT_EQ(task.action[gripper].num_values, 3);
  EXPECT_EQ(observed("state").continuous[4], static_cast<float>(std::sin(2.0)));
  EXPECT_EQ(task.observation[field_of(task.observation, "state")].unit, "rad");
  EXPECT_EQ(observed("touching").discrete, (std::vector<int32_t>{0, 1, 0, 1}));
  EXPECT_EQ(observed("mode").discrete, (std::vector<int32_t>{0, 2, 4, 1}));
  EXPECT_EQ(observed("fingers").continuous, (std::vector<float>{0, 0, 0.25f, -0.25f, 0.5f, -0.5f, 0.75f, -0.75f}));
  EXPECT_EQ(observed("hints").text, (std::vector<std::string>{"", "first", "first\nsecond", ""}));
  EXPECT_EQ(observed("language_instruction").text,
            std::vector<std::string>(4, "put the cup \xe2\x80\x94 number 1 \xe2\x80\x94 down"));
  EXPECT_EQ(observed("file").text, std::vector<std::string>(4, "/data/1.h5"));
  EXPECT_EQ(episode.reward, (std::vector<float>{0, 0, 0, 1}));
}

TEST(TfdsFixtureTest, PicturesAreKeptByteForByte) {
  const TempFolder folder("tfds");
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", robot_options(folder));
  ImportOptions options;
  options.out = folder / "out";
  options.info = opened.info;
  const ImportSummary summary = import_dataset(*opened.format, options);
  EXPECT_EQ(summary.records, 5);
  EXPECT_EQ(summary.episodes, 4);
  EXPECT_EQ(summary.steps, 12);
  const ShardReader shard(list_shards(folder / "out").at(0));
  const TaskSpec& task = shard.tasks()[0];
  TfRecordReader reader =
      open_tfrecord(kFixtures / "robot_arm/1.0.0/robot_arm-train.tfrecord-00000-of-00002", Compression::kNone);
  std::string payload;
  ASSERT_TRUE(reader.next(payload));
  const TfExample example = parse_tf_example(payload, "fixture");
  for (const auto& [key, name] : {std::pair("image", "image"), std::pair("wrist", "hand_camera")}) {
    const auto field = static_cast<int>(field_of(task.observation, name));
    uint64_t step = 0;
    example.find(cat("steps/observation/", key))->second.for_each_string([&](std::string_view bytes) {
      if (step == 3) return;  // The last step is left out.
      const auto stored = shard.encoded_image(0, Group::kObservation, field, step++);
      EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(stored.data()), stored.size()), bytes);
    });
    EXPECT_EQ(step, 3u);
  }
  EXPECT_TRUE(shard.verify().empty());
}

TEST(TfdsFixtureTest, MappingSaysWhatBecomesOfEveryLeaf) {
  const TempFolder folder("tfds");
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", robot_options(folder));
  const std::vector<std::string> mapping = opened.format->mapping();
  EXPECT_TRUE(has_line(mapping, "steps/observation/image: jpeg image 24x24x3 -> image observation `image`"));
  EXPECT_TRUE(has_line(mapping,
                       "steps/action/gripper: label of 3 classes -> discrete action `gripper` of 3 values "
                       "(stay, open, close)"));
  EXPECT_TRUE(has_line(mapping, "`arm` in [-10, 10] from --action-low and --action-high"));
  EXPECT_TRUE(has_line(mapping, "steps/observation/depth: uint16 [8, 8, 1], not used"));
  EXPECT_TRUE(has_line(mapping, "steps/observation/contacts: sequence of float32 [2], not used: its size varies"));
  EXPECT_TRUE(has_line(mapping, "steps/discount: float32, not used"));
  EXPECT_TRUE(has_line(mapping, "steps/language_embedding: float32 [8], not used"));
  EXPECT_TRUE(has_line(mapping, "episode_metadata/scene: text, not used"));
  EXPECT_TRUE(has_line(mapping, "the step marked is_last is left out"));
  // Nothing is silent: every leaf is named.
  for (const TfdsLeaf& leaf : load_tfds_features(kFixtures / "robot_arm/1.0.0")) {
    EXPECT_TRUE(has_line(mapping, leaf.path)) << leaf.path;
  }
}

TEST(TfdsFixtureTest, TheLastStepCanBeKept) {
  const TempFolder folder("tfds");
  TfdsImport options = robot_options(folder);
  options.keep_last_step = true;
  options.action_high = 1000;
  const std::vector<ParsedRecord> records = parse_all(*tfds_format(kFixtures / "robot_arm", options).format);
  const Episode& episode = records[0].episodes.at(0).episode;
  EXPECT_EQ(episode.num_steps, 4);
  EXPECT_EQ(episode.action[0].continuous.back(), 999);
  EXPECT_TRUE(episode.terminated);
  EXPECT_EQ(records[4].episodes.at(0).episode.num_steps, 1);
}

TEST(TfdsFixtureTest, MetadataMakesTasks) {
  const TempFolder folder("tfds");
  TfdsImport options = robot_options(folder);
  options.task_from = "episode_metadata/scene";
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", options);
  ASSERT_EQ(opened.format->tasks().size(), 2u);
  EXPECT_EQ(opened.format->tasks()[0].id, "robot_arm/kitchen");
  EXPECT_EQ(opened.format->tasks()[1].id, "robot_arm/table_top");
  const std::vector<ParsedRecord> records = parse_all(*opened.format);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(records[i].episodes.at(0).task, static_cast<int>(i % 2));
}

TEST(TfdsFixtureTest, BoundsFromDataLeaveTheLastStepOut) {
  const TempFolder folder("tfds");
  TfdsImport options = robot_options(folder);
  options.action_low = options.action_high = std::nullopt;
  options.bounds_from_data = "minmax";
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", options);
  const FieldSpec& arm = opened.format->tasks()[0].action[0];
  EXPECT_EQ(arm.low, (std::vector<float>{0, -1.5f, -4}));
  EXPECT_EQ(arm.high, (std::vector<float>{0.375f, 0.5f, 2}));
  EXPECT_TRUE(has_line(opened.format->mapping(), "from the lowest and highest values of 12 steps"));
  EXPECT_TRUE(has_line(opened.format->mapping(), "1 of 3 elements are constant"));
  for (const char* wrong : {"0.7", "max", "0", "0.1x", "-1", "nan"}) {
    options.bounds_from_data = wrong;
    EXPECT_THROW(static_cast<void>(tfds_format(kFixtures / "robot_arm", options)), ConfigError) << wrong;
  }
}

TEST(TfdsFixtureTest, PicturesAreResizedOnRequest) {
  const TempFolder folder("tfds");
  TfdsImport options = robot_options(folder);
  options.height = 16;
  options.width = 12;
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", options);
  const TaskSpec& task = opened.format->tasks()[0];
  const size_t field = field_of(task.observation, "image");
  EXPECT_EQ(task.observation[field].shape, (std::vector<int64_t>{16, 12, 3}));
  const Episode episode = parse_all(*opened.format)[0].episodes[0].episode;
  ASSERT_EQ(episode.observation[field].images.size(), 3u);
  EXPECT_EQ(episode.observation[field].images[0].height, 16);
  EXPECT_EQ(episode.observation[field].images[0].width, 12);
}

TEST(TfdsFixtureTest, TensorsInEveryEncodingAreRead) {
  const TempFolder folder("tfds");
  write(folder / "map.yaml",
        "fields:\n  steps/observation/keys: ignore\n  steps/observation/goal: {as: text}\n"
        "  steps/observation/counts: {as: continuous}\n");
  TfdsImport options = bounded();
  options.maps = {folder / "map.yaml"};
  const OpenedTfds opened = tfds_format(kFixtures / "odd_tensors", options);
  const TaskSpec& task = opened.format->tasks()[0];
  EXPECT_EQ(task.id, "odd_tensors/default");
  const std::vector<ParsedRecord> records = parse_all(*opened.format);
  ASSERT_EQ(records.size(), 2u);
  const Episode& episode = records[0].episodes[0].episode;
  ASSERT_EQ(episode.num_steps, 2);
  EXPECT_TRUE(episode.truncated);
  const auto observed = [&](const std::string& name) -> const Column& {
    return episode.observation[field_of(task.observation, name)];
  };
  EXPECT_EQ(observed("matrix").continuous, (std::vector<float>{0.5f, 0.5f, 0.5f, 0.5f, 1.5f, 1.5f, 1.5f, 1.5f}));
  EXPECT_EQ(observed("counts").continuous, (std::vector<float>{0, 300, 65535, 1, 300, 65534}));
  EXPECT_EQ(observed("goal").text, std::vector<std::string>(2, "go to 0\xc3\xa9"));
  EXPECT_EQ(observed("frame").images.at(1).pixels.at(64), 0);
  EXPECT_EQ(observed("frame").images.at(1).pixels.at(63), 255);
  // features.json does not say how the camera is stored: as its first picture is. Sizes differ between episodes.
  const FieldSpec& camera = task.observation[field_of(task.observation, "camera")];
  EXPECT_EQ(camera.codec, ImageCodec::kJpeg);
  EXPECT_EQ(camera.shape, (std::vector<int64_t>{0, 0, 3}));
  EXPECT_TRUE(has_line(opened.format->mapping(), "of sizes that vary"));
}

// ---- What must be asked for
// ------------------------------------------------------------------------------------------

TEST(TfdsMappingTest, BoundsOfActionsAreAskedForWithAnExample) {
  const DatasetFolder folder(kFloatAction);
  const std::string message = message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder, {})); });
  EXPECT_TRUE(contains(message, "action (steps/action, float32 [2])")) << message;
  EXPECT_TRUE(contains(message, "action: {low: -1, high: 1}")) << message;
  EXPECT_TRUE(contains(message, "--bounds-from-data minmax")) << message;
}

TEST(TfdsMappingTest, IntegersWithoutRangeAreAskedFor) {
  const DatasetFolder folder(cat(kFloatAction, R"(,"observation":{"tensor":{"dtype":"int32"}})"));
  const std::string message = message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder, bounded())); });
  EXPECT_TRUE(contains(message, "steps/observation (int32)")) << message;
  EXPECT_TRUE(contains(message, "--values observation=N")) << message;
  TfdsImport options = bounded();
  options.values = {{"observation", 7}};
  EXPECT_EQ(tfds_format(folder, options).format->tasks()[0].observation[0].num_values, 7);
  options.values = {{"steps/observation", 2000}};
  EXPECT_TRUE(contains(message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder, options)); }), "2000"));
  options.values = {{"observation", 7}, {"action", 3}};
  EXPECT_TRUE(
      contains(message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder, options)); }), "--values action=3"));
}

TEST(TfdsMappingTest, BoundsComeFromTheMostSpecificPlace) {
  const DatasetFolder folder(
      R"("action":{"featuresDict":{"features":{"a":{"tensor":{"dtype":"float32"}},"b":{"tensor":{"dtype":"float32"}},)"
      R"("c":{"tensor":{"dtype":"float32","minimum":-3,"maximum":3}},"d":{"tensor":{"dtype":"float32"}}}}},)"
      R"("observation":{"featuresDict":{"features":{"e":{"tensor":{"dtype":"float32","minimum":0,"maximum":5}},)"
      R"("f":{"tensor":{"dtype":"int32","minimum":0,"maximum":5}}}}})");
  write(folder / "bounds.yaml", "a: {low: -7, high: [7]}\n");
  write(folder / "map.yaml", "fields:\n  steps/action/b: {low: -8, high: 8}\n  steps/action/a: {low: -9, high: 9}\n");
  TfdsImport options;
  options.bounds = folder / "bounds.yaml";
  options.maps = {folder / "map.yaml"};
  const std::string message = message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder, options)); });
  EXPECT_TRUE(contains(message, "  d (steps/action/d")) << message;
  EXPECT_FALSE(contains(message, "  c (steps/action/c")) << message;
  options.action_low = -1;
  EXPECT_THROW(static_cast<void>(tfds_format(folder, options)), ConfigError);
  options.action_high = 1;
  const OpenedTfds opened = tfds_format(folder, options);
  const TaskSpec& task = opened.format->tasks()[0];
  EXPECT_EQ(task.action[0].high, std::vector<float>{7});
  EXPECT_EQ(task.action[1].high, std::vector<float>{8});
  EXPECT_EQ(task.action[2].high, std::vector<float>{1});  // What the user says goes before what the file says.
  EXPECT_EQ(task.action[3].high, std::vector<float>{1});
  EXPECT_EQ(task.observation[0].high, std::vector<float>{5});
  EXPECT_EQ(task.observation[1].num_values, 6);
  write(folder / "bounds.yaml", "z: {low: 0, high: 1}\n");
  EXPECT_TRUE(contains(message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder, options)); }), "'z'"));
  write(folder / "bounds.yaml", "a: {low: [0, 1], high: 1}\n");
  EXPECT_THROW(static_cast<void>(tfds_format(folder, options)), ConfigError);
}

TEST(TfdsMappingTest, MapsAreCheckedAgainstTheTree) {
  const DatasetFolder folder(
      cat(kFloatAction, R"(,"observation":{"featuresDict":{"features":{)",
          R"("state":{"tensor":{"dtype":"float32"}},"other":{"tensor":{"dtype":"float32"}}}}})"));
  const auto error_with = [&](const std::string& map) {
    write(folder / "map.yaml", map);
    TfdsImport options = bounded();
    options.maps = {folder / "map.yaml"};
    return message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder, options)); });
  };
  EXPECT_EQ(error_with("fields:\n  steps/observation/state: position\n"), "");
  EXPECT_TRUE(contains(error_with("fields:\n  steps/observation/stat: a\n"), "did you mean steps/observation/state"));
  EXPECT_TRUE(contains(error_with("fields:\n  steps/observation/state: other\n"), "both become 'other'"));
  EXPECT_TRUE(contains(error_with("fields:\n  steps/observation/state: {nme: x}\n"), "nme"));
  EXPECT_TRUE(contains(error_with("fields:\n  steps/observation/state: {as: sound}\n"), "as"));
  EXPECT_TRUE(contains(error_with("fields:\n  steps/observation/state: {as: discrete}\n"), "only be taken as contin"));
  EXPECT_TRUE(contains(error_with("fields:\n  steps/observation/state: {shape: [2]}\n"), "does not fit"));
  EXPECT_TRUE(contains(error_with("fields:\n  steps/action: ignore\n"), "no leaf is mapped to an action"));
  EXPECT_EQ(error_with("others: false\nfields:\n  steps/action: act\n"), "");
}

TEST(TfdsMappingTest, RaggedValuesOfOneSizeAreTakenWhenTheMapGivesIt) {
  const DatasetFolder folder(
      cat(kFloatAction, R"(,"observation":{"sequence":{"feature":{"tensor":{"dtype":"float32"}}}})"),
      {{{"steps/action", forge::floats({0, 1, 2, 3})},
        {"steps/observation/ragged_flat_values", forge::floats({1, 2, 3, 4, 5, 6})},
        {"steps/observation/ragged_row_lengths_0", forge::integers({3, 3})}},
       {{"steps/action", forge::floats({0, 1, 2, 3})},
        {"steps/observation/ragged_flat_values", forge::floats({1, 2, 3, 4, 5, 6})},
        {"steps/observation/ragged_row_lengths_0", forge::integers({2, 4})}}});
  write(folder / "map.yaml", "fields:\n  steps/observation: {shape: [3]}\n");
  TfdsImport options = bounded();
  options.maps = {folder / "map.yaml"};
  const OpenedTfds opened = tfds_format(folder, options);
  const auto stream = opened.format->open(0);
  RawRecord raw;
  ASSERT_TRUE(stream->next(raw));
  EXPECT_EQ(opened.format->parse(raw).episodes.at(0).episode.observation[0].continuous,
            (std::vector<float>{1, 2, 3, 4, 5, 6}));
  ASSERT_TRUE(stream->next(raw));
  EXPECT_TRUE(contains(message_of<DataError>([&] { static_cast<void>(opened.format->parse(raw)); }),
                       "row 0 has 2 values at level 0"));
}

TEST(TfdsMappingTest, OtherDataSetsAreRefused) {
  const TempFolder folder("tfds");
  write(folder / "features.json", R"({"featuresDict":{"features":{"image":{"image":{}},"label":{"classLabel":{}}}}})");
  write(folder / "made-train.tfrecord", "");
  EXPECT_TRUE(contains(message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder.path(), {})); }), "no RLDS"));
}

// ---- RLDS's marks and records that do not fit
// ------------------------------------------------------------------------

TEST(TfdsRecordTest, WithoutMarksAllStepsAreKeptAndTheEndIsUnknown) {
  const DatasetFolder folder(kFloatAction, {{{"steps/action", forge::floats({0, 1, 2, 3})}}});
  const OpenedTfds opened = tfds_format(folder, bounded());
  const Episode episode = parse_all(*opened.format).at(0).episodes.at(0).episode;
  EXPECT_EQ(episode.num_steps, 2);
  EXPECT_FALSE(episode.terminated || episode.truncated);
  EXPECT_TRUE(has_line(opened.format->mapping(), "does not mark last steps"));
}

TEST(TfdsRecordTest, AnEpisodeThatWasCutOffKeepsAllItsSteps) {
  forge::Features record = marked_record();
  record["steps/is_last"] = record["steps/is_terminal"] = forge::integers({0, 0, 0});
  const DatasetFolder folder(cat(kFloatAction, kMarks), {record});
  const Episode episode = parse_all(*tfds_format(folder, bounded()).format).at(0).episodes.at(0).episode;
  EXPECT_EQ(episode.num_steps, 3);
  EXPECT_FALSE(episode.terminated || episode.truncated);
}

TEST(TfdsRecordTest, EmptyEpisodesAreDropped) {
  const forge::Features record = {{"steps/action", ""},
                                  {"steps/is_first", ""},
                                  {"steps/is_last", forge::integers({})},
                                  {"steps/is_terminal", forge::floats({})}};
  const DatasetFolder folder(cat(kFloatAction, kMarks), {record});
  EXPECT_EQ(parse_all(*tfds_format(folder, bounded()).format).at(0).dropped, "no steps");
}

TEST(TfdsRecordTest, RecordsThatDoNotFitAreRefusedWithTheLeaf) {
  EXPECT_EQ(record_error(marked_record()), "");
  const std::vector<std::tuple<std::string, std::string, std::string>> wrong = {
      {"steps/is_last", forge::integers({0, 1, 1}), "step 1 of 3 is marked as the last one"},
      {"steps/is_first", forge::integers({1, 0, 1}), "step 2 of 3 is marked as a first step"},
      {"steps/is_terminal", forge::integers({0, 0}), "2 values for 3 rows"},
      {"steps/is_first", forge::strings({"a", "b", "c"}), "byte strings"},
      {"steps/action", forge::floats({0, 1, 2, 3, 4}), "5 values for 3 rows, expected 2"},
      {"steps/action", forge::floats({0, 1, 2}), "3 values for 3 rows, expected 2"},
      {"steps/action", forge::integers({0, 1, 2, 3, 4, 5}), "the record holds integers"},
      {"steps/action", "", "0 values for 3 rows"}};
  for (const auto& [key, feature, message] : wrong) {
    forge::Features record = marked_record();
    record[key] = feature;
    const std::string error = record_error(record);
    EXPECT_TRUE(contains(error, message)) << error;
    EXPECT_TRUE(contains(error, cat("record 0 at byte 0: '", key, "'"))) << error;
  }
  forge::Features record = marked_record();
  record.erase("steps/action");
  EXPECT_TRUE(contains(record_error(record), "has no feature 'steps/action'"));
}

TEST(TfdsRecordTest, ValuesOutsideTheirRangeAreRefused) {
  const DatasetFolder folder(R"("action":{"classLabel":{"numClasses":"3"}})",
                             {{{"steps/action", forge::integers({0, 1, -1})}}});
  const OpenedTfds opened = tfds_format(folder, {});
  EXPECT_TRUE(contains(message_of<DataError>([&] { parse_all(*opened.format); }), "value -1 at step 2 is outside"));
}

TEST(TfdsRecordTest, SuccessMustBeTrueOrFalse) {
  TfdsImport options = bounded();
  options.success_from = "steps/is_first";
  forge::Features record = marked_record();
  const DatasetFolder folder(cat(kFloatAction, kMarks), {record});
  EXPECT_EQ(parse_all(*tfds_format(folder, options).format).at(0).episodes.at(0).episode.success, false);
  options.success_from = "steps/is_last";  // Of a leaf with a value per step, the last one counts.
  EXPECT_EQ(parse_all(*tfds_format(folder, options).format).at(0).episodes.at(0).episode.success, true);
  record["steps/is_last"] = forge::integers({0, 0, 5});
  const DatasetFolder other(cat(kFloatAction, kMarks), {record});
  EXPECT_THROW(parse_all(*tfds_format(other, options).format), DataError);
  options.success_from = "steps/action";
  EXPECT_THROW(static_cast<void>(tfds_format(folder, options)), ConfigError);
}

TEST(TfdsRecordTest, EveryFlippedBitOfAnExampleIsReadOrRefused) {
  const TempFolder folder("tfds");
  const OpenedTfds opened = tfds_format(kFixtures / "robot_arm", robot_options(folder));
  const auto stream = opened.format->open(1);
  RawRecord raw;
  ASSERT_TRUE(stream->next(raw));
  const std::string good = raw.parts.at(0).second;
  int refused = 0;
  for (size_t i = 0; i < good.size(); i += 3) {
    raw.parts[0].second = good;
    raw.parts[0].second[i] = static_cast<char>(good[i] ^ 1 << i % 8);
    try {
      static_cast<void>(opened.format->parse(raw));
    } catch (const DataError& error) {
      EXPECT_TRUE(contains(error.what(), raw.origin)) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

// ---- Folders and descriptions
// ----------------------------------------------------------------------------------------

TEST(TfdsFolderTest, NumbersAreStringsOrNumbers) {
  const TfdsInfo info = parse_tfds_info(
      R"({"name":"a","version":"1.0.0","fileFormat":"tfrecord","splits":[{"name":"train","numBytes":"12345678901",)"
      R"("shardLengths":["3",2],"filepathTemplate":"{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}]})",
      "test");
  ASSERT_EQ(info.splits.size(), 1u);
  EXPECT_EQ(info.splits[0].shard_lengths, (std::vector<int64_t>{3, 2}));
  for (const char* wrong : {"[]", "{", R"({"splits":{}})", R"({"splits":[3]})", R"({"name":3})",
                            R"({"splits":[{"shardLengths":["x"]}]})", R"({"splits":[{"shardLengths":["-1"]}]})",
                            R"({"splits":[{"shardLengths":[1.5]}]})", R"({"splits":[{"shardLengths":"3"}]})"}) {
    EXPECT_THROW(static_cast<void>(parse_tfds_info(wrong, "test")), DataError) << wrong;
  }
}

TEST(TfdsFolderTest, OtherFileFormatsAreRefusedWithARemedy) {
  const auto read = [] { static_cast<void>(parse_tfds_info(R"({"name":"a","fileFormat":"array_record"})", "test")); };
  EXPECT_TRUE(contains(message_of<ConfigError>(read), "file_format='tfrecord'"));
}

/// A copy of the robot's folder that may be changed.
void copy_robot(const TempFolder& folder) {
  std::filesystem::copy(kFixtures / "robot_arm/1.0.0", folder / "data", std::filesystem::copy_options::recursive);
}

void replace_in(const Path& path, const std::string& from, const std::string& to) {
  std::string content = read_file(path);
  ASSERT_NE(content.find(from), std::string::npos);
  content.replace(content.find(from), from.size(), to);
  write(path, content);
}

TEST(TfdsFolderTest, CountsOfRecordsAreChecked) {
  const TempFolder folder("tfds");
  copy_robot(folder);
  replace_in(folder / "data/dataset_info.json", "\"3\"", "\"4\"");
  const OpenedTfds opened = tfds_format(folder / "data", robot_options(folder));
  EXPECT_TRUE(
      contains(message_of<DataError>([&] { parse_all(*opened.format); }), "3 records, dataset_info.json says 4"));
}

/// A record with a wrong checksum is one record's damage: those after it are read, and bounds are without it.
TEST(TfdsFolderTest, RecordsAfterADamagedOneAreRead) {
  const DatasetFolder folder(cat(kFloatAction, kMarks), {marked_record(), marked_record(), marked_record()});
  const Path file = folder / "made-train.tfrecord-00000-of-00001";
  std::string bytes = read_file(file);
  const float nine = 9;
  const size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(&nine), 4), bytes.size() / 3);
  ASSERT_LT(at, 2 * bytes.size() / 3);
  bytes[at] = 1;  // A number a little larger: only the checksum tells.
  write(file, bytes);
  TfdsImport options;
  options.bounds_from_data = "minmax";
  const OpenedTfds opened = tfds_format(folder, options);
  EXPECT_TRUE(has_line(opened.format->mapping(), "1 of 3 records could not be read and are not in the bounds"));
  const auto stream = opened.format->open(0);
  std::vector<bool> read;
  for (RawRecord raw; stream->next(raw);) {
    const std::string error = message_of<DataError>([&] { static_cast<void>(opened.format->parse(raw)); });
    read.push_back(error.empty());
    if (!error.empty()) {
      EXPECT_TRUE(contains(error, "record 1 at byte")) << error;
      EXPECT_TRUE(contains(error, "its checksum is wrong")) << error;
    }
  }
  EXPECT_EQ(read, (std::vector<bool>{true, false, true}));
}

TEST(TfdsFolderTest, MissingFilesAndSplitsAreNamed) {
  const TempFolder folder("tfds");
  copy_robot(folder);
  TfdsImport options = robot_options(folder);
  options.split = "validation";
  EXPECT_TRUE(contains(message_of<ConfigError>([&] { static_cast<void>(tfds_format(folder / "data", options)); }),
                       "--split can be train, test"));
  options.split = "train+test";
  EXPECT_EQ(tfds_format(folder / "data", options).format->units().size(), 3u);
  options.split = "train+train";
  EXPECT_THROW(static_cast<void>(tfds_format(folder / "data", options)), ConfigError);
  options.split = "train";
  std::filesystem::remove(folder / "data/robot_arm-train.tfrecord-00001-of-00002");
  EXPECT_TRUE(contains(message_of<DataError>([&] { static_cast<void>(tfds_format(folder / "data", options)); }),
                       "00001-of-00002"));
  std::filesystem::remove(folder / "data/dataset_info.json");
  EXPECT_TRUE(contains(message_of<DataError>([&] { static_cast<void>(tfds_format(folder / "data", options)); }),
                       "1 of 2 files"));
}

TEST(TfdsFolderTest, TemplatesCannotLeaveTheFolder) {
  const TempFolder folder("tfds");
  copy_robot(folder);
  replace_in(folder / "data/dataset_info.json", "{DATASET}-{SPLIT}", "../{DATASET}-{SPLIT}");
  EXPECT_TRUE(
      contains(message_of<DataError>([&] { static_cast<void>(tfds_format(folder / "data", robot_options(folder))); }),
               "no file name"));
}

TEST(TfdsFolderTest, TheOneDataSetBelowIsFound) {
  EXPECT_EQ(find_tfds_folder(kFixtures / "robot_arm"), kFixtures / "robot_arm/1.0.0");
  EXPECT_TRUE(contains(message_of<ConfigError>([] { static_cast<void>(find_tfds_folder(kFixtures)); }), "several"));
  const TempFolder folder("tfds");
  EXPECT_THROW(static_cast<void>(find_tfds_folder(folder.path())), ConfigError);
  EXPECT_THROW(static_cast<void>(find_tfds_folder(folder / "missing")), ConfigError);
}

TEST(TfdsFeaturesTest, KindsAreToldApart) {
  const std::vector<TfdsLeaf> leaves = load_tfds_features(kFixtures / "robot_arm/1.0.0");
  const auto leaf = [&](const std::string& path) {
    const auto place = std::find_if(leaves.begin(), leaves.end(), [&](const TfdsLeaf& l) { return l.path == path; });
    EXPECT_NE(place, leaves.end()) << path;
    return place == leaves.end() ? TfdsLeaf{} : *place;
  };
  EXPECT_EQ(leaf("steps/observation/image").kind, TfdsKind::kImage);
  EXPECT_EQ(leaf("steps/observation/image").image_format, "jpeg");
  EXPECT_EQ(leaf("steps/observation/depth").kind, TfdsKind::kUnsupported);
  EXPECT_EQ(leaf("steps/observation/state").shape, std::vector<int64_t>{4});
  EXPECT_EQ(leaf("steps/observation/contacts").sequences, std::vector<int64_t>{kUnknownSize});
  EXPECT_EQ(leaf("steps/observation/fingers").sequences, std::vector<int64_t>{2});
  EXPECT_EQ(leaf("steps/action/gripper").classes, (std::vector<std::string>{"stay", "open", "close"}));
  EXPECT_TRUE(leaf("steps/reward").per_step);
  EXPECT_FALSE(leaf("episode_metadata/scene").per_step);
  EXPECT_EQ(leaf("episode_metadata/scene").kind, TfdsKind::kText);
}

TEST(TfdsFeaturesTest, NamesOfClassesMustFitTheirNumber) {
  const DatasetFolder folder(R"("action":{"classLabel":{"numClasses":"3"}})");
  write(folder / "steps-action.labels.txt", "a\nb\n");
  EXPECT_TRUE(contains(message_of<DataError>([&] { static_cast<void>(load_tfds_features(folder)); }), "2 names"));
}

TEST(TfdsFeaturesTest, MalformedTreesAreRefusedWithThePlace) {
  const auto error_of = [](const std::string& json) {
    return message_of<DataError>([&] { static_cast<void>(parse_tfds_features(json, "test")); });
  };
  EXPECT_TRUE(contains(error_of(R"({"type":"x","content":"{}"})"), "before 2021"));
  EXPECT_TRUE(contains(error_of(R"({"featuresDict":{"features":{"a":3}}})"), "'a'"));
  EXPECT_TRUE(contains(error_of(R"({"tensor":{"shape":{"dimensions":["x"]},"dtype":"float32"}})"), "whole number"));
  EXPECT_TRUE(contains(error_of(R"({"tensor":{"shape":{"dimensions":["-2"]},"dtype":"float32"}})"), "-2"));
  EXPECT_TRUE(contains(error_of(R"({"tensor":{"shape":[3],"dtype":"float32"}})"), "not an object"));
  EXPECT_TRUE(contains(error_of(R"({"tensor":{"dtype":3}})"), "'dtype' is not a string"));
  EXPECT_TRUE(contains(error_of(R"({"image":{"shape":{"dimensions":["3"]}}})"), "height, width, channels"));
  std::string deep = R"({"text":{}})";
  for (int i = 0; i < 20; ++i) deep = R"({"sequence":{"feature":)" + deep + "}}";
  EXPECT_TRUE(contains(error_of(deep), "deeper than"));
  const std::string good = read_file(kFixtures / "odd_tensors/features.json");
  for (size_t length = 0; length + 2 < good.size(); length += 7) EXPECT_NE(error_of(good.substr(0, length)), "");
}

// ---- Bounds
// ----------------------------------------------------------------------------------------------------------

TEST(BoundsSamplerTest, DoesNotDependOnOrderOrParts) {
  Rng random(5);
  std::vector<float> values(300000);
  for (float& value : values) value = static_cast<float>(random.normal());
  BoundsSampler whole(1), even(1), odd(1);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t key = mix_seed(1, {i});
    whole.add(key, std::span(&values[i], 1));
    const size_t j = values.size() - 1 - i;
    (j % 2 == 0 ? even : odd).add(mix_seed(1, {j}), std::span(&values[j], 1));
  }
  odd.merge(even);
  for (const double tail : {0.0, 0.01, 0.25}) {
    EXPECT_EQ(whole.bounds(tail).low, odd.bounds(tail).low);
    EXPECT_EQ(whole.bounds(tail).high, odd.bounds(tail).high);
  }
  // Quantiles of the normal distribution: -2.326 and -0.674. The sample's error is below 0.02.
  EXPECT_NEAR(whole.bounds(0.01).low[0], -2.326, 0.06);
  EXPECT_NEAR(whole.bounds(0.25).high[0], 0.674, 0.02);
  EXPECT_EQ(whole.rows(), 300000);
}

TEST(BoundsSamplerTest, PassesOverWhatIsNotFiniteAndWidensConstants) {
  BoundsSampler sampler(3);
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  sampler.add(1, std::vector<float>{1, nan, 3e38f});
  sampler.add(2, std::vector<float>{-infinity, nan, 3e38f});
  const BoundsSampler::Bounds bounds = sampler.bounds(0);
  EXPECT_EQ(bounds.low[0], 0);
  EXPECT_EQ(bounds.high[0], 2);
  EXPECT_EQ(bounds.low[1], -1);
  EXPECT_EQ(bounds.high[1], 1);
  EXPECT_LT(bounds.low[2], bounds.high[2]);
  EXPECT_EQ(bounds.widened, 2);
}

}  // namespace
}  // namespace gato::episode

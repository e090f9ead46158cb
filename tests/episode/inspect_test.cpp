#include "gato/episode/inspect.h"

#include <gtest/gtest.h>

#include "episode/sample_data.h"
#include "gato/core/error.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using sample::dataset_info;
using sample::mixed_task;
using sample::random_episode;

void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "missing '" << part << "' in\n" << text;
}

/// Two episodes with known returns and outcomes, and a document.
Path known_shard(const Path& path) {
  ShardWriter writer(path, dataset_info(), {mixed_task(), sample::document_task(), sample::document_task("text/none")});
  Episode good = random_episode(mixed_task(), 1, 2, {.reward = true, .label = true});
  good.reward = {1.0f, 2.5f};
  good.success = true;
  good.observation[1].text[0] = "go\x1b[31m to\nthe ball";
  good.observation[0].continuous[0] = 0.125f;
  Episode bad = random_episode(mixed_task(), 2, 4);
  bad.reward = {0, 0, -0.5f, 0};
  bad.success = false;
  writer.add(0, good);
  writer.add(0, bad);
  writer.add(1, sample::document("doc/1", std::string(5000, 'x')));
  writer.finish();
  return path;
}

TEST(InspectTest, DescribesDataSetTasksAndReturns) {
  const test::TempFolder folder("inspect");
  const ShardReader shard(known_shard(folder / "a.gato"));
  const std::string text = describe_shard(shard);
  expect_contains(
      text,
      {"a.gato", "sample/data: For tests.", "CC0-1.0", "made by      a test", shard.fingerprint(),
       "3 episodes, 7 steps, 3 tasks", "expert 2",
       // The task.
       "task sample/mixed: Every modality at once, \xc3\xa9t\xc3\xa9.", "at most 500 steps, partial view",
       "12.5 +- 0.25 (50 episodes)", "-1 +- 0.125 (40 episodes)", "beside the executed actions",
       // Its fields.
       "velocity             continuous, [2, 3], in [-2, 2] m/s", "mission              text",
       "camera               image, 6 x 5, PNG", "view                 image, any x any, PNG",
       "inventory            discrete, [4], values 0 to 1023", "button               discrete, scalar, values 0 to 6",
       "torque               continuous, [2], -3 to 1, each its own",
       // Its episodes: returns 3.5 and -0.5.
       "episodes     2 (1 ended by the task, 1 by a limit)", "6 (2 to 4 per episode, mean 3)",
       "mean 1.5, from -0.5 to 3.5", "50.0 % of 2 judged episodes",
       // The others.
       "loss only", "episodes     none"});
}

TEST(InspectTest, ShowsSizesOfColumns) {
  const test::TempFolder folder("inspect");
  const ShardReader shard(known_shard(folder / "a.gato"));
  expect_contains(describe_shard(shard),
                  {"episode index", "sample/mixed observation/velocity", "sample/mixed label/torque", " %"});
}

TEST(InspectTest, ShowsTheFirstStepsOfAnEpisode) {
  const test::TempFolder folder("inspect");
  const ShardReader shard(known_shard(folder / "a.gato"));
  const std::string text = describe_shard(shard);
  expect_contains(text, {"episode 0 of task sample/mixed", "sample/mixed/1", "return 3.5, success", "step 0", "step 1",
                         "observation velocity", "[0.125, ", "\"go\\x1b[31m to\\nthe ball\"", "image 6 x 5",
                         "label torque", "reward                       2.5"});
  EXPECT_EQ(text.find("step 2"), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << "stored texts must not steer the terminal";
}

TEST(InspectTest, OptionsChooseWhatIsShown) {
  const test::TempFolder folder("inspect");
  const ShardReader shard(known_shard(folder / "a.gato"));
  EXPECT_EQ(describe_shard(shard, {.episode = -1}).find("step 0"), std::string::npos);
  expect_contains(describe_shard(shard, {.episode = 2, .max_text_bytes = 10}), {"\"xxxxxxxxxx... (5000 bytes)\""});
  const std::string one = describe_shard(shard, {.episode = 1, .steps = 1, .max_values = 2, .thumbnail_columns = 0});
  expect_contains(one, {"episode 1 of task", "no success", "... 6 values]"});
  EXPECT_EQ(one.find("step 1"), std::string::npos);
  EXPECT_THROW((void)describe_shard(shard, {.episode = 3}), ConfigError);
  expect_contains(describe_shard(shard, {.color = true}), {"\x1b[38;2;", "\xe2\x96\x80", "\x1b[0m"});
}

TEST(InspectTest, DescribesEmptyShards) {
  const test::TempFolder folder("inspect");
  ShardWriter writer(folder / "a.gato", dataset_info(), {mixed_task()});
  writer.finish();
  expect_contains(describe_shard(ShardReader(folder / "a.gato")), {"0 episodes, 0 steps, 1 tasks"});
}

TEST(InspectTest, CutsTextsBetweenCharacters) {
  const test::TempFolder folder("inspect");
  ShardWriter writer(folder / "a.gato", dataset_info(), {sample::document_task()});
  writer.add(0, sample::document("a", "\xc3\xa9\xc3\xa9\xc3\xa9"));
  writer.finish();
  expect_contains(describe_shard(ShardReader(folder / "a.gato"), {.max_text_bytes = 3}), {"\"\xc3\xa9... (6 bytes)\""});
}

TEST(InspectTest, DrawsShades) {
  Image image{2, 4, {}};
  for (int y = 0; y < 2; ++y) {
    for (const uint8_t grey : std::vector<uint8_t>{0, 90, 170, 255}) image.pixels.insert(image.pixels.end(), 3, grey);
  }
  EXPECT_EQ(draw_image(image, 4, false), " -*@\n");
  EXPECT_EQ(draw_image(image, 2, false), ".%\n");
  EXPECT_EQ(draw_image(image, 100, false), " -*@\n");  // Never wider than the picture.
}

TEST(InspectTest, DrawsColours) {
  const Image image{2, 1, {255, 0, 0, 0, 0, 255}};
  EXPECT_EQ(draw_image(image, 1, true), "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m\xe2\x96\x80\x1b[0m\n");
}

TEST(InspectTest, DrawsPicturesOfAnyShape) {
  Rng rng(1);
  for (const auto& [height, width] :
       std::vector<std::pair<int32_t, int32_t>>{{1, 1}, {1, 300}, {300, 1}, {31, 17}, {4000, 2}}) {
    const Image image = sample::random_image(rng, height, width);
    for (const bool color : {false, true}) {
      const std::string text = draw_image(image, 32, color);
      EXPECT_FALSE(text.empty());
      EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 64);
    }
  }
  EXPECT_THROW((void)draw_image(Image{}, 10, false), ContractError);
  EXPECT_THROW((void)draw_image(sample::random_image(rng, 2, 2), 0, false), ContractError);
}

TokenColumns tokens_for(const ShardReader& shard) {
  TokenColumns columns{"the digest", shard.fingerprint(), {}};
  columns.tasks.resize(3);
  columns.tasks[1] = {{Group::kAction, 0, {0, 7}, {1, 2, 3, 4, 5, 6, 7}}};
  return columns;
}

TEST(InspectTest, DescribesTokenColumns) {
  const test::TempFolder folder("inspect");
  const ShardReader shard(known_shard(folder / "a.gato"));
  write_token_columns(folder / "t", tokens_for(shard));
  expect_contains(describe_token_columns(TokenColumnsReader(folder / "t"), shard),
                  {"the digest", "text/documents action/text", "7 tokens in 1 steps, mean 7"});
  TokenColumns stale = tokens_for(shard);
  stale.shard_fingerprint = "another";
  write_token_columns(folder / "t", stale);
  expect_contains(describe_token_columns(TokenColumnsReader(folder / "t"), shard), {"another version of the shard"});
}

TEST(InspectTest, VerifiesShardAndTokensTogether) {
  const test::TempFolder folder("inspect");
  const Path path = known_shard(folder / "a.gato");
  EXPECT_TRUE(verify_files(path).empty());
  EXPECT_TRUE(verify_files(path, {.contents = true}).empty());
  const Path tokens = token_columns_path(path);
  TokenColumns columns = tokens_for(ShardReader(path));
  write_token_columns(tokens, columns);
  EXPECT_TRUE(verify_files(path).empty());

  columns.shard_fingerprint = "another";
  write_token_columns(tokens, columns);
  std::vector<std::string> messages = verify_files(path);
  ASSERT_EQ(messages.size(), 1u);
  expect_contains(messages[0], {"a.gato.tokens", "another version", "gato-data tokenize"});

  std::string bytes = sample::slurp(tokens);
  bytes[70] ^= 1;
  sample::spill(tokens, bytes);
  messages = verify_files(path);
  ASSERT_EQ(messages.size(), 1u);
  expect_contains(messages[0], {"a.gato.tokens, offset 0"});

  bytes = sample::slurp(path);
  bytes[200] ^= 1;
  sample::spill(path, bytes);
  EXPECT_EQ(verify_files(path).size(), 2u);
  EXPECT_THROW((void)verify_files(folder / "missing.gato"), IoError);
}

}  // namespace
}  // namespace gato::episode

#include <gtest/gtest.h>

#include <algorithm>

#include "support/synthetic_data.h"

namespace gato::data {
namespace {

using namespace test;

/// One task that shows images of 4 x 5 patches, the size whose borders are known from the paper's readers.
class PatchPositionsTest : public testing::Test {
 protected:
  PatchPositionsTest() {
    episode::TaskSpec task = image_task();
    task.observation[0].shape = {64, 80, 3};
    episode::DatasetWriter writer(folder_.path() / "images", {"images", "Synthetic.", "", "test"}, {task}, 1 << 24);
    for (int64_t e = 0; e < 8; ++e) writer.add(0, random_episode(task, e, false));
    writer.finish();
  }

  /// The same rows of data, positions drawn or not.
  [[nodiscard]] Batch batch(bool draw, int64_t rows = 60) const {
    DataConfig config;
    config.datasets = {folder_.path().string()};
    config.row_tokens = 64;
    config.schedule = {{0, {{.tasks = "*", .share = 1}}}};
    const tokenizer::Vocabulary vocabulary(2000, true);
    const auto plan =
        std::make_shared<const RowPlan>(config, open_sources(config, vocabulary, nullptr, Split::kTraining), 1, false);
    return RowBuilder(plan, draw).build(0, rows);
  }

  gato::test::TempFolder folder_;
};

constexpr int kRowBorders[] = {0, 32, 64, 96, 128}, kColumnBorders[] = {0, 25, 51, 76, 102, 128};

TEST_F(PatchPositionsTest, TrainingDrawsInsideTheIntervalAndReachesTheLastRowAndColumn) {
  const Batch drawn = batch(true);
  ASSERT_GT(drawn.patch_rows.size(), 2000u);
  ASSERT_EQ(drawn.patch_rows.size() % 20, 0u);
  for (size_t p = 0; p < drawn.patch_rows.size(); ++p) {
    const size_t row = p % 20 / 5, column = p % 5;
    ASSERT_GE(drawn.patch_rows[p], kRowBorders[row]);
    ASSERT_LT(drawn.patch_rows[p], kRowBorders[row + 1]);
    ASSERT_GE(drawn.patch_columns[p], kColumnBorders[column]);
    ASSERT_LT(drawn.patch_columns[p], kColumnBorders[column + 1]);
  }
  EXPECT_EQ(*std::max_element(drawn.patch_rows.begin(), drawn.patch_rows.end()), 127);
  EXPECT_EQ(*std::max_element(drawn.patch_columns.begin(), drawn.patch_columns.end()), 127);
  EXPECT_EQ(*std::min_element(drawn.patch_rows.begin(), drawn.patch_rows.end()), 0);
}

TEST_F(PatchPositionsTest, EvaluationTakesTheMiddleOfTheInterval) {
  const Batch middle = batch(false);
  for (size_t p = 0; p < middle.patch_rows.size(); ++p) {
    const size_t row = p % 20 / 5, column = p % 5;
    ASSERT_EQ(middle.patch_rows[p], (kRowBorders[row] + kRowBorders[row + 1]) / 2);
    ASSERT_EQ(middle.patch_columns[p], (kColumnBorders[column] + kColumnBorders[column + 1]) / 2);
  }
}

}  // namespace
}  // namespace gato::data

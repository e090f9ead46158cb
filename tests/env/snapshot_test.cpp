#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/env/environment.h"

namespace gato::env {
namespace {

class SnapshotTest : public testing::TestWithParam<std::string> {};

TEST_P(SnapshotTest, DamagedOnesAreRefusedAndChangeNothing) {
  const auto environment = make_environment(GetParam());
  environment->reset(3);
  const std::string whole = environment->snapshot().value();
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(environment->restore(whole.substr(0, length)), DataError) << length;
  }
  EXPECT_THROW(environment->restore(whole + "x"), DataError);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    EXPECT_THROW(environment->restore(flipped), DataError) << i;
  }
  EXPECT_EQ(environment->snapshot(), whole);
}

TEST_P(SnapshotTest, ThoseOfOtherTasksAreRefused) {
  const auto environment = make_environment(GetParam());
  for (const char* other : {"grid/go_to", "grid/pick_up", "game/catch", "pictures/caption", "dialogue/colors"}) {
    if (GetParam() == other) continue;
    const auto from = make_environment(other);
    from->reset(3);
    EXPECT_THROW(environment->restore(from->snapshot().value()), DataError) << other;
  }
}

std::string task_name(const testing::TestParamInfo<std::string>& task) {
  return task.param.substr(task.param.find('/') + 1);
}
INSTANTIATE_TEST_SUITE_P(Tasks, SnapshotTest,
                         testing::Values("grid/go_to", "grid/pick_up", "game/catch", "pictures/caption",
                                         "pictures/question_heldout", "dialogue/colors"),
                         task_name);

}  // namespace
}  // namespace gato::env

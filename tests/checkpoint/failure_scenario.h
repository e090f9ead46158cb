#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gato/checkpoint/checkpoint.h"
#include "gato/checkpoint/retention.h"
#include "gato/core/error.h"
#include "small_checkpoint.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

/// What the failure tests share: a folder with checkpoints of steps 1 and 2, on which a next save is tried.
namespace gato::checkpoint::test {

/// A small checkpoint, so that a disk with slow fsync does not dominate.
inline CheckpointInfo save_small(const Path& folder, int64_t step) {
  CheckpointWriter writer(folder, step);
  writer.add_file("state.json", state_of(step));
  write_file_atomic(writer.file_path("demos/grid.txt"), state_of(step));
  return writer.commit();
}

inline bool is_small_as_saved(const CheckpointInfo& info) {
  const Checkpoint checkpoint(info.path);
  return checkpoint.step() == info.step && checkpoint.read("state.json") == state_of(info.step) &&
         checkpoint.read("demos/grid.txt") == state_of(info.step);
}

/// One way of saving: over nothing, or over a checkpoint of the same step.
struct Scenario {
  std::string name;
  int64_t step = 0;             ///< That is saved.
  bool damage_present = false;  ///< Whether the checkpoint of this step that is there is damaged before.
};

inline std::vector<Scenario> scenarios() {
  return {{"Next", 3, false}, {"OverValid", 2, false}, {"OverDamaged", 2, true}};
}

inline std::string scenario_name(const testing::TestParamInfo<Scenario>& info) { return info.param.name; }

/// Makes `folder` anew as a copy of `original`, as the scenario wants it.
inline void prepare(const Path& original, const Path& folder, const Scenario& scenario) {
  std::filesystem::remove_all(folder);
  std::filesystem::copy(original, folder,
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
  if (scenario.damage_present) flip_byte(folder / "step-00000002" / "state.json", 3);
}

inline void save_and_prune(const Path& folder, const Scenario& scenario) {
  static_cast<void>(save_small(folder, scenario.step));
  static_cast<void>(prune(folder, {.keep_last = 2}));
}

/// What a program does when it starts, then checks that nothing older than `at_least` is loaded and that saving works.
inline void expect_nothing_lost(const Path& folder, const Scenario& scenario, int64_t at_least) {
  static_cast<void>(clean_checkpoints(folder));
  const std::optional<CheckpointInfo> newest = newest_valid(folder, nullptr);
  ASSERT_TRUE(newest.has_value());
  EXPECT_GE(newest->step, at_least);
  EXPECT_TRUE(is_small_as_saved(*newest));
  save_and_prune(folder, scenario);
  ASSERT_EQ(newest_valid(folder, nullptr)->step, scenario.step);
  EXPECT_EQ(std::filesystem::read_symlink(folder / "latest").string(), step_name(scenario.step));
  for (const std::string& name : names_in(folder)) {
    EXPECT_TRUE(name == "latest" || parse_step_name(name) || name.find(".damaged-") != std::string::npos)
        << name << " was left behind";
  }
}

/// How often `scenario` meets the system by `operation`.
inline int64_t count_operations(const Path& original, const Path& folder, const Scenario& scenario,
                                testing_hooks::FileOperation operation) {
  prepare(original, folder, scenario);
  const testing_hooks::ScopedFileFault counter({.operation = operation, .nth = 0, .path_contains = folder.string()});
  save_and_prune(folder, scenario);
  return testing_hooks::count_file_operations(operation);
}

/// Makes each call of `operation` fail in turn; every failure of a save must be told, and nothing may be lost.
inline void fail_each_call(const Scenario& scenario, testing_hooks::FileOperation operation,
                           testing_hooks::FileFault::Effect effect, int error_number, bool all_after) {
  const gato::test::TempFolder folder("checkpoint");
  const Path original = folder / "original";
  const Path tried = folder / "tried";
  for (const int64_t step : {1, 2}) static_cast<void>(save_small(original, step));
  const int64_t calls = count_operations(original, tried, scenario, operation);
  ASSERT_GT(calls, 0);
  for (int64_t nth = 1; nth <= calls; ++nth) {
    SCOPED_TRACE(cat(scenario.name, ": call ", nth, " of ", calls));
    prepare(original, tried, scenario);
    bool reported = false;
    {
      const testing_hooks::ScopedFileFault fault({.operation = operation,
                                                  .nth = nth,
                                                  .all_after = all_after,
                                                  .effect = effect,
                                                  .error_number = error_number,
                                                  .path_contains = tried.string()});
      try {
        save_and_prune(tried, scenario);
      } catch (const IoError& error) {
        reported = true;
        EXPECT_EQ(error.error_number(), error_number);
        EXPECT_NE(std::string(error.what()).find(tried.string()), std::string::npos) << error.what();
      }
    }
    // Opening also is how old checkpoints are read, before they are deleted: what cannot be read is just not deleted.
    EXPECT_TRUE(reported || operation == testing_hooks::FileOperation::kOpen);
    const int64_t before = scenario.damage_present ? 1 : 2;
    expect_nothing_lost(tried, scenario, reported ? before : scenario.step);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace gato::checkpoint::test

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>

#include "failure_scenario.h"
#include "gato/core/random.h"
#include "support/child_process.h"

// SIGKILL at every call that changes the disk, and at random times.
namespace gato::checkpoint {
namespace {

using gato::test::TempFolder;
using testing_hooks::FileFault;
using testing_hooks::FileOperation;
using testing_hooks::ScopedFileFault;

class CheckpointKillSlowTest : public testing::TestWithParam<test::Scenario> {};

/// Kills a child at each call of `operation` while it saves; nothing may be lost.
void kill_at_each_call(const test::Scenario& scenario, FileOperation operation) {
  const TempFolder folder("checkpoint");
  const Path original = folder / "original";
  const Path tried = folder / "tried";
  for (const int64_t step : {1, 2}) static_cast<void>(test::save_small(original, step));
  const int64_t calls = test::count_operations(original, tried, scenario, operation);
  ASSERT_GT(calls, 0);
  for (int64_t nth = 1; nth <= calls; ++nth) {
    SCOPED_TRACE(cat(scenario.name, ": killed at call ", nth, " of ", calls));
    test::prepare(original, tried, scenario);
    constexpr int kSaved = 7;
    const gato::test::ChildEnd end = gato::test::run_in_child([&] {
      const ScopedFileFault fault(
          {.operation = operation, .nth = nth, .effect = FileFault::Effect::kKill, .path_contains = tried.string()});
      test::save_and_prune(tried, scenario);
      return kSaved;
    });
    ASSERT_EQ(end.signal, SIGKILL);
    test::expect_nothing_lost(tried, scenario, scenario.damage_present ? 1 : 2);
    if (testing::Test::HasFailure()) return;
  }
}

TEST_P(CheckpointKillSlowTest, AtEveryWrite) { kill_at_each_call(GetParam(), FileOperation::kWrite); }
TEST_P(CheckpointKillSlowTest, AtEveryFsync) { kill_at_each_call(GetParam(), FileOperation::kFsync); }
TEST_P(CheckpointKillSlowTest, AtEveryRename) { kill_at_each_call(GetParam(), FileOperation::kRename); }
TEST_P(CheckpointKillSlowTest, AtEveryOpen) { kill_at_each_call(GetParam(), FileOperation::kOpen); }

INSTANTIATE_TEST_SUITE_P(Scenarios, CheckpointKillSlowTest, testing::ValuesIn(test::scenarios()), test::scenario_name);

/// Saves and prunes until it is killed, as a training process does after a restart, and reports every saved step.
int save_until_killed(const Path& folder, int report) {
  static_cast<void>(clean_checkpoints(folder));
  const std::optional<CheckpointInfo> newest = newest_valid(folder, nullptr);
  for (int64_t step = newest ? newest->step + 1 : 1;; ++step) {
    static_cast<void>(test::save(folder, step, 20'000));
    if (::write(report, &step, sizeof step) != sizeof step) return 1;
    static_cast<void>(prune(folder, {.keep_last = 2, .keep_every = 100}));
  }
}

/// GATO_CHECKPOINT_KILLS asks for another number of kills.
int64_t num_random_kills() {
  const char* asked = std::getenv("GATO_CHECKPOINT_KILLS");
  return asked != nullptr ? std::atoll(asked) : 200;
}

/// A child that saves until it is killed, as seen by its parent.
class SavingChild {
 public:
  explicit SavingChild(const Path& folder) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    reports_ = ends[0];
    process_ = gato::test::start_child([&] {
      ::close(ends[0]);
      return save_until_killed(folder, ends[1]);
    });
    ::close(ends[1]);
  }
  SavingChild(const SavingChild&) = delete;
  SavingChild& operator=(const SavingChild&) = delete;
  ~SavingChild() { ::close(reports_); }

  /// Waits for the next step reported as saved; nothing when the child is gone.
  [[nodiscard]] std::optional<int64_t> next_report() const {
    int64_t step = 0;
    if (::read(reports_, &step, sizeof step) != sizeof step) return std::nullopt;
    return step;
  }
  /// Kills it and returns the signal that ended it.
  [[nodiscard]] int kill() const {
    ::kill(process_, SIGKILL);
    return gato::test::wait_for_child(process_).signal;
  }

 private:
  int reports_ = -1;
  pid_t process_ = -1;
};

/// What a reader finds after a kill: a whole checkpoint, no older than the last reported one. Cleaning does not lose
/// it.
void check_after_kill(const Path& folder, int64_t& last_reported) {
  // A reader that only looks, such as an evaluation, comes before any cleaning.
  const auto newest = newest_valid(folder, [](const CheckpointInfo& info, const std::vector<Damage>& damages) {
    ADD_FAILURE() << info.path << ": " << damages.front().describe();
  });
  if (last_reported == 0 && !newest) return;
  ASSERT_TRUE(newest.has_value());
  ASSERT_GE(newest->step, last_reported);
  ASSERT_LE(newest->step, last_reported + 1);
  ASSERT_TRUE(test::is_as_saved(*newest, 20'000));
  static_cast<void>(clean_checkpoints(folder));
  ASSERT_EQ(newest_valid(folder, nullptr), newest);
  last_reported = newest->step;  // by our having seen it
}

TEST(CheckpointRandomKillSlowTest, AtRandomTimesTheLastReportedSaveIsLoaded) {
  const TempFolder folder("checkpoint");
  Rng random(20251122);
  int64_t last_reported = 0;
  double save_seconds = 0.05;  // measured as we go, so that a busy machine changes nothing
  for (int64_t kill = 0; kill < num_random_kills(); ++kill) {
    SCOPED_TRACE(cat("kill ", kill));
    const SavingChild child(folder.path());
    for (int64_t reports = random.below(3); reports > 0; --reports) {
      const auto begin = std::chrono::steady_clock::now();
      const std::optional<int64_t> step = child.next_report();
      ASSERT_TRUE(step.has_value()) << "the child failed";
      last_reported = *step;
      save_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    ::usleep(static_cast<useconds_t>(random.uniform(0, 1.2) * std::min(save_seconds, 0.5) * 1e6));
    ASSERT_EQ(child.kill(), SIGKILL);
    while (const std::optional<int64_t> step = child.next_report()) last_reported = *step;
    check_after_kill(folder.path(), last_reported);
    if (HasFatalFailure()) return;
  }
  static_cast<void>(clean_checkpoints(folder.path()));
  for (const std::string& name : test::names_in(folder.path())) {
    EXPECT_TRUE(name == "latest" || parse_step_name(name)) << name << " was left behind";
  }
  EXPECT_GT(last_reported, num_random_kills() / 2);
}

}  // namespace
}  // namespace gato::checkpoint

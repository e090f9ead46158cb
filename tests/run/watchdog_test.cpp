#include "gato/run/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

namespace gato::run {
namespace {

using std::chrono::milliseconds;

class WatchdogTest : public testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<Watchdog> make(WatchdogOptions options) {
    return std::make_unique<Watchdog>(options, [this](const Expiry& expiry) {
      const std::lock_guard lock(mutex_);
      expiry_ = expiry;
      ++expired_;
      return again_.load();
    });
  }
  [[nodiscard]] bool expires_within(std::chrono::seconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (expired_ == 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(milliseconds(10));
    return expired_ > 0;
  }
  std::mutex mutex_;
  Expiry expiry_;
  std::atomic<int> expired_{0};
  std::atomic<bool> again_{false};
};

TEST_F(WatchdogTest, NamesWhatStandsStill) {
  const auto watchdog = make({0.2, 1, 60, 60});
  watchdog->add_step(0.001);
  watchdog->enter("waiting for data", Watchdog::Limit::kStep);
  ASSERT_TRUE(expires_within(std::chrono::seconds(20)));
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(expired_, 1) << "once";
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(expiry_.activity, "waiting for data");
  EXPECT_GE(expiry_.seconds, 0.2);
  EXPECT_DOUBLE_EQ(expiry_.limit, 0.2);
}

TEST_F(WatchdogTest, StaysSilentWhileThereIsProgress) {
  const auto watchdog = make({0.5, 1, 60, 60});
  watchdog->add_step(0.001);
  for (int i = 0; i < 40; ++i) {
    watchdog->enter("step", Watchdog::Limit::kStep);
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(expired_, 0);
}

TEST_F(WatchdogTest, LongWorkHasALongLimit) {
  const auto watchdog = make({0.2, 1, 60, 60});
  watchdog->enter("saving", Watchdog::Limit::kLong);
  std::this_thread::sleep_for(milliseconds(400));
  EXPECT_EQ(expired_, 0);
  watchdog->add_step(0.001);
  watchdog->enter("reading a debugger's mind", Watchdog::Limit::kNone);
  std::this_thread::sleep_for(milliseconds(400));
  EXPECT_EQ(expired_, 0);
}

TEST_F(WatchdogTest, TheFirstStepMayTakeLongAndLaterOnesAFactorOfTheMedian) {
  const auto watchdog = make({60, 10, 1800, 75});
  EXPECT_DOUBLE_EQ(watchdog->step_limit(), 1800);
  watchdog->add_step(1);
  EXPECT_DOUBLE_EQ(watchdog->step_limit(), 60);
  for (int i = 0; i < 3; ++i) watchdog->add_step(20);
  EXPECT_DOUBLE_EQ(watchdog->step_limit(), 200);
  for (int i = 0; i < 500; ++i) watchdog->add_step(2);
  EXPECT_DOUBLE_EQ(watchdog->step_limit(), 60) << "old steps are forgotten";
}

TEST_F(WatchdogTest, AsksAgainAboutWhatMayGoOn) {
  again_ = true;
  const auto watchdog = make({60, 10, 1800, 0.2});
  watchdog->enter("end of a save", Watchdog::Limit::kLongExchange);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (expired_ < 3 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_GE(expired_, 3);
}

TEST_F(WatchdogTest, EndsWithoutWaiting) {
  const auto begin = std::chrono::steady_clock::now();
  make({60, 10, 1800, 75}).reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

}  // namespace
}  // namespace gato::run

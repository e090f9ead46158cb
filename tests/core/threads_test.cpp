#include "gato/core/threads.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gato/core/error.h"
#include "support/child_process.h"

namespace gato {
namespace {

class ThreadsTest : public testing::Test {
 protected:
  void SetUp() override { ::unsetenv("GATO_NUM_THREADS"); }
  void TearDown() override {
    ::unsetenv("GATO_NUM_THREADS");
    set_thread_budget(0);
  }
};

TEST_F(ThreadsTest, BudgetIsAffinityThenSettingThenEnvironment) {
  EXPECT_GE(thread_budget(), 1);
  set_thread_budget(5);
  EXPECT_EQ(thread_budget(), 5);
  ::setenv("GATO_NUM_THREADS", "3", 1);
  EXPECT_EQ(thread_budget(), 3);
  ::setenv("GATO_NUM_THREADS", "", 1);
  EXPECT_EQ(thread_budget(), 5);
  set_thread_budget(0);
  EXPECT_GE(thread_budget(), 1);
  EXPECT_THROW(set_thread_budget(-1), ContractError);
}

TEST_F(ThreadsTest, BudgetFollowsTheAffinityMask) {
  EXPECT_EQ(test::run_in_child([] {
              cpu_set_t mask;
              ::sched_getaffinity(0, sizeof(mask), &mask);
              int first = 0;
              while (!CPU_ISSET(first, &mask)) ++first;
              CPU_ZERO(&mask);
              CPU_SET(first, &mask);
              ::sched_setaffinity(0, sizeof(mask), &mask);
              return thread_budget();
            }).exit_code,
            1);
}

TEST_F(ThreadsTest, BadEnvironmentIsAConfigErrorThatNamesIt) {
  for (const char* text : {"0", "-1", "two", "2x", "1e3", "99999999999", " 2"}) {
    ::setenv("GATO_NUM_THREADS", text, 1);
    try {
      static_cast<void>(thread_budget());
      FAIL() << text;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("GATO_NUM_THREADS"), std::string::npos) << error.what();
    }
  }
}

TEST_F(ThreadsTest, ParallelForCallsEveryIndexOnce) {
  for (const int threads : {0, 1, 2, 7}) {
    for (const int64_t count : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
      parallel_for(
          count, [&](int64_t i) { ++calls[static_cast<size_t>(i)]; }, threads);
      for (const std::atomic<int>& number : calls) EXPECT_EQ(number.load(), 1);
    }
  }
  EXPECT_THROW(parallel_for(-1, [](int64_t) {}), ContractError);
}

TEST_F(ThreadsTest, ParallelForKeepsToItsThreads) {
  std::mutex mutex;
  std::set<std::thread::id> ids;
  const auto body = [&](int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  };
  parallel_for(60, body, 3);
  EXPECT_LE(ids.size(), 3u);
  EXPECT_GE(ids.size(), 2u);
  ids.clear();
  set_thread_budget(2);
  parallel_for(30, body);
  EXPECT_LE(ids.size(), 2u);
}

TEST_F(ThreadsTest, LoopsInsideLoopsStayOnTheirThread) {
  std::atomic<int> strangers{0};
  std::atomic<int> calls{0};
  parallel_for(
      4,
      [&](int64_t) {
        const std::thread::id outer = std::this_thread::get_id();
        parallel_for(
            10,
            [&](int64_t) {
              ++calls;
              if (std::this_thread::get_id() != outer) ++strangers;
            },
            4);
      },
      4);
  EXPECT_EQ(calls.load(), 40);
  EXPECT_EQ(strangers.load(), 0);
}

class ParallelErrorTest : public ThreadsTest, public testing::WithParamInterface<int> {};

TEST_P(ParallelErrorTest, FirstExceptionEndsTheRestAndIsRethrown) {
  std::atomic<int64_t> calls{0};
  const auto body = [&](int64_t i) {
    ++calls;
    if (i == 5) throw std::runtime_error("five");
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  };
  try {
    parallel_for(100'000, body, GetParam());
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "five");
  }
  EXPECT_LT(calls.load(), 50'000);
  // The next loop begins with a clean slate.
  std::atomic<int64_t> sum{0};
  parallel_for(
      100, [&](int64_t i) { sum += i; }, GetParam());
  EXPECT_EQ(sum.load(), 4950);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelErrorTest, testing::Values(1, 2, 4));

}  // namespace
}  // namespace gato

#include "gato/core/signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "gato/core/error.h"
#include "support/child_process.h"

namespace gato {
namespace {

/// Each test runs in a child, whose handlers do not outlive it.
int in_child(const std::function<int()>& body) {
  return test::run_in_child([&] {
           install_signal_handlers();
           install_signal_handlers();
           return body();
         })
      .exit_code;
}

TEST(SignalsTest, NothingIsRequestedAtFirst) {
  EXPECT_EQ(in_child([] { return stop_requested() || stop_signal() != 0 || take_save_request() ? 1 : 0; }), 0);
}

class StopSignalTest : public testing::TestWithParam<int> {};

TEST_P(StopSignalTest, SetsTheFlagAndTheFirstOneIsNamed) {
  EXPECT_EQ(in_child([] {
              ::raise(GetParam());
              ::raise(SIGTERM);
              if (!stop_requested() || stop_signal() != GetParam()) return 1;
              clear_signal_flags();
              return stop_requested() ? 2 : 0;
            }),
            0);
}

INSTANTIATE_TEST_SUITE_P(Signals, StopSignalTest, testing::Values(SIGTERM, SIGINT, SIGUSR1));

TEST(SignalsTest, SecondInterruptEndsTheProcess) {
  EXPECT_EQ(in_child([] {
              ::raise(SIGINT);
              ::raise(SIGINT);
              return 0;
            }),
            130);
  EXPECT_EQ(in_child([] {
              ::raise(SIGTERM);
              ::raise(SIGINT);  // the first of its kind
              ::raise(SIGTERM);
              return 7;
            }),
            7);
}

TEST(SignalsTest, SaveRequestIsTakenOnce) {
  EXPECT_EQ(in_child([] {
              ::raise(SIGUSR2);
              if (stop_requested()) return 1;
              return take_save_request() && !take_save_request() ? 0 : 2;
            }),
            0);
}

TEST(SignalsTest, BrokenPipesAreErrorsOfWrite) {
  EXPECT_EQ(in_child([] {
              std::array<int, 2> ends{};
              if (::pipe(ends.data()) != 0) return 1;
              ::close(ends[0]);
              return ::write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0 : 2;
            }),
            0);
}

TEST(SignalsTest, StoppingNamesWhatWasInterrupted) {
  clear_signal_flags();
  EXPECT_NO_THROW(throw_if_stopped("collecting"));
  request_stop();
  EXPECT_EQ(stop_signal(), SIGTERM);
  try {
    throw_if_stopped("collecting episodes");
    FAIL();
  } catch (const Interrupted& error) {
    EXPECT_NE(std::string(error.what()).find("while collecting episodes"), std::string::npos);
  }
  clear_signal_flags();
  EXPECT_FALSE(stop_requested());
}

}  // namespace
}  // namespace gato

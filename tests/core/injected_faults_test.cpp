#include "gato/core/injected_faults.h"

#include <gtest/gtest.h>

#include <csignal>

#include "gato/core/error.h"
#include "support/child_process.h"

namespace gato {
namespace {

TEST(InjectedFaultsTest, Parses) {
  const auto faults = parse_injected_faults("step=5,rank=1,kind=nan;kind=stop,where=save,attempt=2,step=7");
  ASSERT_EQ(faults.size(), 2U);
  EXPECT_EQ(faults[0].kind, FaultKind::kNan);
  EXPECT_EQ(faults[0].where, "step");
  EXPECT_EQ(faults[0].step, 5);
  EXPECT_EQ(faults[0].rank, 1);
  EXPECT_EQ(faults[1].where, "save");
  EXPECT_EQ(faults[1].attempt, 2);
}

TEST(InjectedFaultsTest, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"", ";", "kind", "step=5", "kind=explode", "kind=nan,step=x", "kind=nan,step=-1",
                           "kind=nan,where=moon", "kind=nan,what=1", "kind=nan,", "kind=nan;"}) {
    EXPECT_THROW(static_cast<void>(parse_injected_faults(text)), ConfigError) << text;
  }
}

TEST(InjectedFaultsTest, StrikesOnlyWhereAskedFor) {
  const auto faults = parse_injected_faults("step=5,rank=1,kind=nan,attempt=2");
  EXPECT_EQ(InjectedFaults(faults, 1, 2).strike("step", 5), FaultKind::kNan);
  EXPECT_EQ(InjectedFaults(faults, 1, 2).strike("step", 6), std::nullopt);
  EXPECT_EQ(InjectedFaults(faults, 1, 2).strike("save", 5), std::nullopt);
  EXPECT_EQ(InjectedFaults(faults, 0, 2).strike("step", 5), std::nullopt);
  EXPECT_EQ(InjectedFaults(faults, 1, 1).strike("step", 5), std::nullopt);
}

TEST(InjectedFaultsTest, KillsAndThrows) {
  const auto strike = [](const char* text) {
    return test::run_in_child([&] {
      static_cast<void>(InjectedFaults(parse_injected_faults(text), 0, 1).strike("start", 0));
      return 0;
    });
  };
  EXPECT_EQ(strike("kind=kill,where=start").signal, SIGKILL);
  EXPECT_EQ(strike("kind=abort,where=start").signal, SIGABRT);
  EXPECT_EQ(strike("kind=term,where=start").signal, SIGTERM);
  EXPECT_EQ(strike("kind=error,where=start").exit_code, test::kChildThrew);
}

}  // namespace
}  // namespace gato

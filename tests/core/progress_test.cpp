#include "gato/core/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "support/child_process.h"

namespace gato {
namespace {

template <class Call>
std::string written(Call&& call) {
  testing::internal::CaptureStderr();
  call();
  return testing::internal::GetCapturedStderr();
}

/// What a child with standard error on a terminal of `columns` columns writes there.
std::string written_to_terminal(unsigned short columns, const std::function<void()>& call) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0) return "no terminal to be had";
  const std::string name = ::ptsname(terminal);
  const int inner = ::open(name.c_str(), O_RDWR | O_NOCTTY);
  const struct winsize size = {24, columns, 0, 0};
  ::ioctl(inner, TIOCSWINSZ, &size);
  const pid_t child = test::start_child([&] {
    ::dup2(inner, STDERR_FILENO);
    call();
    return 0;
  });
  ::close(inner);
  std::string text;
  std::array<char, 4096> piece{};
  // Reading fails when the child, the last holder of the other side, has ended.
  for (ssize_t count = 0; (count = ::read(terminal, piece.data(), piece.size())) > 0;) {
    text.append(piece.data(), static_cast<size_t>(count));
  }
  ::close(terminal);
  EXPECT_EQ(test::wait_for_child(child).exit_code, 0);
  return text;
}

TEST(ProgressTest, PlainLineAtTheEndAndNotMoreOftenThanAgreed) {
  const std::string text = written([] {
    Progress progress("collecting", 200, "episodes");
    for (int i = 0; i < 200; ++i) progress.add();
    progress.note("loss 2.31");
    progress.finish();
    progress.finish();
    progress.add();
  });
  EXPECT_EQ(text.find("collecting 200/200 episodes (100 %), "), 0u) << text;
  EXPECT_NE(text.find("/s, took 0."), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with(", loss 2.31\n")) << text;
  EXPECT_EQ(split(text, '\n').size(), 2u) << text;
}

TEST(ProgressTest, DestructionPrintsTheFinalLine) {
  const std::string text = written([] {
    Progress progress("reading", 0, "rows");
    progress.set(41);
  });
  EXPECT_EQ(text.find("reading 41 rows, "), 0u) << text;
  EXPECT_THROW(Progress("x", -1, "rows"), ContractError);
}

TEST(ProgressTest, IsSilentWhenToldOrOnOtherRanks) {
  const auto work = [] {
    Progress progress("reading", 10, "rows");
    progress.add(10);
  };
  ::setenv("GATO_PROGRESS", "off", 1);
  EXPECT_EQ(written(work), "");
  ::unsetenv("GATO_PROGRESS");
  log::set_rank(1);
  EXPECT_EQ(written(work), "");
  log::set_rank(0);
  EXPECT_NE(written(work), "");
}

TEST(ProgressTest, CountsOfManyThreadsAddUp) {
  const std::string text = written([] {
    Progress progress("reading", 4000, "rows");
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&progress] {
        for (int i = 0; i < 1000; ++i) progress.add();
        progress.note("x");
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_NE(text.find("4000/4000 rows"), std::string::npos) << text;
}

TEST(ProgressTest, TerminalShowsABarThatFits) {
  for (const unsigned short columns : {uint16_t{100}, uint16_t{60}}) {
    const std::string text = written_to_terminal(columns, [] {
      Progress progress("collecting", 4, "episodes");
      for (int i = 0; i < 4; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(110));
        progress.add();
      }
      progress.note(cat("☃", std::string(300, 'n')));
    });
    const bool wide = columns == 100;
    EXPECT_NE(text.find(wide ? "collecting [======                  ] 1/4 episodes (25 %)"
                             : "collecting 1/4 episodes (25 %)"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find(" left"), std::string::npos) << text;
    EXPECT_TRUE(text.ends_with("\n")) << text;
    EXPECT_TRUE(is_valid_utf8(text));
    for (const std::string& drawn : split(text, '\r')) {
      const std::string shown = drawn.starts_with("\x1b[K") ? drawn.substr(3) : drawn;
      EXPECT_LT(trim(shown).size(), columns) << shown;
    }
    EXPECT_EQ(split(text, '\n').size(), 2u) << "only the last drawing ends its line: " << text;
  }
}

TEST(ProgressTest, MessagesStandAboveTheBar) {
  const std::string text = written_to_terminal(80, [] {
    Progress progress("working", 4, "steps");
    std::this_thread::sleep_for(std::chrono::milliseconds(110));
    progress.add();
    log::warning("data", "shard is damaged");
  });
  // The bar is cleared, the message gets a line of its own, the bar is drawn again.
  const size_t message = text.find("warning data: shard is damaged");
  ASSERT_NE(message, std::string::npos) << text;
  EXPECT_NE(text.rfind("\r\x1b[K", message), std::string::npos) << text;
  EXPECT_NE(text.find("\nworking [", message), std::string::npos) << text;
}

}  // namespace
}  // namespace gato

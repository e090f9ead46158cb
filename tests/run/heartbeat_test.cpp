#include "gato/run/heartbeat.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "gato/core/error.h"
#include "run/reach.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

RankState sample_state() {
  RankState state;
  state.rank = 3;
  state.size = 16;
  state.run_attempt = "2-abc";
  state.host = "gpu-a";
  state.machine = "boot pid:[1]";
  state.process = 4711;
  state.process_start = 123456789;
  state.address = "10.0.0.1";
  state.port = 40000;
  state.beat = 7;
  state.step = 12;
  state.activity = "exchange of gradients";
  state.is_exchange = true;
  state.activity_seconds = 1.5;
  state.end = RankEnd::kPeer;
  state.message = "rank 1 died";
  return state;
}

TEST(RankStateTest, ComesBack) {
  EXPECT_EQ(parse_rank_state(to_json(sample_state()), "x"), sample_state());
  for (const RankEnd end : {RankEnd::kRunning, RankEnd::kDone, RankEnd::kFailed, RankEnd::kPeer}) {
    RankState state = sample_state();
    state.end = end;
    EXPECT_EQ(parse_rank_state(to_json(state), "x").end, end);
  }
}

TEST(RankStateTest, EveryTruncationIsAnError) {
  const std::string text = to_json(sample_state());
  for (size_t length = 0; length + 2 < text.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_rank_state(text.substr(0, length), "x")), DataError) << length;
  }
}

TEST(RankStateTest, EveryFlippedByteIsAnErrorOrAnotherState) {
  const std::string text = to_json(sample_state());
  for (size_t at = 0; at < text.size(); ++at) {
    for (const unsigned bit : {0x01U, 0x20U, 0x80U}) {
      std::string damaged = text;
      damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ bit);
      try {
        static_cast<void>(parse_rank_state(damaged, "x"));
      } catch (const DataError&) {
      }
    }
  }
}

TEST(RankStateTest, RefusesARankBeyondTheRun) {
  RankState state = sample_state();
  state.rank = 16;
  EXPECT_THROW(static_cast<void>(parse_rank_state(to_json(state), "x")), DataError);
}

class HeartbeatTest : public testing::Test {
 protected:
  [[nodiscard]] HeartbeatOptions options(int64_t rank, int64_t size = 2) const {
    HeartbeatOptions options;
    options.folder = folder_ / "ranks";
    options.rank = rank;
    options.size = size;
    options.run_attempt = "1";
    options.address = "127.0.0.1";
    options.interval = 0.05;
    return options;
  }
  [[nodiscard]] RankState read(int64_t rank) const {
    const Path path = rank_state_path(folder_ / "ranks", rank);
    return parse_rank_state(read_file(path), path.string());
  }
  /// A process that beats as `rank` and then does `body`.
  [[nodiscard]] pid_t start_rank(int64_t rank, const std::function<int(Heartbeat&)>& body, int64_t size = 2) const {
    const pid_t child = test::start_child([&] {
      Heartbeat heartbeat(options(rank, size));
      heartbeat.set_step(12);
      heartbeat.set_activity("waiting for data", false);
      return body(heartbeat);
    });
    wait_for_step(rank, child);
    return child;
  }
  void wait_for_step(int64_t rank, pid_t child) const {
    for (int i = 0; i < 2000; ++i) {
      try {
        const RankState state = read(rank);
        if (state.process == child && (state.step == 12 || state.end != RankEnd::kRunning)) return;
      } catch (const Error&) {
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    FAIL() << "rank " << rank << " never wrote";
  }
  static void end(pid_t child) {
    ::kill(child, SIGKILL);
    static_cast<void>(test::wait_for_child(child));
  }
  static int sleep_long(Heartbeat&) {
    std::this_thread::sleep_for(std::chrono::seconds(60));
    return 0;
  }
  test::TempFolder folder_;
};

TEST_F(HeartbeatTest, BeatsAndSaysWhatIsDone) {
  Heartbeat heartbeat(options(0));
  heartbeat.set_step(5);
  heartbeat.set_activity("exchange of gradients", true);
  const int64_t before = read(0).beat;
  RankState state;
  for (int i = 0; i < 2000 && state.beat < before + 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    state = read(0);
  }
  EXPECT_GE(state.beat, before + 2);
  EXPECT_EQ(state.step, 5);
  EXPECT_EQ(state.activity, "exchange of gradients");
  EXPECT_TRUE(state.is_exchange);
  EXPECT_GT(state.activity_seconds, 0);
  heartbeat.end(RankEnd::kFailed, "the reason");
  EXPECT_EQ(read(0).end, RankEnd::kFailed) << "written at once";
  heartbeat.end(RankEnd::kDone, "");
  EXPECT_EQ(read(0).message, "the reason") << "the first word counts";
}

TEST_F(HeartbeatTest, ADiskThatFailsIsAWarning) {
  Heartbeat heartbeat(options(0));
  const auto is_gone = [&] {  // it may be writing meanwhile
    std::error_code error;
    std::filesystem::remove_all(folder_ / "ranks", error);
    return !std::filesystem::exists(folder_ / "ranks");
  };
  while (!is_gone()) {
  }
  heartbeat.end(RankEnd::kDone, "");
}

TEST_F(HeartbeatTest, NamesAKilledProcess) {
  const pid_t child = start_rank(1, sleep_long);
  end(child);
  const Diagnosis diagnosis = diagnose(options(0), 10);
  ASSERT_EQ(diagnosis.culprits.size(), 1U) << diagnosis.text;
  EXPECT_EQ(diagnosis.culprits[0].rank, 1);
  for (const char* part : {"rank 1", "died", "step 12", "waiting for data"}) {
    EXPECT_NE(diagnosis.text.find(part), std::string::npos) << diagnosis.text;
  }
}

TEST_F(HeartbeatTest, NamesAKilledProcessOfAnotherHostByItsSocket) {
  const pid_t child = start_rank(1, sleep_long);
  end(child);
  RankState state = read(1);
  state.machine = "elsewhere";
  write_file_atomic(rank_state_path(folder_ / "ranks", 1), to_json(state));
  const Diagnosis diagnosis = diagnose(options(0), 10);
  ASSERT_EQ(diagnosis.culprits.size(), 1U) << diagnosis.text;
  EXPECT_NE(diagnosis.text.find("refuses connections"), std::string::npos) << diagnosis.text;
}

TEST_F(HeartbeatTest, NamesAStoppedProcess) {
  const pid_t child = start_rank(1, sleep_long);
  ::kill(child, SIGSTOP);
  const Diagnosis diagnosis = diagnose(options(0), 10);
  end(child);
  ASSERT_EQ(diagnosis.culprits.size(), 1U) << diagnosis.text;
  EXPECT_NE(diagnosis.text.find("is stopped"), std::string::npos) << diagnosis.text;
}

TEST_F(HeartbeatTest, NamesAProcessOfAnotherHostThatStandsStill) {
  const pid_t child = start_rank(1, sleep_long);
  ::kill(child, SIGSTOP);
  RankState state = read(1);
  state.machine = "elsewhere";
  write_file_atomic(rank_state_path(folder_ / "ranks", 1), to_json(state));
  const Diagnosis diagnosis = diagnose(options(0), 0.5);
  end(child);
  ASSERT_EQ(diagnosis.culprits.size(), 1U) << diagnosis.text;
  EXPECT_NE(diagnosis.text.find("no sign of life"), std::string::npos) << diagnosis.text;
}

TEST_F(HeartbeatTest, NamesTheOneThatFailedAndNotThoseThatFollowed) {
  const pid_t failed = start_rank(
      1,
      [](Heartbeat& heartbeat) {
        heartbeat.end(RankEnd::kFailed, "shard x.gato is damaged");
        return 1;
      },
      3);
  const pid_t followed = start_rank(
      2,
      [](Heartbeat& heartbeat) {
        heartbeat.end(RankEnd::kPeer, "rank 1 failed");
        return 76;
      },
      3);
  static_cast<void>(test::wait_for_child(failed));
  static_cast<void>(test::wait_for_child(followed));
  const Diagnosis diagnosis = diagnose(options(0, 3), 10);
  ASSERT_EQ(diagnosis.culprits.size(), 1U) << diagnosis.text;
  EXPECT_EQ(diagnosis.culprits[0].rank, 1);
  EXPECT_NE(diagnosis.text.find("x.gato is damaged"), std::string::npos) << diagnosis.text;
}

TEST_F(HeartbeatTest, BelievesOthersWhoAlreadyGaveUp) {
  const pid_t child = start_rank(1, [](Heartbeat& heartbeat) {
    heartbeat.end(RankEnd::kPeer, "the network is gone");
    return 76;
  });
  static_cast<void>(test::wait_for_child(child));
  const Diagnosis diagnosis = diagnose(options(0), 10);
  EXPECT_TRUE(diagnosis.culprits.empty());
  EXPECT_NE(diagnosis.text.find("the network is gone"), std::string::npos) << diagnosis.text;
}

TEST_F(HeartbeatTest, BlamesNobodyWhenAllWait) {
  const pid_t child = start_rank(1, [](Heartbeat& heartbeat) {
    heartbeat.set_activity("exchange of gradients", true);
    return sleep_long(heartbeat);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const Diagnosis diagnosis = diagnose(options(0), 0.5);
  end(child);
  EXPECT_TRUE(diagnosis.culprits.empty()) << diagnosis.text;
  EXPECT_NE(diagnosis.text.find("network"), std::string::npos) << diagnosis.text;
}

TEST_F(HeartbeatTest, StatesOfAnotherAttemptDoNotCount) {
  const pid_t child = start_rank(1, sleep_long);
  HeartbeatOptions later = options(0);
  later.run_attempt = "2";
  const Diagnosis diagnosis = diagnose(later, 0.3);
  end(child);
  ASSERT_EQ(diagnosis.culprits.size(), 1U);
  EXPECT_NE(diagnosis.text.find("has not written"), std::string::npos) << diagnosis.text;
}

TEST_F(HeartbeatTest, DamagedStatesAndMissingFoldersDoNotThrow) {
  write_file_atomic(rank_state_path(folder_ / "ranks", 1), "{");
  EXPECT_EQ(diagnose(options(0), 0.1).culprits.size(), 1U);
  std::filesystem::remove_all(folder_ / "ranks");
  EXPECT_EQ(diagnose(options(0), 0.1).culprits.size(), 1U);
}

TEST(ReachTest, TellsListenersFromOthers) {
  const PresenceSocket socket("127.0.0.1");
  int64_t closed = 0;
  {
    const PresenceSocket gone("127.0.0.1");
    closed = gone.port();
  }
  const auto reached = try_to_reach({{"127.0.0.1", socket.port()}, {"127.0.0.1", closed}, {"no address", 1}}, 5);
  EXPECT_EQ(reached, (std::vector<Reach>{Reach::kReached, Reach::kRefused, Reach::kUnknown}));
  EXPECT_TRUE(try_to_reach({}, 1).empty());
  socket.answer();
}

TEST(ReachTest, AnAddressThatIsNotOursIsAnError) {
  EXPECT_THROW(PresenceSocket("192.0.2.1"), IoError);
  EXPECT_THROW(PresenceSocket("localhost"), IoError);
}

}  // namespace
}  // namespace gato::run

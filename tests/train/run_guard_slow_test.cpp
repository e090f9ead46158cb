#include "train/run_guard.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/train/trainer.h"
#include "support/temp_folder.h"

namespace gato::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kFolder = "GATO_TEST_RUN_FOLDER";

int free_port() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(listener);
  return ntohs(address.sin_port);
}

/// What a process of the tests does instead of training: sums, one a step.
void work(RunGuard& guard, const Launch& launch, const TrainingConfig& config) {
  const Path folder = std::getenv(kFolder);
  const auto communicator = Communicator::connect(launch, at::kCPU, config.comm, &guard.stop_notice());
  guard.join(communicator, folder);
  guard.begin_attempt(launch.restart + 1);
  communicator->barrier("start of training", 60);
  guard.begin_training();
  for (int64_t step = 1; step <= 20; ++step) {
    guard.begin_step(step);
    {
      const RunGuard::Activity activity(guard, "waiting for data", RunGuard::Limit::kStep);
      static_cast<void>(guard.strike("data"));
    }
    static_cast<void>(guard.strike("step"));
    at::Tensor x = at::ones({10});
    communicator->all_reduce(x, "exchange of gradients").wait();
    if (communicator->gather(stop_requested() ? "stop" : "", "signals").front() == "stop") {
      throw Interrupted("stopped and saved");
    }
    guard.end_step();
  }
}

/// The exit code that gato-train would give.
int run_worker() {
  install_signal_handlers();
  TrainingConfig config;
  config.comm.timeout_seconds = 2;
  config.comm.connect_seconds = 60;
  config.train.hang_seconds = 3;
  const Launch launch = detect_launch(process_environment());
  try {
    RunGuard guard(config, launch);
    guard.watch([&] { work(guard, launch, config); });
    return 0;
  } catch (const PeerError&) {
    return 76;
  } catch (const Interrupted&) {
    return 75;
  } catch (const NoProgressError&) {
    return 93;
  } catch (const ConfigError&) {
    return 2;
  } catch (const std::exception&) {
    return 1;
  }
}

/// Not a test: what the tests start as processes of their own.
TEST(RunGuardWorker, DISABLED_Process) { ::_exit(run_worker()); }

class RunGuardTest : public testing::Test {
 protected:
  ~RunGuardTest() override {
    for (const pid_t child : children_) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  }

  void start(int64_t size, const std::string& faults, int restart = 0, int missing = 0) {
    children_.clear();
    const int port = free_port();
    for (int64_t rank = 0; rank < size - missing; ++rank) {
      const std::vector<std::string> variables = {cat("RANK=", rank),
                                                  cat("WORLD_SIZE=", size),
                                                  cat("LOCAL_RANK=", rank),
                                                  cat("LOCAL_WORLD_SIZE=", size),
                                                  "MASTER_ADDR=127.0.0.1",
                                                  cat("MASTER_PORT=", port),
                                                  cat("TORCHELASTIC_RESTART_COUNT=", restart),
                                                  cat("TORCHELASTIC_ERROR_FILE=", error_file(rank)),
                                                  cat("GATO_FAULTS=", faults),
                                                  cat(kFolder, "=", folder_.path().string()),
                                                  "OMP_NUM_THREADS=1"};
      const pid_t child = ::fork();
      if (child == 0) {
        for (const std::string& variable : variables) {
          const size_t cut = variable.find('=');
          ::setenv(variable.substr(0, cut).c_str(), variable.substr(cut + 1).c_str(), 1);
        }
        ::execl("/proc/self/exe", "run_guard_worker", "--gtest_filter=RunGuardWorker.*",
                "--gtest_also_run_disabled_tests", nullptr);
        ::_exit(99);
      }
      children_.push_back(child);
    }
  }

  /// The exit code, or minus the signal; -1000 where the process still runs after `seconds`.
  int end_of(int64_t rank, int seconds = 60) {
    const auto deadline = Clock::now() + std::chrono::seconds(seconds);
    int status = 0;
    while (::waitpid(children_.at(static_cast<size_t>(rank)), &status, WNOHANG) == 0) {
      if (Clock::now() > deadline) return -1000;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

  [[nodiscard]] std::string log_of(int64_t rank) const {
    std::ifstream file(folder_ / "logs" / cat("rank-", rank, ".log"));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] std::string error_file(int64_t rank) const { return (folder_ / cat("error-", rank, ".json")).string(); }
  void expect_in_log(int64_t rank, std::initializer_list<const char*> parts) const {
    const std::string log = log_of(rank);
    for (const char* part : parts) EXPECT_NE(log.find(part), std::string::npos) << "no '" << part << "' in " << log;
  }

  test::TempFolder folder_;
  std::vector<pid_t> children_;
};

TEST_F(RunGuardTest, AnUndisturbedRunEndsWell) {
  start(3, "");
  for (int64_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(end_of(rank), 0);
    const Path path = run::rank_state_path(folder_ / "ranks", rank);
    EXPECT_EQ(run::parse_rank_state(read_file(path), path.string()).end, run::RankEnd::kDone);
    expect_in_log(rank, {"launcher=env rank "});
    EXPECT_FALSE(std::filesystem::exists(error_file(rank)));
  }
}

TEST_F(RunGuardTest, AKilledProcessIsNamedByAllOthers) {
  start(3, "step=5,rank=1,kind=kill");
  EXPECT_EQ(end_of(1), -SIGKILL);
  for (const int64_t rank : {0, 2}) {
    EXPECT_EQ(end_of(rank), 76);
    expect_in_log(rank, {"at step 5", "rank 1 (", "died", "exchange of gradients", "all threads:", "thread "});
    EXPECT_NE(read_file(error_file(rank)).find("rank 1 ("), std::string::npos);
  }
}

TEST_F(RunGuardTest, AStoppedProcessIsNamedByAllOthers) {
  start(3, "step=5,rank=2,kind=stop");
  for (const int64_t rank : {0, 1}) {
    EXPECT_EQ(end_of(rank), 76);
    expect_in_log(rank, {"rank 2 (", "is stopped"});
  }
}

TEST_F(RunGuardTest, AnErrorOfOneIsToldByAllOthers) {
  start(2, "step=5,rank=1,kind=error");
  EXPECT_EQ(end_of(1), 1);
  EXPECT_EQ(end_of(0), 76);
  expect_in_log(0, {"rank 1 (", "failed: a fault was asked for"});
  EXPECT_NE(read_file(error_file(1)).find("a fault was asked for"), std::string::npos);
}

TEST_F(RunGuardTest, AProcessThatHangsSaysWhere) {
  start(1, "step=5,where=data,kind=hang");
  EXPECT_EQ(end_of(0), 76);
  expect_in_log(0, {"stands still at step 5 in 'waiting for data'", "all threads:", "nanosleep"});
}

TEST_F(RunGuardTest, TheThirdFailureAtOneStepEndsWith93) {
  for (int restart = 0; restart < 2; ++restart) {
    start(2, "step=5,rank=1,kind=error", restart);
    EXPECT_EQ(end_of(0), 76);
  }
  start(2, "step=5,rank=1,kind=error", 2);
  EXPECT_EQ(end_of(0), 93);
  start(2, "", 3);
  EXPECT_EQ(end_of(0), 93) << "refused from now on";
  EXPECT_EQ(end_of(1), 76);
  std::filesystem::remove(folder_ / "failures.json");
  start(2, "", 4);
  EXPECT_EQ(end_of(0), 0);
}

TEST_F(RunGuardTest, AStopSignalEndsAProcessThatWaitsForTheOthers) {
  start(2, "", 0, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  ::kill(children_[0], SIGTERM);
  EXPECT_EQ(end_of(0, 20), 75);
}

TEST_F(RunGuardTest, AStopSignalToOneInStartUpEndsAllAlike) {
  for (const size_t asked : {size_t{0}, size_t{2}}) {  // rank 0 serves the store
    start(3, "where=start,rank=1,kind=hang");
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    ::kill(children_[asked], SIGTERM);
    for (int64_t rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(end_of(rank, 20), 75) << "rank " << rank << ", asked was rank " << asked;
      expect_in_log(rank, {"was stopped by signal 15 before training began: there is nothing to save"});
    }
    expect_in_log(1, {cat("rank ", asked, " was stopped by").c_str()});
  }
}

TEST_F(RunGuardTest, ALostProcessWinsOverAStopSignal) {
  start(2, "step=5,rank=0,kind=term;step=5,rank=1,kind=kill");
  EXPECT_EQ(end_of(0), 76);
}

}  // namespace
}  // namespace gato::train

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <mutex>

#include "env/remote/batch.h"
#include "env/remote/environment.h"
#include "env/remote/values.h"
#include "gato/core/error.h"
#include "gato/env/collect.h"
#include "gato/env/conformance.h"
#include "gato/env/fields.h"
#include "support/child_process.h"

namespace gato::env::remote {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSteps = 6;
constexpr double kShortDeadline = 1;  // seconds; for workers that hang

TaskSpec walk_task() {
  TaskSpec spec;
  spec.id = "test/walk";
  spec.observation = {text_field("words"), continuous_field("place", 1, -20, 20)};
  spec.action = {continuous_field("push", 1, -2, 2)};
  spec.max_steps = kSteps;
  return spec;
}

/// What a worker does wrong, and at which of its calls of that kind (1: the first; 0: at none).
struct Fault {
  enum class Kind {
    kNone,
    kDie,
    kHang,
    kTrickle,
    kNonsense,
    kBadChecksum,
    kWrongAnswer,
    kWrongSize,
    kTwice,
    kRaise,
    kNotFinite,
    kOtherTask,
    kHugeFrame,
  } kind = Kind::kNone;
  int reset = 0, step = 0, act = 0, look = 0, open = 0;
};

/// A worker in a forked child: a walk that succeeds where it ends near 0. Only for this test, so it trusts its socket.
class FakeWorker {
 public:
  explicit FakeWorker(const Fault& fault) : fault_(fault) {}

  int run() {
    FrameReader reader(FrameType::kRequest);
    std::string bytes(1 << 16, '\0');
    while (true) {
      while (const auto body = reader.next()) answer(parse_request(*body));
      const ssize_t got = ::read(kWorkerSocket, bytes.data(), bytes.size());
      if (got <= 0) return 0;
      reader.append(std::string_view(bytes).substr(0, static_cast<size_t>(got)));
    }
  }

 private:
  struct Slot {
    double place = 0;
    int64_t steps = 0;
  };

  static void write_bytes(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(kWorkerSocket, bytes.data(), bytes.size());
      if (written <= 0) ::_exit(1);
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }

  void say(const Reply& reply, bool faulty) {
    std::string frame = make_frame(FrameType::kReply, encode(reply));
    switch (faulty ? fault_.kind : Fault::Kind::kNone) {
      case Fault::Kind::kDie: {
        const char* words = "the walk is washed away\n";
        if (::write(STDERR_FILENO, words, std::strlen(words)) < 0) ::_exit(1);
        ::raise(SIGKILL);
        break;
      }
      case Fault::Kind::kHang:
        while (true) ::pause();
      case Fault::Kind::kTrickle:
        for (const char byte : frame) {
          write_bytes({&byte, 1});
          ::usleep(50'000);
        }
        return;
      case Fault::Kind::kNonsense:
        frame = "Traceback (most recent call last): what a worker must never say here";
        break;
      case Fault::Kind::kBadChecksum:
        frame[13] = static_cast<char>(frame[13] ^ 1);
        break;
      case Fault::Kind::kWrongAnswer:
        frame = make_frame(FrameType::kReply, encode(Reply(Closed{})));
        break;
      case Fault::Kind::kTwice:
        frame += frame;
        break;
      case Fault::Kind::kHugeFrame:
        frame[11] = 0x7F;
        break;
      default:
        break;
    }
    write_bytes(frame);
  }

  void answer(const Request& request) {
    std::visit([this](const auto& call) { this->on(call); }, request);
  }

  void on(const Hello&) { say(Welcome{kProtocolVersion, static_cast<uint32_t>(::getpid()), {{"walk", "1"}}}, false); }
  void on(const ListTasks&) { say(Tasks{{{walk_task(), true}}}, false); }
  void on(const Close&) { say(Closed{}, false); }
  void on(const Open& call) {
    slots_.assign(call.slots, Slot{});
    TaskSpec spec = walk_task();
    const bool faulty = ++opens_ == fault_.open;
    if (faulty && fault_.kind == Fault::Kind::kOtherTask) spec.max_steps = 7;
    say(Opened{{spec, true}}, faulty);
  }
  void on(const Look&) {
    const bool faulty = ++looks_ == fault_.look;
    say(faulty ? Picture{1U << 14, 1U << 14} : Picture{4, 4}, false);
  }

  void on(const Reset& call) {
    const bool faulty = ++resets_ == fault_.reset;
    Observations answer;
    std::vector<StepValues> seen;
    for (size_t i = 0; i < call.slots.size(); ++i) {
      slots_[call.slots[i]] = {Rng(call.seeds[i]).uniform(-5, 5), 0};
      seen.push_back(observe(slots_[call.slots[i]]));
    }
    answer.columns = pack(walk_task().observation, seen);
    if (faulty && fault_.kind == Fault::Kind::kRaise) answer.failures = {{0, "no start"}};
    say(answer, faulty);
  }

  void on(const Step& call) {
    const bool faulty = ++steps_ == fault_.step;
    Steps answer;
    std::vector<StepValues> seen;
    const auto actions = unpack(walk_task().action, call.actions, call.slots.size());
    for (size_t i = 0; i < call.slots.size(); ++i) {
      Slot& slot = slots_[call.slots[i]];
      slot.place += static_cast<double>(actions[i][0].continuous[0]);
      const bool ends = ++slot.steps == kSteps;
      seen.push_back(observe(slot));
      answer.reward.push_back(-std::abs(slot.place));
      answer.terminated += '\0';
      answer.truncated += static_cast<char>(ends);
      answer.success += static_cast<char>(ends ? (std::abs(slot.place) < 1 ? 2 : 1) : 0);
    }
    if (faulty && fault_.kind == Fault::Kind::kNotFinite) seen[0][1].continuous[0] = NAN;
    answer.columns = pack(walk_task().observation, seen);
    if (faulty && fault_.kind == Fault::Kind::kRaise) answer.failures = {{0, "ValueError: no road"}};
    if (faulty && fault_.kind == Fault::Kind::kWrongSize) answer.columns.pop_back();
    say(answer, faulty);
  }

  void on(const Act& call) {
    const bool faulty = ++acts_ == fault_.act;
    std::vector<StepValues> actions;
    for (const uint32_t slot : call.slots) {
      StepValues action(1);
      action[0].continuous = {static_cast<float>(std::clamp(-slots_[slot].place, -2.0, 2.0))};
      actions.push_back(action);
    }
    Actions answer;
    answer.columns = pack(walk_task().action, actions);
    if (faulty && fault_.kind == Fault::Kind::kRaise) answer.failures = {{0, "lost its way"}};
    say(answer, faulty);
  }

  static StepValues observe(const Slot& slot) {
    StepValues values(2);
    values[0].text = "walk home";
    values[1].continuous = {static_cast<float>(slot.place)};
    return values;
  }

  Fault fault_;
  std::vector<Slot> slots_;
  int opens_ = 0, resets_ = 0, steps_ = 0, acts_ = 0, looks_ = 0;
};

/// Workers for a batch: the n-th one started has the n-th fault, and none where there are no more.
class Source {
 public:
  explicit Source(std::vector<Fault> faults = {}, double call_seconds = 20) : faults_(std::move(faults)) {
    limits_.call_seconds = call_seconds;
  }

  [[nodiscard]] WorkerSource source() {
    return {.borrow =
                [this] {
                  const Fault fault = started_ < faults_.size() ? faults_[started_] : Fault{};
                  ++started_;
                  const WorkerProgram program{.command = {}, .in_child = [fault] { return FakeWorker(fault).run(); }};
                  return std::make_unique<Worker>("walk", program, limits_);
                },
            .give_back = [this](std::unique_ptr<Worker>) { ++given_back_; }};
  }
  [[nodiscard]] std::unique_ptr<RemoteBatch> batch(int size, int workers = 1, int spare_restarts = 3) {
    return std::make_unique<RemoteBatch>(walk_task(), std::map<std::string, std::string>{{"walk", "1"}}, size, workers,
                                         source(), spare_restarts);
  }
  [[nodiscard]] size_t started() const { return started_; }
  [[nodiscard]] int given_back() const { return given_back_; }

 private:
  std::vector<Fault> faults_;
  RemoteLimits limits_;
  size_t started_ = 0;
  int given_back_ = 0;
};

std::vector<RolloutResult> play(RemoteBatch& batch, int episodes) {
  RolloutOptions options;
  for (int i = 0; i < episodes; ++i) options.seeds.push_back(static_cast<uint64_t>(100 + i));
  const auto policy = make_random_policy(batch.spec());
  return roll_out(batch, *policy, options);
}

int64_t failures_in(const std::vector<RolloutResult>& results) {
  return std::count_if(results.begin(), results.end(), [](const RolloutResult& r) { return !r.failure.empty(); });
}

TEST(RemoteBatchTest, PlaysTheSameHoweverSlotsAreDivided) {
  Source source;
  const auto alone = source.batch(1);
  const std::vector<RolloutResult> expected = play(*alone, 12);
  EXPECT_EQ(failures_in(expected), 0);
  for (const RolloutResult& result : expected) EXPECT_EQ(result.length, kSteps);
  for (const auto& [size, workers] : {std::pair{4, 1}, {5, 2}, {6, 6}, {3, 9}}) {
    Source others;
    auto batch = others.batch(size, workers);
    EXPECT_EQ(play(*batch, 12), expected) << size << " slots, " << workers << " workers";
    EXPECT_EQ(others.started(), static_cast<size_t>(std::min(size, workers)));
    batch.reset();
    EXPECT_EQ(others.given_back(), std::min(size, workers));
  }
}

struct Case {
  const char* name;
  Fault fault;
  const char* says;
};

class RemoteFaultTest : public testing::TestWithParam<Case> {};

/// One worker of two has a fault; what it costs is the episodes it played then.
TEST_P(RemoteFaultTest, CostsEpisodesAndNeverTheRun) {
  Source source({GetParam().fault}, kShortDeadline);
  const auto batch = source.batch(4, 2);
  const auto begin = Clock::now();
  const std::vector<RolloutResult> results = play(*batch, 16);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20));
  EXPECT_GE(failures_in(results), 1);
  EXPECT_LE(failures_in(results), 2);
  Source healthy;
  const auto reference = healthy.batch(4, 2);
  const std::vector<RolloutResult> expected = play(*reference, 16);
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].failure.empty()) {
      EXPECT_EQ(results[i], expected[i]);
    } else {
      EXPECT_NE(results[i].failure.find(GetParam().says), std::string::npos) << results[i].failure;
    }
  }
}

Fault at_step(Fault::Kind kind) {
  Fault fault;
  fault.kind = kind;
  fault.step = 3;
  return fault;
}

INSTANTIATE_TEST_SUITE_P(Steps, RemoteFaultTest,
                         testing::Values(Case{"Dies", at_step(Fault::Kind::kDie), "washed away"},
                                         Case{"Hangs", at_step(Fault::Kind::kHang), "was killed"},
                                         Case{"Trickles", at_step(Fault::Kind::kTrickle), "within 1.0"},
                                         Case{"TalksNonsense", at_step(Fault::Kind::kNonsense), "not a frame"},
                                         Case{"WrongChecksum", at_step(Fault::Kind::kBadChecksum), "checksum"},
                                         Case{"WrongAnswer", at_step(Fault::Kind::kWrongAnswer), "another answer"},
                                         Case{"WrongSize", at_step(Fault::Kind::kWrongSize), "columns"},
                                         Case{"AnswersTwice", at_step(Fault::Kind::kTwice), "more came"},
                                         Case{"HugeFrame", at_step(Fault::Kind::kHugeFrame), "claims"},
                                         Case{"Raises", at_step(Fault::Kind::kRaise), "ValueError: no road"},
                                         Case{"NotFinite", at_step(Fault::Kind::kNotFinite), "not finite"}),
                         [](const testing::TestParamInfo<Case>& tested) { return tested.param.name; });

TEST(RemoteBatchTest, AResetThatFailsIsTriedOnANewWorker) {
  Fault fault;
  fault.kind = Fault::Kind::kDie;
  fault.reset = 1;
  Source source({fault});
  const auto batch = source.batch(1);
  EXPECT_EQ(failures_in(play(*batch, 3)), 0);
  EXPECT_EQ(source.started(), 2U);
}

TEST(RemoteBatchTest, AnEpisodeThatCannotBeginFailsAtItsFirstStep) {
  Fault fault;
  fault.kind = Fault::Kind::kDie;
  fault.reset = 1;
  Source source({fault, fault});
  const auto batch = source.batch(1);
  const std::vector<RolloutResult> results = play(*batch, 3);
  EXPECT_EQ(failures_in(results), 1);
  EXPECT_NE(results[0].failure.find("cannot begin"), std::string::npos);
  EXPECT_EQ(results[0].length, 1);
}

TEST(RemoteBatchTest, GivesUpWhereWorkersKeepFailing) {
  const Fault fault = at_step(Fault::Kind::kDie);
  Source source(std::vector<Fault>(50, fault));
  const auto batch = source.batch(1);
  try {
    static_cast<void>(play(*batch, 40));
    FAIL() << "it went on";
  } catch (const EnvironmentError& error) {
    EXPECT_NE(std::string(error.what()).find("failed 4 times"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("washed away"), std::string::npos) << error.what();
  }
  EXPECT_EQ(source.started(), 4U);
}

TEST(RemoteBatchTest, FinishedEpisodesEarnRestarts) {
  // Each worker plays ten episodes of six steps and dies in the eleventh.
  Fault fault;
  fault.kind = Fault::Kind::kDie;
  fault.step = 10 * static_cast<int>(kSteps) + 1;
  Source source(std::vector<Fault>(50, fault));
  const auto batch = source.batch(1, 1, 0);
  const std::vector<RolloutResult> results = play(*batch, 60);
  EXPECT_EQ(failures_in(results), 5);
  EXPECT_EQ(return_record(results).episodes, 55);
}

TEST(RemoteBatchTest, AnotherTaskThanExpectedIsRefused) {
  Fault fault;
  fault.kind = Fault::Kind::kOtherTask;
  fault.open = 1;
  Source source({fault});
  const auto batch = source.batch(1);
  try {
    static_cast<void>(batch->reset(0, 1));
    FAIL() << "it was accepted";
  } catch (const EnvironmentError& error) {
    EXPECT_NE(std::string(error.what()).find("tools/setup --envs walk"), std::string::npos) << error.what();
  }
}

TEST(RemoteBatchTest, AWorkerThatCannotStartIsExplained) {
  RemoteLimits limits;
  limits.start_seconds = 10;
  const WorkerProgram program{.command = {"/bin/sh", "-c", "echo no module named walk >&2; exit 3"}, .in_child = {}};
  try {
    const Worker worker("walk", program, limits);
    FAIL() << "it started";
  } catch (const WorkerLost& error) {
    EXPECT_NE(std::string(error.what()).find("no module named walk"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("code 3"), std::string::npos) << error.what();
  }
}

TEST(RemoteBatchTest, AMachineThatHasNothingLeftForAWorkerCostsTheTask) {
  const auto end = gato::test::run_in_child([] {
    const rlimit none{3, 3};  // no descriptor beyond those that are open
    ::setrlimit(RLIMIT_NOFILE, &none);
    try {
      const Worker worker("walk", {.command = {"/bin/true"}, .in_child = {}}, RemoteLimits());
    } catch (const EnvironmentError& error) {
      return std::string(error.what()).find("cannot be started") == std::string::npos ? 1 : 0;
    }
    return 2;
  });
  EXPECT_EQ(end.exit_code, 0);
}

TEST(RemoteBatchTest, WorkersHaveLimitsAndLittleEnvironment) {
  RemoteLimits limits;
  limits.memory_mb = 512;
  limits.open_files = 64;
  ::setenv("GATO_SECRET_OF_THE_TEST", "1", 1);
  const WorkerProgram program{
      .command = {"/bin/sh", "-c", "ulimit -v; ulimit -n; ulimit -c; env | grep -c SECRET; ls /proc/self/fd | wc -l"},
      .in_child = {}};
  try {
    const Worker worker("walk", program, limits);
    FAIL() << "it started";
  } catch (const WorkerLost& error) {
    // stdin, stdout, stderr, the three of the worker and the one that ls opens
    EXPECT_NE(std::string(error.what()).find("524288\n64\n0\n0\n7"), std::string::npos) << error.what();
  }
}

TEST(RemoteBatchTest, FramesComeThroughSharedMemory) {
  Fault fault;
  fault.look = 2;
  Source source({fault});
  const auto batch = source.batch(2);
  static_cast<void>(batch->reset(0, 1));
  const auto frame = batch->frame(0);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->height, 4);
  EXPECT_EQ(frame->pixels.size(), 48U);
  EXPECT_FALSE(batch->frame(0).has_value()) << "a frame larger than the memory";
  StepValues push(1);
  push[0].continuous = {0};
  const int slot = 0;
  batch->start({&slot, 1}, {&push, 1});
  EXPECT_NE(batch->wait()[0].failure.find("claims a frame"), std::string::npos);
}

TEST(RemoteBatchTest, MisuseIsAContractError) {
  Source source;
  const auto batch = source.batch(2);
  StepValues push(1);
  push[0].continuous = {0};
  const std::vector<StepValues> two = {push, push};
  const std::vector<int> slots = {0, 1}, twice = {0, 0};
  EXPECT_THROW(batch->start(slots, two), ContractError);
  static_cast<void>(batch->reset(0, 1));
  static_cast<void>(batch->reset(1, 1));
  EXPECT_THROW(batch->start(twice, two), ContractError);
  EXPECT_THROW(static_cast<void>(batch->wait()), ContractError);
  batch->start(slots, two);
  EXPECT_THROW(static_cast<void>(batch->reset(0, 2)), ContractError);
  EXPECT_THROW(static_cast<void>(batch->frame(0)), ContractError);
  EXPECT_EQ(batch->wait().size(), 2U);
  EXPECT_THROW(static_cast<void>(batch->frame(2)), ContractError);
}

TaskEntry entry_of(Source& source) {
  TaskEntry entry;
  entry.id = "test/walk";
  entry.make = [&source] { return std::make_unique<RemoteEnvironment>(source.batch(1)); };
  entry.make_expert = make_remote_expert;
  return entry;
}

TEST(RemoteEnvironmentTest, KeepsTheContract) {
  // check_environment plays in several threads, which Source does not serve: one source each.
  TaskEntry entry;
  std::vector<std::unique_ptr<Source>> sources;
  std::mutex mutex;
  entry.id = "test/walk";
  entry.make = [&] {
    const std::lock_guard lock(mutex);
    sources.push_back(std::make_unique<Source>());
    return std::make_unique<RemoteEnvironment>(sources.back()->batch(1));
  };
  entry.make_expert = make_remote_expert;
  const std::vector<std::string> violations = check_environment(entry);
  EXPECT_TRUE(violations.empty()) << join(violations, "\n");
}

TEST(RemoteEnvironmentTest, DemonstrationsHoldLabelsAndExecutedActions) {
  Source source;
  const TaskEntry entry = entry_of(source);
  const auto environment = entry.make();
  const auto expert = entry.make_expert(*environment);
  ActionNoise noise;
  noise.levels = {0.5};
  std::string failure;
  const auto episode = record_episode(*environment, *expert, noise, 5, "an id", failure);
  ASSERT_TRUE(episode.has_value()) << failure;
  EXPECT_EQ(episode->num_steps, kSteps);
  EXPECT_TRUE(episode->success.has_value());
  EXPECT_NE(episode->label[0].continuous, episode->action[0].continuous);
}

TEST(RemoteEnvironmentTest, AnExpertThatFailsCostsTheEpisode) {
  Fault raises, dies;
  raises.kind = Fault::Kind::kRaise;
  raises.act = 2;
  dies.kind = Fault::Kind::kDie;
  dies.act = 2;
  for (const Fault& fault : {raises, dies}) {
    Source source({fault});
    const TaskEntry entry = entry_of(source);
    const auto environment = entry.make();
    const auto expert = entry.make_expert(*environment);
    std::string failure;
    EXPECT_FALSE(record_episode(*environment, *expert, ActionNoise{}, 5, "an id", failure).has_value());
    EXPECT_NE(failure, "");
    failure.clear();
    EXPECT_TRUE(record_episode(*environment, *expert, ActionNoise{}, 6, "an id", failure).has_value()) << failure;
  }
}

}  // namespace
}  // namespace gato::env::remote

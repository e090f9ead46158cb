#include "gato/train/communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "ranks.h"
#include "train/exchange_backend.h"

namespace gato::train {
namespace {

using test::free_port;
using test::in_threads;
using test::launch_of;
using test::with_ranks;

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(CommunicatorTest, AloneDoesNothing) {
  Communicator alone;
  EXPECT_EQ(alone.size(), 1);
  EXPECT_EQ(alone.backend(), "none");
  const at::Tensor x = at::arange(6, at::kFloat), y = at::zeros({6}, at::kFloat);
  alone.all_reduce(x, "sum").wait();
  alone.reduce_scatter(y, x, "parts").wait();
  EXPECT_TRUE(at::equal(x, y));
  EXPECT_EQ(alone.gather("mine", "texts"), std::vector<std::string>{"mine"});
  alone.barrier("end");
  EXPECT_EQ(alone.seconds_waited(), 0);
}

class Ranks : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(CommunicatorTest, Ranks, testing::Values(2, 3, 4), testing::PrintToStringParamName());

TEST_P(Ranks, AddUpFp32AndBf16) {
  with_ranks(GetParam(), [](const auto& all) {
    const int64_t n = all->size();
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kLong}) {
      const at::Tensor x = at::full({1000}, all->rank() + 1, type);
      all->all_reduce(x, "sum").wait();
      EXPECT_TRUE(at::equal(x, at::full({1000}, n * (n + 1) / 2, type)));
    }
  });
}

TEST_P(Ranks, GetPartsOfSumsAndGiveThemBackInPlace) {
  with_ranks(GetParam(), [](const auto& all) {
    const int64_t n = all->size(), part = 513;
    const at::Tensor x = at::arange(n * part, at::kFloat) * (all->rank() + 1);
    const at::Tensor own = x.slice(0, all->rank() * part, (all->rank() + 1) * part);
    all->reduce_scatter(own, x, "parts").wait();
    const at::Tensor expected = at::arange(n * part, at::kFloat) * (n * (n + 1) / 2);
    EXPECT_TRUE(at::equal(own, expected.slice(0, all->rank() * part, (all->rank() + 1) * part)));
    all->all_gather(x, own, "back").wait();
    EXPECT_TRUE(at::equal(x, expected));
  });
}

TEST_P(Ranks, BroadcastFromAnyRoot) {
  with_ranks(GetParam(), [](const auto& all) {
    for (int64_t root = 0; root < all->size(); ++root) {
      const at::Tensor x = at::full({7}, all->rank(), at::kFloat);
      all->broadcast(x, root, "state").wait();
      EXPECT_TRUE(at::equal(x, at::full({7}, root, at::kFloat)));
    }
  });
}

TEST_P(Ranks, GatherTextsOfDifferentLengths) {
  with_ranks(GetParam(), [](const auto& all) {
    const auto text = [](int64_t rank) { return std::string(static_cast<size_t>(rank * 1000), 'a') + '\0'; };
    const auto texts = all->gather(text(all->rank()), "texts");
    ASSERT_EQ(static_cast<int64_t>(texts.size()), all->size());
    for (int64_t rank = 0; rank < all->size(); ++rank) EXPECT_EQ(texts[static_cast<size_t>(rank)], text(rank));
    EXPECT_EQ(all->gather("", "nothing"), std::vector<std::string>(static_cast<size_t>(all->size())));
  });
}

TEST_P(Ranks, KeepOperationsApartThatAreOnTheirWayTogether) {
  with_ranks(GetParam(), [](const auto& all) {
    std::vector<at::Tensor> tensors;
    std::vector<Communicator::Work> works;
    for (int64_t i = 0; i < 20; ++i) {
      tensors.push_back(at::full({i % 2 == 0 ? 100000 : 3}, i, at::kFloat));
      works.push_back(all->all_reduce(tensors.back(), cat("bucket ", i)));
    }
    for (auto& work : works) work.wait();
    for (int64_t i = 0; i < 20; ++i) {
      const at::Tensor& x = tensors[static_cast<size_t>(i)];
      EXPECT_TRUE(at::equal(x, at::full_like(x, i * all->size())));
    }
  });
}

class Recorder : public OperationObserver {
 public:
  void began(std::string_view operation) override { note("began ", operation); }
  void ended(std::string_view operation) override { note("ended ", operation); }
  void failed(std::string_view operation, std::string_view cause) override {
    EXPECT_FALSE(cause.empty());
    note("failed ", operation);
  }
  std::vector<std::string> lines;

 private:
  void note(const char* what, std::string_view operation) { lines.push_back(cat(what, operation)); }
};

TEST(CommunicatorTest, TellsAnObserverOfWaiting) {
  with_ranks(2, [](const auto& all) {
    const auto recorder = std::make_shared<Recorder>();
    all->set_observer(recorder);
    all->barrier("the start");
    const std::vector<std::string> expected = {"began the start", "ended the start"};
    EXPECT_EQ(recorder->lines, expected);
    EXPECT_GT(all->seconds_waited(), 0);
  });
}

TEST(CommunicatorTest, TellsAnObserverOfTheFirstFailureAlone) {
  const int port = free_port();
  const auto recorder = std::make_shared<Recorder>();
  const auto errors = in_threads(2, [&](int64_t rank) {
    const auto all = Communicator::connect(launch_of(rank, 2, port), at::kCPU);
    all->barrier("start");
    if (rank == 1) return;
    all->set_observer(recorder);
    EXPECT_THROW(all->barrier("middle"), PeerError);
    EXPECT_THROW(all->barrier("end"), PeerError);
  });
  const std::vector<std::string> expected = {"began middle", "ended middle", "failed middle"};
  EXPECT_EQ(recorder->lines, expected);
}

/// An operation as NCCL's are: wait() returns at once, and the device is done later, or never.
class DeviceWork : public c10d::Work {
 public:
  explicit DeviceWork(std::shared_ptr<std::atomic<bool>> done, std::exception_ptr error = nullptr)
      : done_(std::move(done)), error_(std::move(error)) {}
  bool isCompleted() override { return *done_ || error_; }
  std::exception_ptr exception() const override { return error_; }
  bool wait(std::chrono::milliseconds) override { return true; }

 private:
  std::shared_ptr<std::atomic<bool>> done_;
  std::exception_ptr error_;
};

class DeviceBackend : public c10d::Backend {
 public:
  DeviceBackend() : Backend(0, 2) {}
  const std::string getBackendName() const override { return "stand-in"; }
  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>&, const c10d::AllreduceOptions&) override {
    return c10::make_intrusive<DeviceWork>(done, error);
  }
  std::shared_ptr<std::atomic<bool>> done = std::make_shared<std::atomic<bool>>(false);
  std::exception_ptr error;
};

class DeviceWorkTest : public testing::Test {
 protected:
  DeviceWorkTest() { all_->set_observer(recorder_); }
  c10::intrusive_ptr<DeviceBackend> backend_ = c10::make_intrusive<DeviceBackend>();
  std::shared_ptr<Recorder> recorder_ = std::make_shared<Recorder>();
  std::shared_ptr<Communicator> all_ =
      CommunicatorParts::over(launch_of(0, 2, 1), backend_, {}, std::chrono::milliseconds(200));
};

TEST_F(DeviceWorkTest, IsObservedUntilTheDeviceIsDone) {
  Communicator::Work work = all_->all_reduce(at::ones({3}), "sums");
  work.wait();
  EXPECT_FALSE(work.done());
  std::thread device([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    *backend_->done = true;
  });
  EXPECT_GT(seconds_of([&] { work.finish(); }), 0.02);
  device.join();
  EXPECT_TRUE(work.done());
  work.finish();
  const std::vector<std::string> expected = {"began sums", "ended sums", "began sums", "ended sums"};
  EXPECT_EQ(recorder_->lines, expected);
  EXPECT_GT(all_->seconds_waited(), 0.02);
}

TEST_F(DeviceWorkTest, ThatNeverEndsIsALostPeerAndNoHang) {
  Communicator::Work work = all_->all_reduce(at::ones({3}), "sums");
  try {
    work.finish();
    FAIL() << "a lost peer was not noticed";
  } catch (const PeerError& error) {
    EXPECT_NE(std::string(error.what()).find("'sums' of rank 0"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("not done by all within 0.2 s"), std::string::npos) << error.what();
  }
  const std::vector<std::string> expected = {"began sums", "ended sums", "began sums", "ended sums", "failed sums"};
  EXPECT_EQ(recorder_->lines, expected);
  EXPECT_THROW(all_->barrier("next"), PeerError);
}

TEST_F(DeviceWorkTest, ThatFailsOnTheDeviceSaysWhy) {
  backend_->error = std::make_exception_ptr(std::runtime_error("NCCL error: remote process exited"));
  Communicator::Work work = all_->all_reduce(at::ones({3}), "sums");
  try {
    work.finish();
    FAIL() << "the failure went unnoticed";
  } catch (const PeerError& error) {
    EXPECT_NE(std::string(error.what()).find("remote process exited"), std::string::npos) << error.what();
  }
}

TEST(CommunicatorTest, FinishingOnTheCpuIsWaiting) {
  with_ranks(2, [](const auto& all) {
    const at::Tensor x = at::ones({4}), part = at::zeros({2}), whole = at::zeros({8});
    Communicator::Work work = all->all_reduce(x, "sums");
    work.finish();
    EXPECT_TRUE(at::equal(x, at::full({4}, 2.0)));
    all->reduce_scatter(part, x, "parts").finish();
    EXPECT_TRUE(at::equal(part, at::full({2}, 4.0)));
    Communicator::Work gather = all->all_gather(whole, x, "back");
    gather.wait();
    EXPECT_TRUE(gather.done());
    gather.finish();
    Communicator::Work nothing;
    nothing.finish();
  });
}

TEST(CommunicatorTest, NamesTheRanksThatDoNotCome) {
  const int port = free_port();
  CommunicatorOptions options;
  options.connect_seconds = 1;
  const auto errors = in_threads(2, [&](int64_t rank) {  // ranks 0 and 1 of 4
    EXPECT_THROW((void)Communicator::connect(launch_of(rank, 4, port), at::kCPU, options), PeerError);
    (void)Communicator::connect(launch_of(rank == 0 ? 0 : 1, 4, port), at::kCPU, options);
  });
  EXPECT_NE(errors[0].find("ranks 2, 3 did not come"), std::string::npos) << errors[0];
}

TEST(CommunicatorTest, SaysWhereRank0WasLookedFor) {
  const int port = free_port();
  CommunicatorOptions options;
  options.connect_seconds = 1;
  try {
    (void)Communicator::connect(launch_of(1, 2, port), at::kCPU, options);
    FAIL();
  } catch (const PeerError& error) {
    EXPECT_NE(std::string(error.what()).find(cat("127.0.0.1:", port)), std::string::npos) << error.what();
  }
}

TEST(CommunicatorTest, RefusesAnUnknownInterface) {
  CommunicatorOptions options;
  options.interface = "nosuch0";
  try {
    (void)Communicator::connect(launch_of(0, 2, free_port()), at::kCPU, options);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("nosuch0"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("lo"), std::string::npos) << error.what();
  }
}

TEST(CommunicatorTest, RefusesAnUnknownMaster) {
  Launch launch = launch_of(0, 2, free_port());
  launch.master_address = "no.such.host.invalid";
  EXPECT_THROW((void)Communicator::connect(launch, at::kCPU), ConfigError);
}

TEST(CommunicatorTest, ALostRankIsAnErrorForTheOthersAtOnce) {
  const int port = free_port();
  const auto errors = in_threads(3, [&](int64_t rank) {
    auto all = Communicator::connect(launch_of(rank, 3, port), at::kCPU);
    all->barrier("start");
    if (rank == 2) return;  // its connections close
    const at::Tensor x = at::ones({100000}, at::kFloat);
    const double seconds = seconds_of([&] { EXPECT_THROW(all->all_reduce(x, "bucket 7").wait(), PeerError); });
    EXPECT_LT(seconds, 10);
    EXPECT_LT(seconds_of([&] { EXPECT_THROW(all->barrier("next"), PeerError); }), 1);
    all->barrier("last");
  });
  EXPECT_NE(errors[0].find("'bucket 7' of rank 0"), std::string::npos) << errors[0];
  EXPECT_EQ(errors[2], "");
}

TEST(CommunicatorTest, AStoppedRankIsAnErrorAfterTheTimeout) {
  const int port = free_port();
  CommunicatorOptions options;
  options.timeout_seconds = 1;
  std::atomic<bool> done{false};
  const auto errors = in_threads(2, [&](int64_t rank) {
    const auto all = Communicator::connect(launch_of(rank, 2, port), at::kCPU, options);
    all->barrier("start");
    if (rank == 1) {
      while (!done) std::this_thread::yield();
      return;
    }
    const double seconds = seconds_of([&] { EXPECT_THROW(all->barrier("step 5"), PeerError); });
    EXPECT_GT(seconds, 0.5);
    EXPECT_LT(seconds, 10);
    done = true;
  });
  EXPECT_EQ(errors[0], "");
  EXPECT_EQ(errors[1], "");
}

TEST(CommunicatorTest, ALongBarrierOutlivesTheTimeout) {
  CommunicatorOptions options;
  options.timeout_seconds = 0.3;
  with_ranks(
      2,
      [](const auto& all) {
        if (all->rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(800));
        all->barrier("saving", 30);
      },
      options);
}

}  // namespace
}  // namespace gato::train

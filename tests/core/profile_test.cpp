#include "gato/core/profile.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "support/temp_folder.h"

namespace gato {
namespace {

using profile::Scope;

void spend(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

const profile::Part* find(const profile::Recording& recording, const std::string& name) {
  for (const profile::Part& part : recording.parts) {
    if (part.name == name) return &part;
  }
  return nullptr;
}

TEST(ProfileTest, NestedScopesCountTheirOwnTimeOnly) {
  profile::start();
  for (int i = 0; i < 3; ++i) {
    const Scope outer("outer");
    spend(std::chrono::microseconds(200));
    const Scope inner("inner");
    spend(std::chrono::microseconds(2000));
  }
  const profile::Recording recording = profile::stop();
  ASSERT_EQ(recording.parts.size(), 2U);
  EXPECT_EQ(recording.parts[0].name, "inner");  // longest first
  EXPECT_EQ(recording.parts[0].calls, 3);
  EXPECT_GE(recording.parts[0].seconds, 0.006);
  EXPECT_GE(recording.parts[1].seconds, 0.0006);
  // Everything inside the outer scopes is in one of the two, once: nothing twice.
  double covered = recording.outside;
  for (const profile::Part& part : recording.parts) covered += part.seconds;
  EXPECT_NEAR(covered, recording.seconds, 1e-6);
}

TEST(ProfileTest, NothingIsRecordedOutsideARecording) {
  EXPECT_FALSE(profile::recording());
  { const Scope before("before"); }
  profile::start();
  EXPECT_TRUE(profile::recording());
  { const Scope during("during"); }
  const profile::Recording recording = profile::stop();
  { const Scope after("after"); }
  EXPECT_EQ(recording.parts.size(), 1U);
  EXPECT_TRUE(profile::stop().parts.empty());  // no start
  profile::start();
  EXPECT_TRUE(profile::stop().parts.empty());  // "after" came in between
}

TEST(ProfileTest, ScopesThatCrossTheEdgesOfARecordingAreLeftOut) {
  {
    const Scope before("before");
    profile::start();
    const Scope inside("inside");
  }
  {
    const Scope open("open");
    EXPECT_EQ(profile::stop().parts.size(), 1U);
  }
  profile::start();
  {
    const Scope first("first");
    profile::start();  // forgets
    const Scope second("second");
  }
  const profile::Recording recording = profile::stop();
  EXPECT_NE(find(recording, "second"), nullptr);
  EXPECT_EQ(find(recording, "first"), nullptr);
}

TEST(ProfileTest, ThreadsAreAddedUpAndToldApart) {
  profile::start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 50; ++i) const Scope scope("work");
    });
  }
  for (std::thread& thread : threads) thread.join();
  const profile::Recording recording = profile::stop();
  ASSERT_NE(find(recording, "work"), nullptr);
  EXPECT_EQ(find(recording, "work")->calls, 150);
  std::set<int64_t> numbers;
  for (const profile::Event& event : recording.events) numbers.insert(event.thread);
  EXPECT_EQ(numbers.size(), 3U);
}

TEST(ProfileTest, StoppingWhileOthersWorkIsSafe) {
  std::atomic<bool> done = false;
  std::thread worker([&] {
    while (!done) {
      const Scope outer("outer");
      const Scope inner("inner");
    }
  });
  for (int i = 0; i < 200; ++i) {
    profile::start();
    std::this_thread::yield();
    for (const profile::Part& part : profile::stop().parts) EXPECT_GE(part.seconds, 0);
  }
  done = true;
  worker.join();
}

/// What hooks heard, of one thread.
std::vector<std::string> heard;
void hear_enter(const char* name) { heard.emplace_back(name); }
void hear_leave() { heard.emplace_back("end"); }

class RangeHooksTest : public testing::Test {
 protected:
  void SetUp() override {
    heard.clear();
    profile::set_range_hooks({&hear_enter, &hear_leave});
  }
  void TearDown() override { profile::set_range_hooks({}); }
};

TEST_F(RangeHooksTest, HearScopesInPairsWithOrWithoutARecording) {
  {
    const Scope outer("outer");
    const Scope inner("weight", " backward");
  }
  EXPECT_EQ(heard, (std::vector<std::string>{"outer", "weight backward", "end", "end"}));
  EXPECT_FALSE(profile::recording());
  EXPECT_TRUE(profile::stop().parts.empty());
  profile::start();
  { const Scope both("both"); }
  EXPECT_EQ(profile::stop().parts.size(), 1U);
  EXPECT_EQ(heard.size(), 6U);
}

TEST_F(RangeHooksTest, EndsAreTheirsWhoHeardTheBeginning) {
  profile::set_range_hooks({});
  {
    const Scope before("before");
    profile::set_range_hooks({&hear_enter, &hear_leave});
  }
  EXPECT_TRUE(heard.empty());
  {
    const Scope during("during");
    profile::start();  // of which this scope knows nothing
  }
  EXPECT_TRUE(profile::stop().parts.empty());
  EXPECT_EQ(heard, (std::vector<std::string>{"during", "end"}));
  profile::set_range_hooks({});
  { const Scope after("after"); }
  EXPECT_EQ(heard.size(), 2U);
  EXPECT_THROW(profile::set_range_hooks({&hear_enter, nullptr}), ContractError);
}

TEST(ProfileTest, InternGivesOnePointerPerText) {
  const std::string name = "attention.qkv";
  const char* kept = profile::intern(name);
  EXPECT_EQ(kept, profile::intern("attention.qkv"));
  EXPECT_NE(static_cast<const void*>(kept), static_cast<const void*>(name.c_str()));
  EXPECT_STREQ(kept, "attention.qkv");
}

TEST(ProfileTest, TableIsPerStep) {
  profile::Recording recording;
  recording.seconds = 0.4;
  recording.outside = 0.1;
  recording.parts = {{"linear", 8, 0.3}};
  const std::string table = profile::table(recording, 4);
  EXPECT_NE(table.find("linear"), std::string::npos);
  EXPECT_NE(table.find("75.000"), std::string::npos);   // 0.3 s in 4 steps
  EXPECT_NE(table.find("100.000"), std::string::npos);  // the whole step
  EXPECT_NE(table.find(" 2.0 "), std::string::npos);    // calls
  EXPECT_THROW((void)profile::table(recording, 0), ContractError);
}

TEST(ProfileTest, TraceIsJsonWithOneEventPerScope) {
  test::TempFolder folder("profile");
  profile::start();
  {
    const Scope outer("a \"quoted\" name");
    const Scope inner("inner");
  }
  const profile::Recording recording = profile::stop();
  profile::write_chrome_trace(recording, folder / "trace.json");
  const Json json = parse_json(read_file(folder / "trace.json"), "trace.json");
  ASSERT_EQ(json["traceEvents"].size(), 2U);
  EXPECT_EQ(json["traceEvents"][0]["name"], "inner");
  EXPECT_EQ(json["traceEvents"][1]["name"], "a \"quoted\" name");
  EXPECT_EQ(json["traceEvents"][1]["ph"], "X");
  EXPECT_GE(json["traceEvents"][1]["dur"].get<double>(), json["traceEvents"][0]["dur"].get<double>());
}

}  // namespace
}  // namespace gato

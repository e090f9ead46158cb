#include "gato/core/stack_dump.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace gato {
namespace {

#ifdef __SANITIZE_THREAD__
constexpr size_t kSilentThreads = 1;  // the sanitizer's own, which takes no signal
#else
constexpr size_t kSilentThreads = 0;
#endif

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(StackDumpTest, ShowsEveryThreadByName) {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::atomic<int> running{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      pthread_setname_np(pthread_self(), "waits");
      std::unique_lock lock(mutex);
      ++running;
      changed.wait(lock, [&] { return done; });
    });
  }
  threads.emplace_back([&] {
    pthread_setname_np(pthread_self(), "computes");
    ++running;
    for (;;) {
      const std::lock_guard lock(mutex);
      if (done) return;
    }
  });
  while (running < 4) std::this_thread::yield();
  const std::string text = stacks_of_all_threads();
  EXPECT_EQ(count(text, " waits"), 3U) << text;
  EXPECT_EQ(count(text, " computes"), 1U) << text;
  EXPECT_GE(count(text, "pthread_cond_wait"), 3U) << text;
  EXPECT_EQ(count(text, "does not answer"), kSilentThreads) << text;
  EXPECT_GE(count(stacks_of_all_threads(), "pthread_cond_wait"), 3U) << "a second time";
  {
    const std::lock_guard lock(mutex);
    done = true;
  }
  changed.notify_all();
  for (std::thread& thread : threads) thread.join();
}

TEST(StackDumpTest, DoesNotWaitForAThreadThatBlocksTheSignal) {
  std::atomic<bool> blocked{false}, done{false};
  std::thread deaf([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    blocked = true;
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  while (!blocked) std::this_thread::yield();
  const auto begin = std::chrono::steady_clock::now();
  const std::string text = stacks_of_all_threads(0.05);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(count(text, "does not answer"), kSilentThreads + 1) << text;
  done = true;
  deaf.join();
}

}  // namespace
}  // namespace gato

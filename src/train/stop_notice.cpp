#include "stop_notice.h"

#include <atomic>
#include <chrono>
#include <future>
#include <thread>
#include <utility>

#include "exchange_backend.h"
#include "gato/core/log.h"

namespace gato::train {
namespace {

constexpr const char *kWord = "stop/word", *kKnown = "stop/known";
constexpr auto kPatience = std::chrono::seconds(4), kAnswer = std::chrono::seconds(2);

}  // namespace

/// A connection of its own: that of the process may be waiting for others.
struct StopNotice::State {
  Launch launch;
  std::shared_ptr<void> server;  // others may still have to hear of a stop when the communicator is gone
  StorePointer store;
  std::mutex mutex;    // of all below
  bool busy = false;   // a call is under way, maybe for ever
  bool known = false;  // this process has been counted
  std::string word;    // once heard

  bool take() {
    const std::lock_guard lock(mutex);
    return !std::exchange(busy, true);
  }
  void release() {
    const std::lock_guard lock(mutex);
    busy = false;
  }
  void count_own() {
    const bool is_counted = [this] {
      const std::lock_guard lock(mutex);
      return std::exchange(known, true);
    }();
    if (!is_counted) static_cast<void>(store->add(kKnown, 1));  // which may take for ever: not with the mutex held
  }
};

/// Lets `use` ask the store on a thread of its own: where the process that serves it is stopped, no answer ever comes.
/// One call at a time. Whether it came to an end in time.
bool StopNotice::ask(const std::shared_ptr<State>& state, const std::function<void(State&)>& use) {
  const auto deadline = std::chrono::steady_clock::now() + kAnswer;
  while (!state->take()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const auto done = std::make_shared<std::promise<void>>();
  std::future<void> end = done->get_future();
  std::thread([state, use, done] {
    try {
      use(*state);
    } catch (const std::exception&) {  // the store is gone
    }
    state->release();
    done->set_value();
  }).detach();
  return end.wait_until(deadline) == std::future_status::ready;
}

std::shared_ptr<StopNotice::State> StopNotice::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void StopNotice::open(const Launch& launch, std::shared_ptr<void> server) {
  try {
    auto made = std::make_shared<State>();
    made->launch = launch;
    made->server = std::move(server);
    made->store = open_store(launch, kPatience, /*serve=*/false);
    const std::lock_guard lock(mutex_);
    state_ = std::move(made);
  } catch (const std::exception& error) {
    log::warning("train", "a stop signal before training begins will not reach the other processes: ", error.what());
  }
}

void StopNotice::announce(const std::string& why) {
  const auto with = state();
  if (!with) return;
  ask(with, [why](State& to) {
    static_cast<void>(to.store->compareSet(kWord, std::string(), why));
    to.count_own();
  });
}

std::string StopNotice::heard() {
  const auto with = state();
  if (!with) return "";
  ask(with, [](State& from) {
    if (!from.store->check({kWord})) return;
    const std::vector<uint8_t> bytes = from.store->get(kWord);
    {
      const std::lock_guard lock(from.mutex);
      from.word.assign(bytes.begin(), bytes.end());
    }
    from.count_own();
  });
  const std::lock_guard lock(with->mutex);
  return with->word;
}

void StopNotice::linger() {
  const auto with = state();
  if (!with || with->launch.rank != 0 || with->launch.agent_store) return;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  const auto all = std::make_shared<std::atomic<bool>>(false);
  while (!*all && std::chrono::steady_clock::now() < deadline) {
    ask(with, [all](State& at) { *all = at.store->add(kKnown, 0) >= at.launch.size; });
    if (!*all) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace gato::train

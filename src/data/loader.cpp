#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <variant>

#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"
#include "gato/data/batch.h"

namespace gato::data {

struct Loader::State {
  std::shared_ptr<const RowBuilder> builder;
  int64_t first_row = 0, batch_rows = 0;
  int rank = 0, world = 1;
  int64_t prefetch = 1;

  std::mutex mutex;
  std::condition_variable changed;
  struct Built {
    std::variant<Batch, std::exception_ptr> result;
    uint64_t quarantine_version = 0;  // Before it was built.
  };
  std::map<int64_t, Built> ready;
  int64_t next_to_build = 0, next_to_give = 0;
  bool stopping = false;
  LoaderStages stages;
  std::vector<std::thread> threads;

  [[nodiscard]] uint64_t quarantine_version() const {
    return builder->quarantine() == nullptr ? 0 : builder->quarantine()->version();
  }

  [[nodiscard]] Built build(int64_t index, StageSeconds* seconds) const {
    Built built;
    built.quarantine_version = quarantine_version();
    try {
      const RowRange rows = rows_of_rank(first_row + index * batch_rows, batch_rows, rank, world);
      built.result = builder->build(rows.first, rows.count, seconds);
    } catch (...) {
      built.result = std::current_exception();
    }
    return built;
  }

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      const auto begin = std::chrono::steady_clock::now();
      changed.wait(lock, [&] { return stopping || next_to_build < next_to_give + prefetch; });
      stages.idle += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (stopping) return;
      const int64_t index = next_to_build++;
      lock.unlock();
      StageSeconds seconds;
      Built built = build(index, &seconds);
      lock.lock();
      stages.work.add(seconds);
      ready.emplace(index, std::move(built));
      changed.notify_all();
    }
  }
};

Loader::Loader(std::shared_ptr<const RowBuilder> builder, int64_t first_row, int64_t batch_rows, int rank, int world,
               int threads, int64_t prefetch)
    : state_(std::make_unique<State>()) {
  GATO_CHECK(batch_rows >= world && threads >= 1 && prefetch >= 1, "loader of ", batch_rows, " rows, ", threads,
             " threads");
  state_->builder = std::move(builder);
  state_->first_row = first_row;
  state_->batch_rows = batch_rows;
  state_->rank = rank;
  state_->world = world;
  state_->prefetch = prefetch;
  for (int i = 0; i < threads; ++i) state_->threads.emplace_back([state = state_.get()] { state->work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

Batch Loader::next() {
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(state_->mutex);
  const int64_t index = state_->next_to_give;
  while (state_->ready.find(index) == state_->ready.end()) {
    state_->changed.wait_for(lock, std::chrono::milliseconds(100));
    if (stop_requested()) throw_if_stopped("waiting for training data");
  }
  auto node = state_->ready.extract(index);
  state_->next_to_give = index + 1;
  state_->stages.waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  lock.unlock();
  state_->changed.notify_all();
  State::Built built = std::move(node.mapped());
  // All batches before this one were given, so the list knows whatever they found; what a thread found while it was
  // ahead holds for later rows only.
  while (std::holds_alternative<Batch>(built.result) && built.quarantine_version != state_->quarantine_version()) {
    built = state_->build(index, nullptr);
  }
  if (auto* error = std::get_if<std::exception_ptr>(&built.result)) std::rethrow_exception(*error);
  return std::move(std::get<Batch>(built.result));
}

double Loader::seconds_waited() const { return stages().waited; }

LoaderStages Loader::stages() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stages;
}

namespace {

std::array<std::pair<const char*, double>, 4> named_stages(const StageSeconds& work) {
  std::array<std::pair<const char*, double>, 4> stages = {
      {{"plan", work.plan}, {"read", work.read}, {"decode", work.decode}, {"pack", work.pack}}};
  std::stable_sort(stages.begin(), stages.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return stages;
}

}  // namespace

std::string LoaderStages::slowest() const {
  return idle > work.total() ? "consumer" : named_stages(work).front().first;
}

std::string LoaderStages::text() const {
  if (work.total() <= 0) return "";
  std::vector<std::string> parts;
  for (const auto& [name, seconds] : named_stages(work)) {
    parts.push_back(cat(name, " ", format_fixed(100 * seconds / work.total(), 0), " %"));
  }
  return join(parts, ", ");
}

}  // namespace gato::data

#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <variant>

#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/data/batch.h"

namespace gato::data {

struct Loader::State {
  std::shared_ptr<const RowBuilder> builder;
  int64_t first_row = 0, batch_rows = 0;
  int rank = 0, world = 1;
  int64_t prefetch = 1;

  std::mutex mutex;
  std::condition_variable changed;
  std::map<int64_t, std::variant<Batch, std::exception_ptr>> ready;
  int64_t next_to_build = 0, next_to_give = 0;
  bool stopping = false;
  double seconds_waited = 0;
  std::vector<std::thread> threads;

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopping || next_to_build < next_to_give + prefetch; });
      if (stopping) return;
      const int64_t index = next_to_build++;
      lock.unlock();
      std::variant<Batch, std::exception_ptr> result;
      try {
        const RowRange rows = rows_of_rank(first_row + index * batch_rows, batch_rows, rank, world);
        result = builder->build(rows.first, rows.count);
      } catch (...) {
        result = std::current_exception();
      }
      lock.lock();
      ready.emplace(index, std::move(result));
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
  state_->seconds_waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  lock.unlock();
  state_->changed.notify_all();
  if (auto* error = std::get_if<std::exception_ptr>(&node.mapped())) std::rethrow_exception(*error);
  return std::move(std::get<Batch>(node.mapped()));
}

double Loader::seconds_waited() const {
  const std::lock_guard lock(state_->mutex);
  return state_->seconds_waited;
}

}  // namespace gato::data

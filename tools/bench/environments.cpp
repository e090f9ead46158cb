// Steps environments of a worker, for tools/bench/environments, which lets it take turns with the package in one
// process.
//
//   bench_environments --task ID --slots N      then lines `COUNT` on standard input: COUNT steps of all slots with the
//                                               same random actions, answered by {"seconds": [per step of all slots]}
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/env/rollout.h"

namespace {

using namespace gato;
using Clock = std::chrono::steady_clock;

/// All slots, always playing.
class Play {
 public:
  Play(const std::string& task, int slots)
      : batch_(env::make_environment_batch(task, slots, 1)), slots_(batch_->size()) {
    std::iota(slots_.begin(), slots_.end(), 0);
    for (const int slot : slots_) begin(slot);
  }

  /// Seconds that a step of all slots took, without new episodes.
  double step() {
    std::vector<env::StepValues> actions;
    for (size_t i = 0; i < slots_.size(); ++i) actions.push_back(env::random_action(batch_->spec(), random_));
    const auto begin_time = Clock::now();
    batch_->start(slots_, actions);
    const std::vector<env::StepResult> results = batch_->wait();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_time).count();
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (!results[i].failure.empty()) throw DataError(results[i].failure);
      if (results[i].done()) begin(slots_[i]);
    }
    return seconds;
  }

 private:
  void begin(int slot) { static_cast<void>(batch_->reset(slot, 4 * seed_++)); }

  std::unique_ptr<env::EnvironmentBatch> batch_;
  std::vector<int> slots_;
  Rng random_{1};
  uint64_t seed_ = 0;
};

int run(const std::vector<std::string>& arguments) {
  std::string task;
  int slots = 1;
  for (size_t i = 0; i + 1 < arguments.size(); i += 2) {
    if (arguments[i] == "--task") task = arguments[i + 1];
    if (arguments[i] == "--slots") slots = std::stoi(arguments[i + 1]);
  }
  Play play(task, slots);
  std::cout << nlohmann::json{{"task", task}, {"slots", slots}} << std::endl;
  for (int64_t count = 0; std::cin >> count;) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += play.step();
    std::cout << nlohmann::json{{"seconds", {sum / static_cast<double>(count)}}} << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "bench_environments: " << error.what() << "\n";
    return 1;
  }
}

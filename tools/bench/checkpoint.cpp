// Measures saving: how long training waits for it, and how long it takes. tools/bench/checkpoint runs it.
//
//   bench_checkpoint FOLDER GIGABYTES ROUNDS   state of so many GB (parameters and two moments in fp32)
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "gato/core/log.h"
#include "gato/core/threads.h"
#include "train/background_save.h"

namespace {

using namespace gato;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void figure(const std::string& name, double value, const char* unit) {
  std::cout << "figure checkpoint/" << name << " " << value << " " << unit << "\n";
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.at(values.size() / 2);
}

/// `elements` parameters in matrices as a model of that size has.
std::vector<model::ParameterStore::Declaration> matrices(int64_t elements) {
  constexpr int64_t kRows = 2048, kColumns = 1024;
  std::vector<model::ParameterStore::Declaration> declarations;
  for (int64_t i = 0; i * kRows * kColumns < elements; ++i) {
    const int64_t rows = std::min(kRows, (elements - i * kRows * kColumns + kColumns - 1) / kColumns);
    declarations.push_back({cat("blocks.", i, ".weight"), {rows, kColumns}, true});
  }
  return declarations;
}

train::SaveRequest request_of(int64_t step) {
  train::SaveRequest request;
  request.state.step = step;
  request.config_yaml = "train: {}\n";
  return request;
}

struct Times {
  std::vector<double> stall, whole;
};

Times save_rounds(const model::ParameterStore& store, const train::OptimizerState& optimizer, const Path& folder,
                  bool background, int rounds) {
  Times times;
  train::BackgroundSaver saver(store, optimizer, {folder, {}, checkpoint::process_tag(), background, {}});
  for (int round = 0; round < rounds; ++round) {
    saver.start(request_of(round % 2));
    const auto outcome = saver.wait();
    if (!outcome || !outcome->saved) throw CheckpointError(outcome ? outcome->problem : "no outcome");
    times.stall.push_back(outcome->stall_seconds);
    times.whole.push_back(outcome->seconds);
    std::filesystem::remove_all(folder);
  }
  return times;
}

int measure(const Path& folder, double gigabytes, int rounds) {
  log::set_level(log::Level::kError);
  at::set_num_threads(thread_budget());
  const auto elements = static_cast<int64_t>(gigabytes * 1e9 / 12);
  const model::ParameterStore store(matrices(elements), false);
  store.values().fill_(0.5);
  const train::OptimizerState optimizer = {at::full_like(store.values(), 0.25), at::full_like(store.values(), 0.125)};
  const double bytes = 12.0 * static_cast<double>(store.values().numel());
  std::cout << bytes / 1e9 << " GB of state, " << rounds << " saves, " << thread_budget() << " threads, "
            << folder.string() << "\n";
  const auto begin = Clock::now();
  { const train::BackgroundSaver touched(store, optimizer, {folder, {}, "touch", true, {}}); }
  figure("take_and_touch_memory", seconds_since(begin), "s");
  const Times background = save_rounds(store, optimizer, folder / "background", true, rounds);
  const Times at_once = save_rounds(store, optimizer, folder / "at_once", false, rounds);
  figure("stall", median(background.stall), "s");
  figure("stall/worst", *std::max_element(background.stall.begin(), background.stall.end()), "s");
  figure("stall/per_gb", median(background.stall) / (bytes / 1e9), "s/GB");
  figure("write", median(background.whole), "s");
  figure("write/rate", bytes / 1e9 / median(background.whole), "GB/s");
  figure("stall/without_background", median(at_once.stall), "s");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw ConfigError("usage: bench_checkpoint FOLDER GIGABYTES ROUNDS");
    return measure(argv[1], std::stod(argv[2]), std::stoi(argv[3]));
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}

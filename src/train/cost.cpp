#include "gato/train/cost.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/kernels/linear.h"

namespace gato::train {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr double kMemoryShare = 0.8;  // the rest: size classes of the allocator, fragments, scratch of libraries

/// Makers' data sheets: dense rates without sparsity; memory as the driver reports it.
const std::vector<DeviceKind>& sold_devices() {
  static const std::vector<DeviceKind> kinds{{"a100-80", 312e12, 19.5e12, 81920 * kMiB},
                                             {"h100", 989.4e12, 66.9e12, 81559 * kMiB},
                                             {"h200", 989.4e12, 66.9e12, 143771 * kMiB},
                                             {"l40s", 362e12, 91.6e12, 46068 * kMiB},
                                             {"rtx-4090", 165.2e12, 82.6e12, 24564 * kMiB}};
  return kinds;
}

/// FLOP/s of matrix products in fp32, the best of some within half a second.
double measure_products() {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kSide = 1024;
  const at::Tensor a = at::ones({kSide, kSide}), b = at::ones({kSide, kSide}), c = at::empty({kSide, kSide});
  const auto begin = Clock::now();
  double best = 0;
  while (Clock::now() - begin < std::chrono::milliseconds(500)) {
    const auto start = Clock::now();
    kernels::matmul_into(a, b, c, 0);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, 2.0 * kSide * kSide * kSide / seconds);
  }
  return best;
}

model::StepShape with_rows(const model::StepShape& step, int64_t rows) {
  const auto scale = [&](int64_t count) { return count * rows / std::max<int64_t>(1, step.rows); };
  return {rows, step.row_tokens, scale(step.loss_positions), scale(step.patches), step.recompute};
}

}  // namespace

std::string device_names() {
  std::vector<std::string> names;
  for (const DeviceKind& kind : sold_devices()) names.push_back(kind.name);
  names.emplace_back("cpu");
  return join(names, ", ");
}

DeviceKind find_device(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const DeviceKind& kind : sold_devices()) {
    if (kind.name == lower) return kind;
  }
  if (lower != "cpu") throw ConfigError(cat("there is no device named '", name, "'; known are ", device_names()));
  const double peak = measure_products();
  return {"cpu", peak, peak, static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE)};
}

double default_mfu(int64_t parameters) {
  if (parameters < 200'000'000) return 0.38;
  return parameters < 700'000'000 ? 0.43 : 0.46;
}

double scaling_efficiency(int64_t devices) {
  if (devices <= 1) return 1;
  if (devices <= 8) return 0.96;
  return devices <= 64 ? 0.80 : 0.20;
}

RunCost run_cost(double flops, double peak, double mfu, const RunCostOptions& options) {
  GATO_CHECK(flops >= 0 && peak > 0 && mfu > 0 && options.devices >= 1, "a run of ", flops, " operations on ",
             options.devices, " devices of ", peak, " FLOP/s at ", mfu, " makes no sense");
  RunCost cost;
  cost.seconds = flops / (peak * mfu * static_cast<double>(options.devices) * scaling_efficiency(options.devices));
  cost.device_hours = cost.seconds / 3600 * static_cast<double>(options.devices);
  cost.price = cost.device_hours * options.price_per_hour;
  return cost;
}

int64_t largest_micro_batch(const model::ModelConfig& config, const model::ModelShape& shape,
                            const model::StepShape& step, int64_t memory_bytes, int64_t most_rows) {
  const auto room = static_cast<int64_t>(kMemoryShare * static_cast<double>(memory_bytes)) -
                    model::total(model::state_bytes(config, shape));
  const auto fits = [&](int64_t rows) {
    return model::total(model::activation_bytes(config, shape, with_rows(step, rows))) <= room;
  };
  int64_t low = 0, high = most_rows;  // fits(low) holds, taking no row as fitting
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace gato::train

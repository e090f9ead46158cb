#include "process_facts.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/random.h"
#include "gato/core/version.h"
#include "gato/kernels/device.h"

namespace gato::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string digest(const std::string& text) { return cat(std::hex, hash_name(text)); }

/// Settings that may differ between processes without another result.
std::string shared_settings(TrainingConfig config) {
  config.train.threads = 0;
  config.train.device.clear();
  config.comm.interface.clear();
  return dump_config(config);
}

/// Names that are in one of the two or have other values.
std::vector<std::string> different(const ProcessFacts& a, const ProcessFacts& b) {
  std::vector<std::string> names;
  for (const auto& [name, value] : a) {
    const auto found = b.find(name);
    if (found == b.end() || found->second != value) names.push_back(name);
  }
  for (const auto& [name, value] : b) {
    if (a.find(name) == a.end()) names.push_back(name);
  }
  return names;
}

std::string value_of(const ProcessFacts& facts, const std::string& name) {
  const auto found = facts.find(name);
  return found == facts.end() ? "nothing" : found->second;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

ProcessFacts process_facts(const TrainingConfig& config, const data::OpenedData& data, const Launch& launch,
                           at::Device device) {
  ProcessFacts facts;
  facts["gato version"] = version();
  facts["configuration"] = digest(shared_settings(config));
  facts["data"] = digest(data::to_json(data.record));
  facts["device"] = device.is_cpu() ? "cpu" : kernels::gpu_properties(device).name;
  facts["number of processes"] = cat(launch.size);
  return facts;
}

std::string differences(const std::vector<ProcessFacts>& facts) {
  std::vector<std::string> lines;
  for (size_t rank = 1; rank < facts.size(); ++rank) {
    for (const std::string& name : different(facts.front(), facts[rank])) {
      lines.push_back(cat("rank ", rank, " has ", name, " ", value_of(facts[rank], name), ", rank 0 has ",
                          value_of(facts.front(), name)));
    }
  }
  return join(lines, "\n");
}

void check_alike(Communicator& communicator, const ProcessFacts& facts) {
  if (communicator.alone()) return;
  std::vector<ProcessFacts> all;
  for (const std::string& text : communicator.gather(Json(facts).dump(), "start-up check")) {
    all.push_back(parse_json(text, "the facts of another process").get<ProcessFacts>());
  }
  const std::string problem = differences(all);
  if (problem.empty()) return;
  throw ConfigError(
      cat("the processes of this run do not fit together; start all of them with the same program, "
          "configuration and data, on the same kind of device:\n",
          problem));
}

ExchangeSpeed measure_exchange(Communicator& communicator, at::Device device) {
  ExchangeSpeed speed;
  if (communicator.alone()) return speed;
  constexpr int64_t kElements = int64_t{1} << 20, kRounds = 3;
  const at::Tensor x = at::ones({kElements}, at::TensorOptions(at::kFloat).device(device)), y = x.clone();
  const at::Tensor small = at::ones({1}, x.options());
  const auto run = [&](const at::Tensor& tensor) {
    communicator.all_reduce(tensor, "measurement of the exchange").wait();
    kernels::synchronize(device);
  };
  run(small);  // connections, and NCCL's own start
  auto begin = Clock::now();
  run(small);
  speed.latency = seconds_since(begin);
  begin = Clock::now();
  for (int64_t i = 0; i < kRounds; ++i) run(x);
  speed.bytes_per_second = static_cast<double>(kRounds * kElements * 4) / std::max(1e-9, seconds_since(begin));
  begin = Clock::now();
  for (int64_t i = 0; i < kRounds; ++i) y.copy_(x);
  kernels::synchronize(device);
  std::vector<double> own;
  for (const ProcessTimes& times : gather_times(communicator, {seconds_since(begin), 0, 0})) own.push_back(times.step);
  const auto slowest = std::max_element(own.begin(), own.end());
  speed.slowest_rank = slowest - own.begin();
  speed.slowest_factor = *slowest / std::max(1e-9, median(own));
  return speed;
}

std::vector<ProcessTimes> gather_times(Communicator& communicator, const ProcessTimes& own) {
  if (communicator.alone()) return {own};
  const at::Tensor mine = at::tensor({own.step, own.exchange, own.data}, at::kDouble);
  const at::Tensor all = at::empty({3 * communicator.size()}, at::kDouble);
  communicator.all_gather(all, mine, "times of the processes").wait();
  const auto* value = all.const_data_ptr<double>();
  std::vector<ProcessTimes> times;
  for (int64_t rank = 0; rank < communicator.size(); ++rank, value += 3)
    times.push_back({value[0], value[1], value[2]});
  return times;
}

std::string StragglerWatch::look(const std::vector<ProcessTimes>& times) {
  constexpr int64_t kSayAgain = 10;
  if (times.size() < 2) return "";
  std::vector<double> busy;
  for (const ProcessTimes& one : times) busy.push_back(one.busy());
  const double middle = median(busy);
  std::vector<std::string> slow;
  for (size_t rank = 0; rank < busy.size(); ++rank) {
    int64_t& stretches = slow_for_[static_cast<int64_t>(rank)];
    stretches = busy[rank] > kSlow * middle ? stretches + 1 : 0;
    if (stretches < kWhile || (stretches - kWhile) % kSayAgain != 0) continue;
    slow.push_back(cat("rank ", rank, " works ", format_fixed(1000 * busy[rank], 1), " ms a step, the median is ",
                       format_fixed(1000 * middle, 1), " ms"));
  }
  if (slow.empty()) return "";
  return cat("all processes wait for the slowest: ", join(slow, "; "),
             ". Is something else running there, is its processor or GPU throttled, or its disk slow?");
}

}  // namespace gato::train

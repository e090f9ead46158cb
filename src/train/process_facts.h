#pragma once
#include <map>
#include <string>
#include <vector>

#include "gato/data/open.h"
#include "gato/train/communicator.h"
#include "gato/train/config.h"

/// What the processes of a run tell each other of themselves: at the start, and of every stretch of training.
namespace gato::train {

/// What must be alike in all processes, by name.
using ProcessFacts = std::map<std::string, std::string>;

/// Version, digest of the configuration, fingerprint of the data, kind of device, and the numbers of processes.
[[nodiscard]] ProcessFacts process_facts(const TrainingConfig& config, const data::OpenedData& data,
                                         const Launch& launch, at::Device device);

/// Throws ConfigError naming every rank and fact that differs from rank 0's, on all ranks alike.
void check_alike(Communicator& communicator, const ProcessFacts& facts);
/// The differences, one a line; "" when there are none. `facts` by rank.
[[nodiscard]] std::string differences(const std::vector<ProcessFacts>& facts);

/// What the exchange gives, measured when a run begins.
struct ExchangeSpeed {
  double bytes_per_second = 0;  ///< Of the tensor that is added up, not of what goes over the network.
  double latency = 0;           ///< Seconds of the smallest sum.
  int64_t slowest_rank = 0;     ///< The one whose own work, a copy of memory, took longest.
  double slowest_factor = 1;    ///< Its time by the median's.
};
[[nodiscard]] ExchangeSpeed measure_exchange(Communicator& communicator, at::Device device);

/// Seconds of one process in a stretch of training.
struct ProcessTimes {
  double step = 0;      ///< All of it, of a step.
  double exchange = 0;  ///< Of that waiting for other processes.
  double data = 0;      ///< Of that waiting for data.
  [[nodiscard]] double busy() const { return step - exchange - data; }
};
/// Every rank's, at every rank.
[[nodiscard]] std::vector<ProcessTimes> gather_times(Communicator& communicator, const ProcessTimes& own);

/// Names a process that is slower than the others for a while.
class StragglerWatch {
 public:
  static constexpr double kSlow = 1.2;  ///< Times the median of the busy seconds.
  static constexpr int64_t kWhile = 3;  ///< Stretches in a row before it is named.
  /// What to say after a stretch; "" mostly. Says it again after ten stretches more.
  [[nodiscard]] std::string look(const std::vector<ProcessTimes>& times);

 private:
  std::map<int64_t, int64_t> slow_for_;  // stretches by rank
};

}  // namespace gato::train

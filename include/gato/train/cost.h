#pragma once
#include <cstdint>
#include <string>

#include "gato/model/estimate.h"

/// What a run would take on a device: a plan with its assumptions, not a measurement.
namespace gato::train {

/// A kind of device. Peaks are dense, as the maker's data sheet says.
struct DeviceKind {
  std::string name;
  double peak_bf16 = 0, peak_fp32 = 0;  ///< FLOP/s of matrix products; bf16 with fp32 accumulation.
  int64_t memory_bytes = 0;             ///< That a program sees.
};

/// "a100-80, h100, h200, l40s, rtx-4090, cpu".
[[nodiscard]] std::string device_names();

/// The kind by its name, any case. "cpu" is this machine: its peak is measured by matrix products of half a second with
/// the present number of threads. Throws ConfigError with the known names.
[[nodiscard]] DeviceKind find_device(const std::string& name);

/// Share of the peak that training reaches on one device for a model of this size: what llm.c reached on H100 (38 % at
/// 124 M, 43 % at 355 M, 46 % at 1558 M parameters, sequences of 1024).
[[nodiscard]] double default_mfu(int64_t parameters);

/// Share of N devices' sum that N devices give together at one batch of 512 rows for all: what the simulation of
/// docs/scaling.md gives for H100 (96 % to 8 devices, 80 % to 64, 20 % beyond). More rows per device keep more.
[[nodiscard]] double scaling_efficiency(int64_t devices);

struct RunCostOptions {
  std::string device = {};    ///< "": nothing is asked.
  int64_t devices = 1;        ///< >= 1.
  double price_per_hour = 0;  ///< Of one device, in any currency; 0: not told.
  double mfu = 0;             ///< In (0, 1]; 0: default_mfu().
};

struct RunCost {
  double seconds = 0, device_hours = 0, price = 0;
};
/// `flops`: of the whole run.
[[nodiscard]] RunCost run_cost(double flops, double peak, double mfu, const RunCostOptions& options);

/// The largest number of rows per forward pass whose activations fit beside the state into `memory_bytes`, of which a
/// fifth is left for libraries and fragments; at most `most_rows`. 0: not even one row. `step` is of any number of rows
/// and is scaled.
[[nodiscard]] int64_t largest_micro_batch(const model::ModelConfig& config, const model::ModelShape& shape,
                                          const model::StepShape& step, int64_t memory_bytes, int64_t most_rows);

}  // namespace gato::train

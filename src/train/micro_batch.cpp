#include "micro_batch.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>
#include <new>
#include <sstream>
#include <string_view>

#include "gato/core/error.h"
#include "gato/kernels/memory.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {
namespace {

/// The number behind `key` in a file of lines "key: number unit"; -1 when there is none.
int64_t number_after(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    std::istringstream rest(line.substr(key.size()));
    int64_t number = -1;
    rest >> number;
    return rest ? number : -1;
  }
  return -1;
}

/// -1 for "max", which is no number, and for no such file.
int64_t number_in(const char* file) {
  std::ifstream in(file);
  int64_t number = -1;
  in >> number;
  return in ? number : -1;
}

int64_t left_in_control_group() {
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const int64_t used = number_in("/sys/fs/cgroup/memory.current");
  return limit >= 0 && used >= 0 ? std::max<int64_t>(0, limit - used) : -1;
}

model::StepShape shape_of(const BatchTensors& tensors) {
  model::StepShape step;
  step.rows = tensors.input.ids.size(0);
  step.row_tokens = tensors.input.ids.size(1);
  step.loss_positions = tensors.loss.positions.numel();
  step.patches = tensors.input.patch_index.defined() ? tensors.input.patch_index.numel() : 0;
  return step;
}

/// Bytes at the peak of forward and backward on the first `rows` rows.
int64_t measure(model::Model& model, const TrainingConfig& config, const data::Batch& batch, int64_t rows) {
  const at::Device device = model.store().device();
  try {
    const BatchTensors tensors = to_device(batch_tensors(batch, 0, rows), device);
    const int64_t before = kernels::memory_statistics(device).in_use;
    kernels::reset_peak_memory(device);
    model::ForwardOptions options;
    options.training = true;
    options.seed = static_cast<uint64_t>(config.train.seed);
    options.recompute = config.train.recompute;
    const model::LossResult result = model.loss(tensors.input, tensors.loss, options, config.train.soft_target_bins);
    model.backward(result.loss);
    const int64_t bytes = kernels::memory_statistics(device).peak - before;
    model.store().zero_gradients();
    return bytes;
  } catch (const std::exception& error) {
    model.store().zero_gradients();
    if (!is_out_of_memory(error)) throw;
    throw DeviceError(
        explain_out_of_memory(config, model.shape(), shape_of(batch_tensors(batch, 0, rows)), error.what()));
  }
}

std::vector<int64_t> divisors_from_the_largest(int64_t n) {
  std::vector<int64_t> divisors;
  for (int64_t d = n; d >= 1; --d) {
    if (n % d == 0) divisors.push_back(d);
  }
  return divisors;
}

const model::NamedCount& largest(const std::vector<model::NamedCount>& parts) {
  return *std::max_element(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.count < b.count; });
}

std::string bytes_text(int64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

}  // namespace

int64_t memory_budget(double share, at::Device device) {
  GATO_CHECK(share > 0 && share <= 1, "a share of memory of ", share);
  if (!device.is_cpu()) return static_cast<int64_t>(share * static_cast<double>(kernels::free_gpu_memory(device)));
  const int64_t kibibytes = number_after("/proc/meminfo", "MemAvailable:");
  const int64_t available = kibibytes >= 0 ? kibibytes * 1024 : int64_t{1} << 30;
  const int64_t group = left_in_control_group();
  const int64_t least = group >= 0 ? std::min(available, group) : available;
  return static_cast<int64_t>(share * static_cast<double>(least));
}

MicroBatchChoice choose_micro_batch(model::Model& model, const TrainingConfig& config, const data::Batch& batch,
                                    int64_t budget) {
  GATO_CHECK(batch.rows >= 1, "a micro-batch of an empty batch");
  MicroBatchChoice choice;
  const auto try_rows = [&](int64_t rows) {
    const int64_t bytes = measure(model, config, batch, rows);
    choice.measured.push_back({rows, bytes});
    if (bytes <= budget) choice.rows = std::max(choice.rows, rows);
    return bytes;
  };
  const int64_t one = try_rows(1);
  if (one > budget) {
    const model::StepShape step = shape_of(batch_tensors(batch, 0, 1));
    throw DeviceError(explain_out_of_memory(
        config, model.shape(), step,
        cat("forward and backward of one row take ", bytes_text(one), ", ", bytes_text(budget), " are free for it")));
  }
  if (batch.rows == 1) return choice;
  // Two rows may not be a divisor; they only give the slope.
  const int64_t two = measure(model, config, batch, 2);
  choice.measured.push_back({2, two});
  const int64_t per_row = std::max<int64_t>(two - one, 1);
  for (const int64_t rows : divisors_from_the_largest(batch.rows)) {
    if (rows == 1) break;  // known to fit
    if (one + (rows - 1) * per_row > budget) continue;
    if (rows > 2 ? try_rows(rows) <= budget : two <= budget) {
      choice.rows = rows;
      break;
    }
  }
  return choice;
}

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;  // a GPU's
  // LibTorch's own allocator has no error of its own.
  return dynamic_cast<const c10::Error*>(&error) != nullptr &&
         std::string_view(error.what()).find("can't allocate memory") != std::string_view::npos;
}

std::string explain_out_of_memory(const TrainingConfig& config, const model::ModelShape& shape,
                                  const model::StepShape& step, const std::string& cause) {
  const auto state = model::state_bytes(config.model, shape);
  model::StepShape as_configured = step;
  as_configured.recompute = config.train.recompute;
  const auto activations = model::activation_bytes(config.model, shape, as_configured);
  const bool state_is_it = model::total(state) > model::total(activations);
  const model::NamedCount& worst = largest(state_is_it ? state : activations);
  std::string text =
      cat("out of memory (", cause, "). The largest part is ", state_is_it ? "the state of the run, " : "",
          state_is_it ? worst.name : "activations of " + worst.name, ": ", bytes_text(worst.count), " of ",
          bytes_text(model::total(state)), " state");
  if (step.rows > 0) {
    text += cat(" and ", bytes_text(model::total(activations)), " activations of ", step.rows, " rows at once");
  }
  std::vector<std::string> advice;
  if (state_is_it) advice.emplace_back("take a smaller model (model.layers, model.width)");
  if (step.rows > 1) advice.push_back(cat("lower train.micro_batch_rows (now ", step.rows, ")"));
  if (step.rows > 0 && !config.train.recompute) advice.emplace_back("set train.recompute: true");
  if (!state_is_it) advice.push_back(cat("lower data.row_tokens (now ", step.row_tokens, ")"));
  return text + ". What helps: " + join(advice, ", or ");
}

}  // namespace gato::train

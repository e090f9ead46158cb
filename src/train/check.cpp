#include <set>
#include <sstream>

#include "gato/core/error.h"
#include "gato/model/estimate.h"
#include "micro_batch.h"
#include "session.h"

namespace gato::train {
namespace {

constexpr double kCpuShare = 0.6;          // of the speed of matrix products, on a quiet machine
constexpr int64_t kPaperTextSize = 32000;  // gato_spec 1.1: stands in while there is no tokenizer file

void add_table(std::ostringstream& out, const std::string& title, const std::vector<model::NamedCount>& parts,
               bool bytes) {
  const auto show = [&](int64_t count) {
    return bytes ? format_bytes(static_cast<double>(count)) : format_count(static_cast<double>(count));
  };
  out << title << ": " << show(model::total(parts)) << (bytes ? "" : cat(" (", model::total(parts), ")")) << "\n";
  for (const model::NamedCount& part : parts) out << "  " << part.name << ": " << show(part.count) << "\n";
}

/// The first data set or tokenizer file that is not there; "" when all are.
std::string missing_input(const TrainingConfig& config) {
  for (const std::string& name : config.data.datasets) {
    if (!std::filesystem::exists(name)) {
      return cat(name, " does not exist; make it with `gato-data collect --suite demo --out ", name, "`");
    }
  }
  const std::string& model = config.tokenizer.model;
  if (model.empty() || std::filesystem::exists(model)) return "";
  return cat(model, " does not exist; make it with `gato-data train-tokenizer --out ", model, " DATASET ...`");
}

/// What one forward pass holds, measured on the run's first rows where there is data.
struct Measured {
  model::StepShape step;
  double sequence_tokens = 0;  // mean length of a sequence
};

/// Without data: loss on a quarter of the positions, as in the paper's mixtures, sequences as long as rows.
Measured assume(const TrainingConfig& config, int64_t rows) {
  return {{rows, config.data.row_tokens, rows * config.data.row_tokens / 4, 0, config.train.recompute},
          static_cast<double>(config.data.row_tokens)};
}

Measured measure(const TrainingConfig& config, const data::Batch& batch, int64_t rows) {
  int64_t labels = 0, sequences = 0;
  for (size_t i = 0; i < batch.ids.size(); ++i) {
    const auto place = static_cast<int32_t>(i % static_cast<size_t>(batch.row_tokens));
    labels += batch.loss_weights[i] != 0 ? 1 : 0;
    sequences += batch.sources[i] >= 0 && batch.sequence_starts[i] == place ? 1 : 0;
  }
  const auto scale = [&](int64_t count) { return count * rows / batch.rows; };
  return {{rows, config.data.row_tokens, scale(labels), scale(static_cast<int64_t>(batch.patch_index.size())),
           config.train.recompute},
          static_cast<double>(batch.tokens) / static_cast<double>(std::max<int64_t>(1, sequences))};
}

void add_data(std::ostringstream& out, const data::OpenedData& opened, const data::Batch& batch) {
  const auto shares = opened.plan->shares(0);
  out << "data: " << shares.size() << " sources, rows filled to "
      << format_fixed(100 * static_cast<double>(batch.tokens) / static_cast<double>(batch.ids.size()), 1) << " %\n";
  for (const data::SourceShare& share : shares) {
    out << "  " << share.source << ": " << format_fixed(100 * share.asked_share, 1) << " % of tokens, "
        << format_fixed(100 * share.loss_share, 1) << " % of the loss, all seen once in "
        << format_count(share.epoch_rows) << " rows\n";
  }
}

/// What each of several processes has to do and to keep. `devices`: also that many.
void add_processes(std::ostringstream& out, const TrainingConfig& config, const model::ModelShape& shape,
                   int64_t devices) {
  constexpr int64_t kMomentBytes = 8, kMasterBytes = 4;  // per parameter: AdamW's two, and fp32 values
  const int64_t parameters = model::total(model::parameters_by_part(config.model, shape));
  const auto state = static_cast<double>(model::total(model::state_bytes(config.model, shape)));
  std::set<int64_t> sizes = {1, 2, 4, 8, 64};
  sizes.insert(devices);
  out << "each of n processes: rows per step, state (with train.shard_optimizer)\n";
  for (const int64_t n : sizes) {
    if (config.train.batch_rows % n != 0) {
      if (n == devices) out << "  " << n << ": train.batch_rows=" << config.train.batch_rows << " does not divide\n";
      continue;
    }
    const int64_t rows = config.train.batch_rows / n, micro = micro_rows(config.train, n);
    // Divided: the moments and, computing in bf16, the fp32 values, of which some are there whole as well.
    const int64_t divisible = model::divisible_parameters(config.model, shape);
    const auto divided = static_cast<double>(kMomentBytes * parameters + kMasterBytes * divisible);
    const auto whole_too = static_cast<double>(divisible > 0 ? kMasterBytes * (parameters - divisible) : 0);
    const double sharded = n == 1 ? state : state - divided + (divided + whole_too) / static_cast<double>(n);
    out << "  " << n << ": " << rows << " in " << rows / micro << (rows == micro ? " piece" : " pieces") << " of "
        << micro << ", " << format_bytes(state) << " (" << format_bytes(sharded) << ")\n";
  }
}

/// "3.1 days", "2.4 hours".
std::string long_time(double seconds) {
  if (seconds >= 2 * 86400) return cat(format_fixed(seconds / 86400, 1), " days");
  if (seconds >= 2 * 3600) return cat(format_fixed(seconds / 3600, 1), " hours");
  return format_seconds(seconds);
}

/// Whether memory suffices, and what the run takes.
void add_cost(std::ostringstream& out, const TrainingConfig& config, const RunCostOptions& options,
              const model::ModelShape& shape, const model::StepShape& step, double flops) {
  const DeviceKind device = find_device(options.device);
  const bool is_cpu = device.name == "cpu";
  const int64_t parameters = model::total(model::parameters_by_part(config.model, shape));
  const double mfu = options.mfu > 0 ? options.mfu : is_cpu ? kCpuShare : default_mfu(parameters);
  const int64_t most = std::max<int64_t>(1, config.train.batch_rows / options.devices);
  const int64_t rows = std::min(step.rows, most);
  const int64_t fitting = largest_micro_batch(config.model, shape, step, device.memory_bytes, most);
  const RunCost cost = run_cost(flops, device.peak_bf16, mfu, options);
  out << "on " << options.devices << " x " << device.name << ":\n"
      << "  assumed: " << format_fixed(device.peak_bf16 / 1e12, device.peak_bf16 < 1e13 ? 2 : 0) << " TFLOP/s "
      << (is_cpu ? "in fp32, just measured on this machine" : "in bf16 (maker's figure, dense)") << ", of which "
      << format_fixed(100 * mfu, 0) << " % is reached ("
      << (options.mfu > 0 ? "as given"
          : is_cpu        ? "the rest are operations that are no matrix products"
                          : "llm.c's share for this size on H100")
      << ")";
  if (options.devices > 1) {
    out << ", " << format_fixed(100 * scaling_efficiency(options.devices), 0)
        << " % of that with so many devices (simulated for a batch of 512 rows: docs/scaling.md); no restarts, no "
           "waiting for data";
  }
  out << "\n  memory: " << format_bytes(static_cast<double>(device.memory_bytes))
      << ", a fifth left for fragments and libraries; counted as on this CPU with model.precision as it is\n  ";
  if (fitting >= rows) {
    out << rows << " rows per forward pass fit; the largest micro-batch that fits has " << fitting << " rows\n";
  } else if (fitting > 0) {
    out << rows << " rows per forward pass do NOT fit: set train.micro_batch_rows=" << fitting << " or less\n";
  } else {
    out << "not even one row fits: the model or data.row_tokens is too large for this device\n";
  }
  if (options.devices > config.train.batch_rows) {
    out << "  train.batch_rows=" << config.train.batch_rows << " leaves some of the devices without a row\n";
  }
  out << "  time: " << long_time(cost.seconds) << ", " << format_count(cost.device_hours) << " device-hours";
  if (options.price_per_hour > 0) {
    out << ", cost " << format_fixed(cost.price, 2) << " at " << options.price_per_hour << " per device and hour";
  }
  out << "\n";
}

}  // namespace

std::string check_report(const TrainingConfig& config, const RunCostOptions& cost) {
  std::ostringstream out;
  const std::string missing = missing_input(config);
  const int64_t micro = config.train.micro_batch_rows.of(config.train.batch_rows);
  tokenizer::Vocabulary vocabulary(kPaperTextSize, config.tokenizer.private_discrete);
  Measured measured = assume(config, micro);
  if (missing.empty()) {
    const data::OpenedData opened = open_data(config);
    const data::Batch batch = data::RowBuilder(opened.plan, true).build(0, std::min<int64_t>(micro, data::kBlockRows));
    vocabulary = *opened.vocabulary;
    measured = measure(config, batch, micro);
    add_data(out, opened, batch);
  } else {
    out << "data: not opened: " << missing << "\n  (the figures below take " << kPaperTextSize
        << " text pieces and loss on a quarter of the positions)\n";
  }
  const model::ModelShape shape = model_shape(vocabulary);
  add_table(out, "parameters", model::parameters_by_part(config.model, shape), false);
  add_table(out, "state", model::state_bytes(config.model, shape), true);
  if (config.train.background_save) {
    const double bytes = 12.0 * static_cast<double>(model::total(model::parameters_by_part(config.model, shape)));
    out << "copy for saving in the background, in the CPU's memory: " << format_bytes(bytes)
        << " (train.background_save=false does without)\n";
  }
  add_processes(out, config, shape, cost.devices);
  add_table(out, cat("activations of ", micro, " rows"), model::activation_bytes(config.model, shape, measured.step),
            true);
  if (config.train.micro_batch_rows.is_auto()) {
    const int64_t available = memory_budget(1.0);
    out << "train.micro_batch_rows auto: a run measures it; by these figures up to "
        << largest_micro_batch(config.model, shape, measured.step, available, config.train.batch_rows)
        << " rows at once fit into the " << format_bytes(static_cast<double>(available))
        << " that are free on this machine\n";
  }
  const double tokens = static_cast<double>(config.train.steps) * static_cast<double>(config.train.batch_rows) *
                        static_cast<double>(config.data.row_tokens);
  const double per_token = model::training_flops(config.model, shape, measured.step, measured.sequence_tokens) /
                           static_cast<double>(micro * config.data.row_tokens);
  out << "tokens of the run: " << format_count(tokens) << " (" << config.train.steps << " steps of "
      << config.train.batch_rows << " rows)\n"
      << "floating-point operations: " << format_count(per_token) << " per token, " << per_token * tokens
      << " for the run\n";
  if (!cost.device.empty()) add_cost(out, config, cost, shape, measured.step, per_token * tokens);
  return out.str();
}

}  // namespace gato::train

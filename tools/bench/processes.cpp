// One process of tools/bench/processes: training steps of one model that several processes share, on command from
// standard input. Its place among them is in the variables RANK, WORLD_SIZE and so on.
//
//   run N       N steps; answers {"seconds": [...], "waited": seconds per step in the exchange, "cpu_seconds": ...}
//   exchange N  what a step exchanges N times without computing; answers {"seconds": [...]}
//   quit
//
// The first line it prints describes the model. All answers are one line of JSON.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <chrono>
#include <map>
#include <optional>

#include "commands.h"
#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/threads.h"
#include "gato/data/batch.h"
#include "gato/kernels/memory.h"
#include "gato/model/model.h"
#include "train/shared_parameters.h"
#include "train/updater.h"

namespace gato {
namespace {

using bench::Json;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string precision = "fp32";
  int64_t threads = 1, rows = 16, row_tokens = 512, micro_rows = 4;
  double bucket_mib = 0;
  bool sharded = false, overlap = true;
};

Options parse(int argc, char** argv) {
  Options options;
  const std::map<std::string, std::function<void(const std::string&)>> fields = {
      {"--dtype", [&](const std::string& text) { options.precision = text; }},
      {"--threads", [&](const std::string& text) { options.threads = std::stoll(text); }},
      {"--rows", [&](const std::string& text) { options.rows = std::stoll(text); }},
      {"--micro-rows", [&](const std::string& text) { options.micro_rows = std::stoll(text); }},
      {"--bucket-mib", [&](const std::string& text) { options.bucket_mib = std::stod(text); }},
      {"--overlap", [&](const std::string& text) { options.overlap = text == "yes"; }},
      {"--sharded", [&](const std::string& text) { options.sharded = text == "yes"; }}};
  for (int i = 1; i < argc; i += 2) {
    const auto field = fields.find(argv[i]);
    if (field == fields.end() || i + 1 == argc) {
      throw ConfigError(cat("cannot make sense of ", argv[i],
                            "; usage: bench_processes [--dtype fp32|bf16] [--threads N] [--rows N] [--micro-rows N] "
                            "[--bucket-mib X] [--overlap yes|no] [--sharded yes|no]"));
    }
    field->second(argv[i + 1]);
  }
  return options;
}

train::TrainingConfig make_config(const Options& options) {
  train::TrainingConfig config;  // the model `small` of tools/bench/train_step
  config.model.layers = 6;
  config.model.width = 256;
  config.model.heads = 8;
  config.model.head_dim = 32;
  config.model.hidden = 1024;
  config.model.patch_channels = 8;
  config.model.stochastic_depth = 0;
  config.model.precision = options.precision == "bf16" ? model::Precision::kBf16 : model::Precision::kFp32;
  config.train.batch_rows = options.rows;
  config.train.micro_batch_rows = {options.micro_rows};
  return config;
}

/// This process's share of the training of one model on random tokens.
class Trainer {
 public:
  static constexpr int64_t kVocabulary = 4097;

  Trainer(const Options& options, std::shared_ptr<train::Communicator> processes)
      : options_(options),
        config_(make_config(options)),
        processes_(std::move(processes)),
        model_(config_.model, {kVocabulary, kVocabulary - 1025, 1024}, 0, model::Model::Purpose::kTraining, at::kCPU,
               train::bucket_layout(kAboutParameters, processes_->size(), options.bucket_mib)),
        shared_(processes_, model_.store(), options.sharded),
        optimizer_(shared_.make_optimizer()),
        updater_(config_, shared_, model_, optimizer_) {
    const data::RowRange own =
        data::rows_of_rank(0, options.rows, static_cast<int>(processes_->rank()), static_cast<int>(processes_->size()));
    const int64_t micro = train::micro_rows(config_.train, processes_->size());
    for (int64_t row = own.first; row < own.first + own.count; row += micro) micro_.push_back(make_batch(row, micro));
  }

  [[nodiscard]] train::Communicator& processes() { return *processes_; }
  [[nodiscard]] Json facts() const {
    return {{"parameters", model_.store().num_parameters()},
            {"tokens_per_step", options_.rows * options_.row_tokens},
            {"buckets", model_.store().buckets().size()},
            {"rows_at_once", micro_.front().input.ids.size(0)}};
  }

  double step() {
    model_.store().zero_gradients();
    ++state_.step;
    std::vector<at::Tensor> losses;
    double weights = 0;
    for (const Batch& batch : micro_) {
      model::ForwardOptions options;
      options.training = true;
      options.step = state_.step;
      if (!processes_->alone()) options.listener = &shared_;
      if (&batch == &micro_.back() && options_.overlap) shared_.last_backward();
      const model::LossResult result = model_.loss(batch.input, batch.where, options);
      model_.backward(result.loss);
      losses.push_back(result.loss.detach());
      weights += static_cast<double>(batch.where.positions.numel());
    }
    updater_.begin(weights, losses, state_);
    exchange();
    updater_.update();
    shared_.share_values();
    ++state_.updates;
    return updater_.read().loss;
  }

  /// Gradients and sums of all processes, as Stepper does it.
  void exchange() {
    if (shared_.sharded()) {
      shared_.finish_gradients();
      updater_.measure();
      return processes_->all_reduce(updater_.sums(), "sums").wait();
    }
    shared_.start_gradients();
    auto rest = processes_->all_reduce(updater_.sums().slice(0, 1, 3), "sums");
    shared_.finish_gradients();
    updater_.measure();
    rest.wait();
  }

 private:
  static constexpr int64_t kAboutParameters = 6'500'000;
  struct Batch {
    model::ModelInput input;
    model::LossInput where;
  };

  [[nodiscard]] Batch make_batch(int64_t first_row, int64_t rows) const {
    constexpr double kLossShare = 0.25;
    Rng rng(static_cast<uint64_t>(first_row + 1));
    Batch batch;
    batch.input.ids = at::empty({rows, options_.row_tokens}, at::kInt);
    batch.input.sequence_starts = at::zeros({rows, options_.row_tokens}, at::kInt);
    batch.input.local_positions = at::full({rows, options_.row_tokens}, -1, at::kInt);
    std::vector<int64_t> positions, targets;
    for (int64_t i = 0; i < batch.input.ids.numel(); ++i) {
      batch.input.ids.mutable_data_ptr<int32_t>()[i] = static_cast<int32_t>(rng.below(kVocabulary));
      if (rng.uniform() >= kLossShare) continue;
      positions.push_back(i);
      targets.push_back(rng.below(kVocabulary));
    }
    batch.where = {at::tensor(positions, at::kLong), at::tensor(targets, at::kLong),
                   at::ones({static_cast<int64_t>(positions.size())})};
    return batch;
  }

  Options options_;
  train::TrainingConfig config_;
  std::shared_ptr<train::Communicator> processes_;
  model::Model model_;
  train::SharedParameters shared_;
  train::OptimizerState optimizer_;
  train::TrainingState state_;
  train::Updater updater_;
  std::vector<Batch> micro_;
};

double cpu_seconds() {
  rusage now{};
  getrusage(RUSAGE_SELF, &now);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(now.ru_utime) + seconds(now.ru_stime);
}

template <class Work>
Json run(Trainer& trainer, int64_t count, const Work& work) {
  trainer.processes().barrier("turn");
  const double cpu = cpu_seconds(), waited = trainer.processes().seconds_waited();
  Json answer;
  for (int64_t i = 0; i < count; ++i) {
    const auto begin = Clock::now();
    work();
    answer["seconds"].push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  answer["waited"] = (trainer.processes().seconds_waited() - waited) / static_cast<double>(count);
  answer["cpu_seconds"] = (cpu_seconds() - cpu) / static_cast<double>(count);
  return answer;
}

void serve(const Options& options) {
  set_thread_budget(static_cast<int>(options.threads));
  at::set_num_threads(thread_budget());
  const kernels::CachingMemory memory;
  Trainer trainer(options, train::Communicator::connect(detect_launch(process_environment()), at::kCPU));
  const auto count = [](std::istream& arguments) { return bench::read_count(arguments); };
  bench::serve_commands(
      trainer.facts(),
      {{"run", [&](std::istream& arguments) { return run(trainer, count(arguments), [&] { trainer.step(); }); }},
       {"exchange",
        [&](std::istream& arguments) { return run(trainer, count(arguments), [&] { trainer.exchange(); }); }}});
}

}  // namespace
}  // namespace gato

int main(int argc, char** argv) {
  return gato::bench::run_bench("bench_processes", [&] { gato::serve(gato::parse(argc, argv)); });
}

#include <torch/version.h>

#include <cstdio>
#include <iostream>
#include <optional>

#include "evaluation_plan.h"
#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/launch.h"
#include "gato/core/log.h"
#include "gato/train/learning_rate_finder.h"
#include "gato/train/overfit.h"
#include "gato/train/trainer.h"
#include "gato_train/devices.h"
#include "gato_train/local_workers.h"
#include "gato_train/replay.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::vector<std::string> configs, overrides;
  bool check = false, print_config = false, documented = false, overfit = false, find_rate = false;
  train::RunCostOptions cost;
  train::OverfitOptions overfitting;
  train::LearningRateSearch search;
  int64_t profiled_steps = 0;
};

/// Whether a model of this configuration can learn its first batch by heart.
int overfit(const train::TrainingConfig& config, const train::OverfitOptions& options) {
  const train::OverfitOutcome outcome = train::overfit_one_batch(config, options, [](int64_t step, double loss) {
    log::info("train", "step ", step, "  loss ", format_fixed(loss, 4));
  });
  const std::string text =
      cat("loss ", format_fixed(outcome.first_loss, 3), " -> ", format_fixed(outcome.loss, 4), " in ", outcome.steps,
          " steps on one batch; no model can get below ", format_fixed(outcome.lowest, 4), " on it");
  if (outcome.reached) {
    log::info("train", text, ": learned by heart");
    return kDone;
  }
  log::error("train", text,
             ": not learned by heart. Try more --overfit-steps or another optimizer.learning_rate; else "
             "something between data and loss is broken");
  return kFailed;
}

int find_rate(const train::TrainingConfig& config, const train::LearningRateSearch& search) {
  std::cout << "learning rate  loss    smoothed\n";
  const train::LearningRateFindings findings =
      train::find_learning_rate(config, search, [](const train::LearningRateTrial& trial) {
        std::printf("%13.3g  %6.3f  %6.3f\n", trial.rate, trial.loss, trial.smoothed);
      });
  if (findings.suggested == 0) {
    log::error("train",
               "the loss fell at no learning rate of these: widen --lowest-rate and --highest-rate, or take more "
               "--search-steps");
    return kFailed;
  }
  log::info("train", "the loss falls fastest at ", findings.steepest, " and is lowest at ", findings.lowest_at,
            "; try optimizer.learning_rate=", findings.suggested, " (it is ", config.optimizer.learning_rate, ")");
  return kDone;
}

/// Beside this one.
Path sibling_program(const char* name) {
  std::error_code error;
  const Path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path() / name;
}

/// Evaluation beside training: what is planned, and the workers that this process starts. Nothing of it happens before
/// begin(), which is called once the run folder is this run's own.
class EvaluationBeside {
 public:
  /// Loads the suites: ConfigError for those that are not there.
  explicit EvaluationBeside(const train::TrainingConfig& config) : config_(config) {
    const bool is_first = detect_launch(process_environment(), config.comm.launcher).rank == 0;
    if (!is_first || config.eval.suites.empty()) return;
    const char* trained = config.model.precision == model::Precision::kFp32 ? "fp32" : "bf16";
    plan_ = evaluation_plan(config.eval, config.train.steps, trained);
  }

  void begin() {
    if (!plan_) return;
    run::write_plan(run::RunFolder(config_.run.dir), *plan_);
    const auto stall_seconds = static_cast<double>(config_.eval.stall_seconds);
    workers_.emplace(LocalWorkersOptions{sibling_program("gato-eval"), config_.run.dir, config_.eval.workers,
                                         config_.eval.worker_threads, stall_seconds});
  }

  void wait_until_drained() {
    if (!workers_ || config_.eval.workers == 0) return;
    log::info("train", "waits for the evaluation of its checkpoints; a stop signal leaves the rest queued");
    workers_->wait_until_drained();
  }

 private:
  const train::TrainingConfig& config_;
  std::optional<run::EvaluationPlan> plan_;
  std::optional<LocalWorkers> workers_;
};

int train_or_check(const Arguments& arguments, const std::vector<std::string>& command) {
  const ConfigNode node = load_config(arguments.configs, arguments.overrides);
  auto config = read_config<train::TrainingConfig>(node);
  if (config.run.dir.empty()) {
    config.run.dir =
        (Path("runs") / (arguments.configs.empty() ? "unnamed" : Path(arguments.configs.back()).stem().string()))
            .string();
  }
  if (arguments.print_config) {
    std::cout << dump_config(config, &node, arguments.documented);
    return kDone;
  }
  if (arguments.check) {
    std::cout << "configuration: fine; run folder: " << config.run.dir << "\n"
              << train::check_report(config, arguments.cost);
    return kDone;
  }
  if (arguments.overfit) return overfit(config, arguments.overfitting);
  if (arguments.find_rate) return find_rate(config, arguments.search);
  EvaluationBeside evaluation(config);
  const train::TrainingOutcome outcome =
      train::train(config, command, arguments.profiled_steps, [&] { evaluation.begin(); });
  log::info("train", outcome.finished ? "finished" : "stopped by train.max_minutes", " at step ", outcome.step,
            " after ", format_seconds(outcome.seconds), " (", format_count(outcome.tokens_per_second),
            " tokens/s); run folder ", config.run.dir);
  if (outcome.finished) evaluation.wait_until_drained();
  return outcome.finished ? kDone : kPreempted;
}

void add_cost_options(CLI::App& app, CLI::Option* check, Arguments& arguments) {
  CLI::Option* device =
      app.add_option("--device", arguments.cost.device,
                     "With --check: time and cost of the run on this device (" + train::device_names() + ")")
          ->needs(check);
  app.add_option("--devices", arguments.cost.devices, "How many of them")
      ->needs(device)
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--price", arguments.cost.price_per_hour, "Price of one device and hour, in any currency")
      ->needs(device)
      ->check(CLI::NonNegativeNumber);
  app.add_option("--mfu", arguments.cost.mfu,
                 "Share of the device's peak that training reaches; by the model's size unless given")
      ->needs(device)
      ->check(CLI::Range(0.001, 1.0));
}

int program(int argc, char** argv) {
  std::vector<std::string> libraries = base_libraries();
  libraries.emplace_back("LibTorch " TORCH_VERSION);
  add_failure_rule([](const std::exception& error, Failure& failure) {
    if (dynamic_cast<const train::DivergedError*>(&error) == nullptr) return false;
    failure.exit_code = kDiverged;
    return true;
  });
  return run_program(
      argc, argv, "Trains a generalist agent, or goes on with a run: the same command again continues.", libraries,
      [&](CLI::App& app) -> std::function<int()> {
        auto arguments = std::make_shared<Arguments>();
        app.add_option("--config", arguments->configs, "YAML file; may be given several times, later ones win")
            ->allow_extra_args(false)
            ->check(CLI::ExistingFile);
        CLI::Option* check =
            app.add_flag("--check", arguments->check,
                         "Parse, open the data, print parameters, memory, operations and tokens; train nothing");
        add_cost_options(app, check, *arguments);
        CLI::Option* overfitting =
            app.add_flag("--overfit-one-batch", arguments->overfit,
                         "Train on the first batch alone, writing nothing: exit code 0 when it was learned by heart");
        app.add_option("--overfit-steps", arguments->overfitting.steps, "Most steps of --overfit-one-batch")
            ->needs(overfitting)
            ->check(CLI::PositiveNumber)
            ->capture_default_str();
        CLI::Option* finding = app.add_flag(
            "--find-learning-rate", arguments->find_rate,
            "Train a fresh model with a rate that grows from step to step, writing nothing, and suggest one");
        app.add_option("--search-steps", arguments->search.steps, "Steps of --find-learning-rate")
            ->needs(finding)
            ->capture_default_str();
        app.add_option("--lowest-rate", arguments->search.lowest, "First rate of --find-learning-rate")
            ->needs(finding)
            ->capture_default_str();
        app.add_option("--highest-rate", arguments->search.highest, "Last rate of --find-learning-rate")
            ->needs(finding)
            ->capture_default_str();
        app.add_option("--profile", arguments->profiled_steps,
                       "Also say where the time of this many steps goes, by part, and write a Chrome trace")
            ->check(CLI::Range(1, 100000));
        app.add_flag("--print-config", arguments->print_config, "Print every setting and where it came from");
        app.add_flag("--describe", arguments->documented, "With --print-config: also what every setting means");
        app.add_option("overrides", arguments->overrides, "Settings as key.path=value");
        app.allow_extras(false);
        app.require_subcommand(0, 1);
        const auto replay = add_replay(app), devices = add_devices(app);
        return [arguments, replay, devices, command = command_line(argc, argv)] {
          for (const auto& verb : {replay, devices}) {
            if (const int code = verb(); code >= 0) return code;
          }
          return train_or_check(*arguments, command);
        };
      });
}

}  // namespace
}  // namespace gato::cli

int main(int argc, char** argv) { return gato::cli::program(argc, argv); }

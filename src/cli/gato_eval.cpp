#include <torch/version.h>

#include <iostream>

#include "eval_queue_verbs.h"
#include "eval_verbs.h"
#include "gato/core/error.h"
#include "gato/core/threads.h"
#include "gato/eval/evaluate.h"
#include "gato/eval/report.h"
#include "gato_eval/replay.h"
#include "gato_eval/watch.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::string checkpoint, suite = "demo", out, weights;
  eval::EvaluateOptions options;
  int threads = 0;
  WatchArguments watch;
  bool watches = false;
};

/// The options of a worker of a run's queue.
void add_watch_options(CLI::App& app, Arguments& arguments) {
  run::WorkOptions& options = arguments.watch.options;
  CLI::Option* watch = app.add_flag(
      "--watch", arguments.watches,
      "With --run: play the jobs of the run's evaluation queue until training is finished and none is left");
  CLI::Option* run = app.add_option("--run", arguments.watch.run, "Run folder whose queue is worked on")->needs(watch);
  watch->needs(run);
  app.add_flag("--drain", options.drain, "With --watch: end when the queue is empty, even if training goes on")
      ->needs(watch);
  app.add_option("--max-jobs", options.max_jobs, "With --watch: end after as many jobs; 0: no limit")
      ->needs(watch)
      ->check(CLI::NonNegativeNumber);
  app.add_option("--lease-seconds", options.lease_seconds,
                 "With --watch: how long another worker may show no sign of life before its job is taken")
      ->needs(watch)
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
  app.add_option("--stall-seconds", options.stall_seconds,
                 "With --watch: how long another worker may live without coming on before its job is taken")
      ->needs(watch)
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
}

int watch_queue(Arguments& arguments) {
  set_thread_budget(arguments.threads);
  arguments.watch.device = arguments.options.device;
  arguments.watch.cuda_graph = arguments.options.cuda_graph;
  return watch(arguments.watch);
}

int evaluate(Arguments& arguments) {
  if (arguments.checkpoint.empty()) {
    throw ConfigError(
        "--checkpoint is missing: give a checkpoint folder (runs/demo/checkpoints/latest) or a run folder (runs/demo)");
  }
  set_thread_budget(arguments.threads);
  arguments.options.checkpoint = arguments.checkpoint;
  if (std::filesystem::is_symlink(arguments.options.checkpoint)) {
    arguments.options.checkpoint = std::filesystem::canonical(arguments.options.checkpoint);
  }
  arguments.options.suite = env::load_suite(arguments.suite);
  arguments.options.out = arguments.out;
  for (const auto& [name, type] : config_enum(static_cast<const kernels::WeightType*>(nullptr))) {
    if (arguments.weights == name) arguments.options.weights = type;
  }
  const eval::EvaluateOutcome outcome = eval::evaluate(arguments.options);
  std::cout << eval::summary_table(outcome.summary) << "results: " << outcome.out.string() << "\n";
  return kDone;
}

std::function<int()> add_report(CLI::App& app) {
  auto folder = std::make_shared<std::string>();
  auto* verb = app.add_subcommand("report", "Write a run's report, report/index.html");
  verb->add_option("--run", *folder, "Run folder")->required()->check(CLI::ExistingDirectory);
  return [verb, folder] {
    if (!verb->parsed()) return -1;
    std::cout << eval::write_report(*folder).string() << "\n";
    return static_cast<int>(kDone);
  };
}

int program(int argc, char** argv) {
  std::vector<std::string> libraries = base_libraries();
  libraries.emplace_back("LibTorch " TORCH_VERSION);
  return run_program(
      argc, argv, "Plays the tasks of a suite with a checkpoint's agent and scores it against the experts.", libraries,
      [](CLI::App& app) -> std::function<int()> {
        auto arguments = std::make_shared<Arguments>();
        eval::EvaluateOptions& options = arguments->options;
        app.add_option("--checkpoint", arguments->checkpoint, "Checkpoint folder, or run folder for its newest one");
        app.add_option("--suite", arguments->suite, "Name in configs/suites, or a file");
        app.add_option("--out", arguments->out, "Folder for the results; default: inside the run folder");
        app.add_option("--rollouts", options.rollouts, "Episodes per task; 0: as the suite says")
            ->check(CLI::Range(0, 1000000));
        app.add_option("--seed", options.seed, "Seed of the episodes");
        app.add_option("--slots", options.slots, "Environments per forward pass")->check(CLI::Range(1, 4096));
        app.add_option("--weights", arguments->weights,
                       "Type of the weights that act: fp32, bf16 (half the memory and time per token) or int8 (a "
                       "quarter); default: as trained, model.precision. Another type than that is an evaluation of its "
                       "own, SUITE-TYPE")
            ->check(CLI::IsMember({"fp32", "bf16", "int8"}));
        app.add_option("--device", options.device,
                       "Where the model acts: auto (a GPU where there is one), cpu, cuda or cuda:N; a GPU takes fp32 "
                       "and bf16 weights")
            ->capture_default_str();
        app.add_flag("--cuda-graph", options.cuda_graph,
                     "On a GPU: a token of all slots, from the choice before to the next, as one CUDA graph; saves the "
                     "CPU's part of the work");
        app.add_option("--task", options.tasks, "Only tasks that match this pattern; may be given several times")
            ->allow_extra_args(false);
        app.add_option("--record", options.record_episodes, "Episodes per task whose pictures are kept")
            ->check(CLI::Range(0, 100));
        app.add_flag("--again", options.again, "Play tasks again that have a result already");
        app.add_option("--threads", arguments->threads, "0: all processors")->check(CLI::Range(0, 4096));
        app.add_option_function<std::string>(
               "--prompt", [&options](const std::string& prompt) { options.demonstration = prompt == "demonstration"; },
               "What stands in front of every context: none, or a demonstration from the checkpoint; with one it is an "
               "evaluation of its own, SUITE-prompted")
            ->check(CLI::IsMember({"none", "demonstration"}));
        add_watch_options(app, *arguments);
        app.require_subcommand(0, 1);
        const std::vector<std::function<int()>> verbs = {add_report(app),  add_tasks(app), add_status(app),
                                                         add_enqueue(app), add_retry(app), add_cancel(app),
                                                         add_compare(app), add_replay(app)};
        return [arguments, verbs] {
          for (const auto& verb : verbs) {
            if (const int code = verb(); code >= 0) return code;
          }
          return arguments->watches ? watch_queue(*arguments) : evaluate(*arguments);
        };
      });
}

}  // namespace
}  // namespace gato::cli

int main(int argc, char** argv) { return gato::cli::program(argc, argv); }

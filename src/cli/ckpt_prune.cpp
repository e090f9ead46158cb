#include <iomanip>
#include <iostream>

#include "ckpt_paths.h"
#include "ckpt_verbs.h"
#include "gato/checkpoint/retention.h"
#include "gato/core/config.h"
#include "gato/run/checkpoint_use.h"
#include "gato/run/evaluation_queue.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::string path;
  bool dry_run = false;
  int64_t keep_last = -1, keep_every = -1, keep_best = -1;  // -1: as the run's configuration says
  std::string best_by, best_is;
};

/// A setting of the trainer in a recorded configuration; `otherwise` when it is not there.
template <class T>
T setting(const ConfigNode& config, const char* name, T otherwise) {
  const ConfigNode* train = config.find("train");
  const ConfigNode* node = train == nullptr ? nullptr : train->find(name);
  std::string ignored;
  T value{};
  return node != nullptr && detail::parse_scalar(*node, value, ignored) ? value : otherwise;
}

checkpoint::Retention retention_for(const run::RunFolder& folder, const Arguments& arguments) {
  const ConfigNode config = folder.exists() ? load_yaml(folder.config_path().string()) : ConfigNode{};
  const auto number = [&](int64_t given, const char* name, int64_t otherwise) {
    return given >= 0 ? given : setting(config, name, otherwise);
  };
  const auto text = [&](const std::string& given, const char* name, const std::string& otherwise) {
    return given.empty() ? setting(config, name, otherwise) : given;
  };
  checkpoint::Retention retention;
  retention.keep_last = number(arguments.keep_last, "keep_checkpoints", 3);
  retention.keep_every = number(arguments.keep_every, "keep_every", 0);
  retention.keep_best = number(arguments.keep_best, "keep_best", 0);
  if (retention.keep_best > 0) {
    const bool want_max = text(arguments.best_is, "best_is", "min") == "max";
    retention.scores = run::scores_by_step(folder, text(arguments.best_by, "best_by", "validation/loss"), want_max);
  }
  retention.in_use = [&folder] { return run::checkpoints_in_use(folder); };
  return retention;
}

int prune(const Arguments& arguments) {
  const Path checkpoints = checkpoints_folder(arguments.path);
  run::RunFolder folder(checkpoints.parent_path());
  const checkpoint::Retention retention = retention_for(folder, arguments);
  if (arguments.dry_run) {
    size_t num_deleted = 0;
    for (const checkpoint::RetentionDecision& decision : checkpoint::plan_retention(checkpoints, retention)) {
      std::cout << std::left << std::setw(16) << checkpoint::step_name(decision.checkpoint.step)
                << (decision.keep ? "stays: " + decision.reason : "would be deleted") << "\n";
      num_deleted += decision.keep ? 0 : 1;
    }
    std::cout << num_deleted << " would be deleted; nothing was\n";
    return kDone;
  }
  if (folder.exists()) folder.lock();  // a trainer deletes by itself
  const auto deleted = checkpoint::prune(checkpoints, retention);
  for (const checkpoint::CheckpointInfo& info : deleted) std::cout << "deleted " << info.path.string() << "\n";
  std::cout << deleted.size() << " deleted\n";
  return kDone;
}

}  // namespace

CkptVerb add_ckpt_prune(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand(
      "prune", "Delete the checkpoints that a run's settings (train.keep_...) do not keep; not while it trains");
  verb->add_option("path", arguments->path, "Run folder, or its checkpoints")
      ->required()
      ->check(CLI::ExistingDirectory);
  verb->add_flag("--dry-run", arguments->dry_run, "Only say what would be deleted, and why the others stay");
  verb->add_option("--keep-last", arguments->keep_last, "Newest that stay, at least 2")->check(CLI::Range(2, 1 << 30));
  verb->add_option("--keep-every", arguments->keep_every, "Steps divisible by this stay; 0: none")
      ->check(CLI::Range(0, 1 << 30));
  verb->add_option("--keep-best", arguments->keep_best, "As many with the best scores stay")
      ->check(CLI::Range(0, 1 << 30));
  verb->add_option("--best-by", arguments->best_by, "As train.best_by");
  verb->add_option("--best-is", arguments->best_is, "max or min")->check(CLI::IsMember({"max", "min"}));
  return [verb, arguments] { return verb->parsed() ? prune(*arguments) : -1; };
}

}  // namespace gato::cli

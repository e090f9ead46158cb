#include <filesystem>
#include <iostream>
#include <memory>

#include "data_verbs.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/progress.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/env/conformance.h"
#include "gato/env/remote.h"
#include "gato/env/suite.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::string family, task = "*";
  int64_t measure = 0;
  int threads = 0;
  bool again = false, check = false;
};

int list_families() {
  std::cout << "family  tasks  with expert  measured  here  packages\n";
  for (const env::RemoteFamily& family : env::remote_families()) {
    int64_t experts = 0, measured = 0;
    for (const env::RemoteTask& task : family.tasks) {
      experts += task.has_expert ? 1 : 0;
      measured += task.spec.random.episodes > 0 ? 1 : 0;
    }
    std::vector<std::string> packages;
    for (const auto& [name, version] : family.packages) packages.push_back(cat(name, " ", version));
    std::cout << family.name << "  " << family.tasks.size() << "  " << experts << "  " << measured << "  "
              << (env::family_is_set_up(family.name) ? "yes" : cat("no: tools/setup --envs ", family.name)) << "  "
              << join(packages, ", ") << "\n";
  }
  return kDone;
}

/// `fresh` with the measurements of `old` where specification and packages are the same.
void keep_measurements(const env::RemoteFamily& old, env::RemoteFamily& fresh) {
  if (old.packages != fresh.packages) return;
  fresh.seed = old.seed;
  for (env::RemoteTask& task : fresh.tasks) {
    for (const env::RemoteTask& known : old.tasks) {
      if (known.spec.id != task.spec.id) continue;
      episode::TaskSpec plain = known.spec;
      plain.expert = plain.random = {};
      if (plain == task.spec && known.has_expert == task.has_expert) task = known;
    }
  }
}

/// The conformance test of the tasks of a family that match.
int check(const Arguments& arguments) {
  static_cast<void>(env::family_python(arguments.family));  // one sentence where it is missing, and not one per task
  env::ConformanceOptions options;
  options.episodes = 2;
  options.expert_episodes = 6;
  int64_t checked = 0, broken = 0;
  for (const std::string& id : env::match_tasks(arguments.task)) {
    const env::TaskEntry& entry = env::find_task(id);
    if (entry.family != arguments.family) continue;
    throw_if_stopped("checking environments");
    const std::vector<std::string> violations = env::check_environment(entry, options);
    for (const std::string& violation : violations) std::cout << violation << "\n";
    std::cout << id << (violations.empty() ? ": fine" : ": breaks the contract") << std::endl;
    broken += violations.empty() ? 0 : 1;
    ++checked;
  }
  if (checked == 0) throw ConfigError(cat("No task of ", arguments.family, " matches '", arguments.task, "'."));
  return broken == 0 ? kDone : kFailed;
}

int environments(const Arguments& arguments) {
  if (arguments.family.empty()) return list_families();
  set_thread_budget(arguments.threads);
  if (arguments.check) return check(arguments);
  const Path file = env::catalogue_path(env::data_root(), arguments.family);
  env::RemoteFamily family = env::ask_family(arguments.family);
  if (std::filesystem::exists(file)) {
    keep_measurements(env::parse_catalogue(read_file(file), file.string()), family);
  }
  write_file_atomic(file, env::to_json(family));
  if (arguments.measure > 0) {
    Progress progress(cat("measuring ", arguments.family), static_cast<int64_t>(family.tasks.size()), "tasks");
    for (env::RemoteTask& task : family.tasks) {
      throw_if_stopped("measuring expert and random returns; what is measured is kept, and the same command goes on");
      const bool done = task.spec.random.episodes + task.random_failures >= arguments.measure && !arguments.again;
      if (!done && matches_pattern(arguments.task, task.spec.id)) {
        env::measure_references(family, task, arguments.measure, arguments.threads);
        write_file_atomic(file, env::to_json(family));
      }
      progress.add();
    }
    progress.finish();
  }
  std::cout << file.string() << ": " << family.tasks.size() << " tasks\n";
  return kDone;
}

}  // namespace

Verb add_environments(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand("environments",
                                  "List the families of environments of Python packages; or take stock of one, and "
                                  "measure its expert and random returns, into data/environments/FAMILY.json");
  verb->add_option("family", arguments->family, "metaworld, minigrid, gymnasium, dm_control; none: list them");
  verb->add_option("--measure", arguments->measure,
                   "Episodes that measure the expert and random actions, per task that has no such measurement yet")
      ->check(CLI::Range(1, 100000));
  verb->add_flag("--check", arguments->check,
                 "Test that tasks keep the contract of environments (gato/env/conformance.h), instead");
  verb->add_option("--task", arguments->task, "Only measure or check tasks that match this pattern");
  verb->add_flag("--again", arguments->again, "Measure tasks again that were measured");
  verb->add_option("--threads", arguments->threads, "Worker processes; 0: one per processor")
      ->check(CLI::Range(0, 4096));
  return [verb, arguments] { return verb->parsed() ? environments(*arguments) : -1; };
}

}  // namespace gato::cli

#include <algorithm>
#include <array>
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
#include "gato/env/native_family.h"
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
  std::vector<env::RemoteFamily> families = env::remote_families();
  for (const std::string& name : env::native_families()) families.push_back(env::native_family(name));
  for (const env::RemoteFamily& family : families) {
    int64_t experts = 0, measured = 0;
    for (const env::RemoteTask& task : family.tasks) {
      experts += task.has_expert ? 1 : 0;
      measured += task.spec.random.episodes > 0 ? 1 : 0;
    }
    std::vector<std::string> packages;
    for (const auto& [name, version] : family.packages) packages.push_back(cat(name, " ", version));
    std::cout << family.name << "  " << family.tasks.size() << "  " << experts << "  " << measured << "  "
              << (env::is_native_family(family.name) || env::family_is_set_up(family.name)
                      ? "yes"
                      : cat("no: tools/setup --envs ", family.name))
              << "  " << join(packages, ", ") << "\n";
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
      episode::TaskSpec plain = known.spec, wanted = task.spec;
      plain.expert = plain.random = wanted.expert = wanted.random = {};
      if (plain == wanted && known.has_expert == task.has_expert) task = known;
    }
  }
}

/// Tasks that stand for their families where everything is checked: quick ones of every kind.
constexpr std::array kSamples = {"metaworld/button-press-v3", "babyai/GoToLocal-v0",
                                 "minigrid/DoorKey-5x5-v0",   "gymnasium/InvertedPendulum-v5",
                                 "gymnasium/CartPole-v1",     "dm_control/pendulum-swingup",
                                 "mujoco/cheetah_run",        "mujoco_large/cheetah_run"};

/// Which tasks are checked without the name of a family: those of this process outside its families, and the samples of
/// families that are set up. The others of the sample are named in `left_out`.
bool is_checked_by_default(const env::TaskEntry& entry, std::vector<std::string>& left_out) {
  if (entry.family.empty() && env::native_packages_of(entry.id).empty()) return true;
  if (std::find(kSamples.begin(), kSamples.end(), entry.id) == kSamples.end()) return false;
  if (entry.family.empty() || env::family_is_set_up(entry.family)) return true;
  left_out.push_back(cat(entry.id, " (tools/setup --envs ", entry.family, ")"));
  return false;
}

/// The conformance test of the tasks that match: of a family, or of all native tasks and a sample of the others.
int check(const Arguments& arguments) {
  const bool all = arguments.family.empty(), native = env::is_native_family(arguments.family);
  // One sentence where it is missing, and not one per task.
  if (!all && !native) static_cast<void>(env::family_python(arguments.family));
  env::ConformanceOptions options;
  options.episodes = 2;
  int64_t checked = 0, broken = 0;
  std::vector<std::string> left_out;
  for (const std::string& id : env::match_tasks(arguments.task)) {
    const env::TaskEntry& entry = env::find_task(id);
    const bool is_of_family = native ? !env::native_packages_of(id).empty() : entry.family == arguments.family;
    if (all ? !is_checked_by_default(entry, left_out) : !is_of_family) continue;
    throw_if_stopped("checking environments");
    options.expert_episodes = env::native_packages_of(id).empty() ? 6 : 2;  // planning takes seconds an episode
    const std::vector<std::string> violations = env::check_environment(entry, options);
    for (const std::string& violation : violations) std::cout << violation << "\n";
    std::cout << id << (violations.empty() ? ": fine" : ": breaks the contract") << std::endl;
    broken += violations.empty() ? 0 : 1;
    ++checked;
  }
  for (const std::string& id : left_out) std::cout << id << ": left out, its family is not set up\n";
  if (checked == 0) {
    throw ConfigError(cat("No task of ", all ? "this process or of the sample" : arguments.family, " matches '",
                          arguments.task, "'."));
  }
  return broken == 0 ? kDone : kFailed;
}

void print_measured(const env::RemoteTask& task, double seconds) {
  const auto text = [](const episode::ReturnRecord& record) {
    return cat(format_fixed(record.mean, 3), " +- ", format_fixed(record.standard_error, 3), " (", record.episodes,
               ")");
  };
  std::cout << task.spec.id << ": random " << text(task.spec.random);
  if (task.has_expert) {
    std::cout << ", expert " << text(task.spec.expert) << ", " << format_fixed(1e3 * seconds, 2)
              << " ms per step of the expert";
  }
  std::cout << std::endl;
}

int environments(const Arguments& arguments) {
  set_thread_budget(arguments.threads);
  if (arguments.check) return check(arguments);
  if (arguments.family.empty()) return list_families();
  const Path file = env::catalogue_path(env::data_root(), arguments.family);
  const bool native = env::is_native_family(arguments.family);
  env::RemoteFamily family = native ? env::native_family(arguments.family) : env::ask_family(arguments.family);
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
        const double seconds = env::measure_references(family, task, arguments.measure, arguments.threads);
        const env::RemoteTask measured = task;  // and what others measured meanwhile
        keep_measurements(env::parse_catalogue(read_file(file), file.string()), family);
        task = measured;
        write_file_atomic(file, env::to_json(family));
        print_measured(task, seconds);
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
                                  "List the families of environments; or take stock of one, and measure its expert "
                                  "and random returns, into its catalogue below data/environments");
  verb->add_option("family", arguments->family, "metaworld, minigrid, gymnasium, dm_control, mujoco; none: list them");
  verb->add_option("--measure", arguments->measure,
                   "Episodes that measure the expert and random actions, per task that has no such measurement yet")
      ->check(CLI::Range(1, 100000));
  verb->add_flag(
      "--check", arguments->check,
      "Test that tasks keep the contract of environments (gato/env/conformance.h), instead; without a family: "
      "all native tasks, and a sample of every family that is set up");
  verb->add_option("--task", arguments->task, "Only measure or check tasks that match this pattern");
  verb->add_flag("--again", arguments->again, "Measure tasks again that were measured");
  verb->add_option("--threads", arguments->threads, "Worker processes; 0: one per processor")
      ->check(CLI::Range(0, 4096));
  return [verb, arguments] { return verb->parsed() ? environments(*arguments) : -1; };
}

}  // namespace gato::cli

#include "gato/env/suite.h"

#include <algorithm>
#include <filesystem>

#include "gato/core/file.h"
#include "gato/core/text.h"
#include "gato/env/environment.h"

namespace gato::env {

namespace {

constexpr int64_t kMostEpisodes = 100'000'000;

bool is_file_path(const std::string& name_or_path) {
  return name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".yaml") ||
         name_or_path.ends_with(".yml");
}

std::vector<std::string> suites_in(const std::vector<Path>& folders) {
  std::vector<std::string> names;
  for (const Path& folder : folders) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

/// The suite file of `name` in the working directory, else in the installation or checkout.
Path find_suite_file(const std::string& name) {
  const Path here = Path("configs") / "suites";
  const Path below_root = here / (name + ".yaml");
  std::error_code ignored;
  if (std::filesystem::is_regular_file(below_root, ignored)) return below_root;
  const Path root = data_root();
  if (std::filesystem::is_regular_file(root / below_root, ignored)) return root / below_root;
  const std::vector<std::string> known = suites_in({here, root / here});
  const std::string candidate = nearest(name, known);
  throw ConfigError(cat("There is no suite '", name, "': neither ", below_root.string(), " nor ",
                        (root / below_root).string(), " exists. ",
                        known.empty() ? "There are no suites there." : cat("Known suites: ", join(known, ", "), "."),
                        candidate.empty() ? "" : cat(" Did you mean '", candidate, "'?")));
}

}  // namespace

void validate_config(const SuiteTask& task, ConfigProblems& problems) {
  if (task.pattern.empty()) problems.add("pattern", "must not be empty");
  if (task.episodes < 0 || task.episodes > kMostEpisodes)
    problems.add("episodes", cat("must be in [0, ", kMostEpisodes, "]"));
  if (task.rollouts < 0 || task.rollouts > kMostEpisodes)
    problems.add("rollouts", cat("must be in [0, ", kMostEpisodes, "]"));
  if (task.noise.empty()) problems.add("noise", "needs at least one level; [0] for none");
  for (const double level : task.noise) {
    if (!(level >= 0 && level <= 1)) problems.add("noise", cat("level ", level, " is outside [0, 1]"));
  }
  if (!(task.temperature > 0 && task.temperature <= 100))
    problems.add("temperature", "must be above 0 and at most 100");
  if (!(task.top_p > 0 && task.top_p <= 1)) problems.add("top_p", "must be above 0 and at most 1");
}

void validate_config(const SuiteText& text, ConfigProblems& problems) {
  const size_t slash = text.name.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == text.name.size()) {
    problems.add("name", "must have the form domain/name");
  }
  if (text.files.empty()) problems.add("files", "needs at least one file");
  if (text.licence.empty()) problems.add("licence", "must say under which licence the text may be used");
  if (text.separator.find('\n') != std::string::npos) problems.add("separator", "must be one line");
}

void validate_config(const Suite& suite, ConfigProblems& problems) {
  if (suite.tasks.empty() && suite.texts.empty()) problems.add("tasks", "a suite needs tasks or texts");
  for (size_t i = 0; i < suite.texts.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (suite.texts[i].name == suite.texts[k].name) {
        problems.add(cat("texts[", i, "].name"), cat("'", suite.texts[i].name, "' is there twice"));
      }
    }
  }
}

Suite load_suite(const std::string& name_or_path) {
  const Path file = is_file_path(name_or_path) ? Path(name_or_path) : find_suite_file(name_or_path);
  Suite suite = read_config<Suite>(load_yaml(file.string()));
  if (suite.name.empty()) suite.name = file.stem().string();
  return suite;
}

std::map<std::string, SuiteTask> resolve_tasks(const Suite& suite) {
  std::map<std::string, SuiteTask> tasks;
  for (const SuiteTask& task : suite.tasks) {
    for (const std::string& id : match_tasks(task.pattern)) tasks.insert_or_assign(id, task);
  }
  return tasks;
}

}  // namespace gato::env

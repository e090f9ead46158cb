#include "env/mujoco/family.h"

#include <mujoco/mujoco.h>

#include <algorithm>
#include <filesystem>

#include "env/native.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/native_family.h"
#include "gato/env/suite.h"

namespace gato::env {

namespace mujoco {

std::map<std::string, std::string> packages() { return {{kFamily, mj_versionString()}}; }

std::optional<RemoteFamily> read_catalogue() {
  Path path;
  try {
    path = catalogue_path(data_root(), kFamily);
  } catch (const ConfigError&) {  // tasks can be listed without files; playing says what is missing
    return std::nullopt;
  }
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return std::nullopt;
  return parse_catalogue(gato::read_file(path, uint64_t{16} << 20), path.string());
}

TaskSpec with_returns(TaskSpec spec, const std::optional<RemoteFamily>& catalogue) {
  if (!catalogue || catalogue->packages != packages()) return spec;
  for (const RemoteTask& task : catalogue->tasks) {
    TaskSpec plain = task.spec;
    plain.expert = plain.random = {};
    if (plain == spec) return task.spec;
  }
  return spec;
}

}  // namespace mujoco

const std::vector<std::string>& native_families() {
  static const std::vector<std::string> names = {mujoco::kFamily};
  return names;
}

bool is_native_family(const std::string& family) { return family == mujoco::kFamily; }

std::map<std::string, std::string> native_packages_of(const std::string& task) {
  const std::string domain = task.substr(0, task.find('/'));
  const bool is_ours = domain == "mujoco" || domain == "mujoco_small" || domain == "mujoco_large";
  return is_ours ? mujoco::packages() : std::map<std::string, std::string>{};
}

RemoteFamily native_family(const std::string& name) {
  if (!is_native_family(name)) throw ConfigError(cat("'", name, "' is no family of tasks of this process."));
  const std::optional<RemoteFamily> catalogue = mujoco::read_catalogue();
  RemoteFamily family;
  family.name = name;
  family.packages = mujoco::packages();
  if (catalogue) family.seed = catalogue->seed;
  for (const TaskEntry& entry : mujoco_tasks()) {
    family.tasks.push_back({.spec = entry.known.value(), .has_expert = static_cast<bool>(entry.make_expert)});
  }
  std::sort(family.tasks.begin(), family.tasks.end(),
            [](const RemoteTask& a, const RemoteTask& b) { return a.spec.id < b.spec.id; });
  return family;
}

}  // namespace gato::env

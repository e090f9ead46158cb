#include <map>
#include <mutex>

#include "env/native.h"
#include "env/remote/tasks.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/environment.h"

namespace gato::env {

namespace {

/// Entries are never removed and std::map never moves them, so references stay valid.
class Registry {
 public:
  static Registry& instance() {
    static Registry registry;
    return registry;
  }

  void add(TaskEntry entry) {
    const size_t slash = entry.id.find('/');
    if (slash == 0 || slash == std::string::npos || slash + 1 == entry.id.size()) {
      throw ConfigError(cat("Cannot register the task '", entry.id, "': an id has the form domain/name."));
    }
    if (!entry.make) throw ConfigError(cat("Cannot register the task '", entry.id, "': it has no make function."));
    const std::lock_guard lock(mutex_);
    const std::string id = entry.id;
    if (!entries_.emplace(id, std::move(entry)).second) {
      throw ConfigError(cat("Cannot register the task '", id, "': a task of that id is registered already."));
    }
  }

  std::vector<std::string> ids() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> ids;
    for (const auto& [id, entry] : entries_) ids.push_back(id);
    return ids;
  }

  const TaskEntry* find(const std::string& id) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(id);
    return found == entries_.end() ? nullptr : &found->second;
  }

 private:
  Registry() {
    for (auto* family : {control_tasks, grid_tasks, game_tasks, block_tasks, picture_tasks, dialogue_tasks,
                         mujoco_tasks, remote_tasks}) {
      for (TaskEntry& entry : family()) add(std::move(entry));
    }
  }

  std::mutex mutex_;
  std::map<std::string, TaskEntry> entries_;
};

/// " Did you mean 'x'?" or a way to find the ids.
std::string hint(const std::string& word, const std::vector<std::string>& ids) {
  const std::string candidate = nearest(word, ids);
  if (!candidate.empty()) return cat(" Did you mean '", candidate, "'?");
  std::vector<std::string> domains;
  for (const std::string& id : ids) {
    const std::string domain = id.substr(0, id.find('/')) + "/*";
    if (domains.empty() || domains.back() != domain) domains.push_back(domain);
  }
  return cat(" There are ", join(domains, ", "), "; gato-eval tasks lists them.");
}

}  // namespace

void register_task(TaskEntry entry) { Registry::instance().add(std::move(entry)); }

std::vector<std::string> task_ids() { return Registry::instance().ids(); }

std::vector<std::string> match_tasks(const std::string& pattern) {
  const std::vector<std::string> ids = task_ids();
  std::vector<std::string> matches;
  for (const std::string& id : ids) {
    if (matches_pattern(pattern, id)) matches.push_back(id);
  }
  if (matches.empty()) throw ConfigError(cat("No task matches '", pattern, "'.", hint(pattern, ids)));
  return matches;
}

const TaskEntry& find_task(const std::string& id) {
  const TaskEntry* entry = Registry::instance().find(id);
  if (entry == nullptr) throw ConfigError(cat("There is no task '", id, "'.", hint(id, task_ids())));
  return *entry;
}

std::unique_ptr<Environment> make_environment(const std::string& id) {
  std::unique_ptr<Environment> environment = find_task(id).make();
  GATO_CHECK(environment != nullptr, "the make function of task ", id, " gave nothing");
  return environment;
}

}  // namespace gato::env

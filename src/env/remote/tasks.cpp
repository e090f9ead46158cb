#include "env/remote/tasks.h"

#include "env/remote/environment.h"
#include "gato/core/threads.h"
#include "gato/env/remote.h"

namespace gato::env {

namespace {

using remote::RemoteBatch;

std::unique_ptr<RemoteBatch> make_batch(const RemoteFamily& family, const RemoteTask& task, int size, int workers) {
  static_cast<void>(family_python(family.name));  // says at once, and better, what is missing
  return std::make_unique<RemoteBatch>(task.spec, family.packages, size, workers, remote::idle_workers(family.name),
                                       remote_limits().spare_restarts);
}

}  // namespace

TaskEntry remote_entry(const RemoteFamily& family, const RemoteTask& task) {
  TaskEntry entry;
  entry.id = task.spec.id;
  entry.family = family.name;
  entry.known = task.spec;
  entry.make = [&family, &task] { return std::make_unique<remote::RemoteEnvironment>(make_batch(family, task, 1, 1)); };
  entry.make_batch = [&family, &task](int size, int threads) { return make_batch(family, task, size, threads); };
  if (task.has_expert) entry.make_expert = remote::make_remote_expert;
  return entry;
}

std::vector<TaskEntry> remote_tasks() {
  std::vector<TaskEntry> entries;
  for (const RemoteFamily& family : remote_families()) {
    for (const RemoteTask& task : family.tasks) entries.push_back(remote_entry(family, task));
  }
  return entries;
}

}  // namespace gato::env

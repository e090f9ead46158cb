#pragma once
#include <vector>

#include "gato/env/environment.h"
#include "gato/env/remote.h"

namespace gato::env {

/// The entry of one task; `family` and `task` must outlive it.
[[nodiscard]] TaskEntry remote_entry(const RemoteFamily& family, const RemoteTask& task);

/// The tasks of data/environments/, played by workers; for the registry.
std::vector<TaskEntry> remote_tasks();

}  // namespace gato::env

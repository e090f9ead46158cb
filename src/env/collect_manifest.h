#pragma once
#include <optional>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/core/json.h"
#include "gato/env/collect.h"

/// `collect.json` beside the shards of a collected data set: written last, so a data set without one is not finished.
namespace gato::env {

/// The summary of the data set in `folder` when it is complete, was made with `settings` and its shards are unchanged;
/// otherwise nothing, with the reason logged when there is a data set.
[[nodiscard]] std::optional<CollectSummary> find_finished_dataset(const Path& folder, const Json& settings);

/// Marks what is in `folder` as unfinished, before anything in it changes, and removes what a killed process left.
void begin_dataset(const Path& folder);

/// Marks the data set made of `shards` as finished.
void commit_dataset(const Path& folder, const Json& settings, const std::vector<Path>& shards,
                    const CollectSummary& summary);

}  // namespace gato::env

#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/episode/spec.h"

/// Environments of Python packages, played by worker processes (tools/env_worker): docs/environments.md. Their tasks
/// are in the registry like native ones; workers are started when a task is first played, and reused. This header is
/// for those who list, check or measure such tasks.
namespace gato::env {

/// The workers of a task failed so often that going on is pointless. Programs exit with 1.
class EnvironmentError : public Error {
  using Error::Error;
};

/// What a worker may take. Defaults may be changed by set_remote_limits before the first use.
struct RemoteLimits {
  double call_seconds = 30;    ///< Deadline of every call but the first; a worker that misses it is killed.
  double start_seconds = 120;  ///< Deadline of starting and of making environments.
  int64_t memory_mb = 8192;    ///< Address space of a worker process.
  int64_t cpu_seconds = 86400;
  int64_t open_files = 512;
  int spare_restarts = 3;  ///< Lost workers a batch survives; each ten finished episodes allow for one more.
};

/// Throws ConfigError for limits that are not above 0. Thread-safe.
void set_remote_limits(const RemoteLimits& limits);
/// The limits set, else the defaults with GATO_ENV_CALL_SECONDS and GATO_ENV_MEMORY_MB of the process's environment.
[[nodiscard]] RemoteLimits remote_limits();

/// One task of a family, as the catalogue knows it.
struct RemoteTask {
  episode::TaskSpec spec;  ///< Its expert and random are the measured returns; `episodes` 0 where not measured.
  bool has_expert = false;
  std::optional<double> expert_success = {}, random_success = {};  ///< In [0, 1], where the task defines success.
  int64_t expert_failures = 0, random_failures = 0;  ///< Episodes that failed while measuring, left out of means.
};

/// A family of environments: one Python package (or a few that fit together) with a virtual environment of its own.
/// Kept in data/environments/FAMILY.json, so that tasks can be listed and checked without the package.
struct RemoteFamily {
  std::string name;                             ///< "metaworld".
  std::map<std::string, std::string> packages;  ///< Versions that the specifications and measurements are of.
  uint64_t seed = 0;                            ///< Of the measurements: seeds_for(SeedUse::kReference, seed, ...).
  std::vector<RemoteTask> tasks;                ///< Sorted by id.
};

/// All families of data/environments/, sorted by name; read once. DataError naming file and key for damaged ones.
[[nodiscard]] const std::vector<RemoteFamily>& remote_families();
/// Versions of the packages that play a task; none for native tasks outside native families, and for names that are no
/// tasks.
[[nodiscard]] std::map<std::string, std::string> packages_of(const std::string& task);
/// Where the catalogue of a family is kept: ROOT/data/environments/FAMILY.json; that of a native family in native/.
[[nodiscard]] Path catalogue_path(const std::string& root, const std::string& family);
/// Strict inverse of to_json; DataError naming `origin` and the entry.
[[nodiscard]] RemoteFamily parse_catalogue(std::string_view json, const std::string& origin);
[[nodiscard]] std::string to_json(const RemoteFamily& family);

/// Whether the expert is above random by more than twice the standard error of the difference. Tasks where it is
/// measured not to be are flagged, and left out of means of scores.
[[nodiscard]] bool expert_is_better(const episode::TaskSpec& spec);

/// The Python that plays `family`: $GATO_DEPS_DIR/env-FAMILY/bin/python, or below .deps of data_root(). ConfigError
/// with the command that installs it when it is not there.
[[nodiscard]] Path family_python(const std::string& family);
[[nodiscard]] bool family_is_set_up(const std::string& family);

/// Asks a worker of `family` what it has: versions and tasks, unmeasured. Starts Python; seconds to a minute.
[[nodiscard]] RemoteFamily ask_family(const std::string& family);

/// Reads `bytes` as what a worker of a small task with fields of every modality might send, and says how many answers
/// there were. DataError where they make no sense. For fuzzing: everything that reads a worker's bytes is behind it.
size_t read_worker_bytes(std::string_view bytes);

/// Plays `episodes` episodes of `task`, which is one of `family`, with its expert (where there is one) and at random,
/// on `threads` workers (0: the thread budget), and fills in what they earned. Polls stop_requested(). Returns the
/// seconds that a step of the expert took, environment and all (0 without an expert).
double measure_references(const RemoteFamily& family, RemoteTask& task, int64_t episodes, int threads);

}  // namespace gato::env

#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// How this process was started: alone, or as one of many by torchrun, Slurm, MPI, Kubernetes or by hand
/// (docs/distributed.md).
namespace gato {

/// One process's place among the processes of a run. `rank` and so on count from 0.
struct Launch {
  std::string launcher = "none";  ///< torchrun, slurm, openmpi, pmi, env or none.
  int64_t rank = 0, size = 1;
  int64_t local_rank = 0, local_size = 1;  ///< Among the processes of this host.
  int64_t node = 0, nodes = 1;             ///< Which host, of how many.
  int64_t restart = 0;                     ///< How often the launcher has restarted this run.
  std::string master_address;              ///< Where rank 0 is reached; "" for one process.
  int master_port = 0;
  std::string run_id;              ///< The launcher's name of the run (a job's number); "" when it gives none.
  bool agent_store = false;        ///< The launcher itself serves the store at master_address: rank 0 too is a client.
  std::string error_file;          ///< Where the launcher wants the cause of a failure as JSON; "": nowhere.
  std::vector<std::string> notes;  ///< What a user should know of the verdict; logged by rank 0.

  /// What keys in a store of this attempt begin with: no attempt reads what another left behind.
  [[nodiscard]] std::string store_prefix() const;
};

/// The value of an environment variable, nothing when it is not set. A variable set to "" counts as not set.
using EnvironmentVariables = std::function<std::optional<std::string>(std::string_view name)>;

/// The variables of this process.
[[nodiscard]] EnvironmentVariables process_environment();

/// Which of the launchers `detect_launch` may believe: auto (what the variables say), none (one process, whatever they
/// say), or one of torchrun, slurm, openmpi, pmi, env, whose variables must then be there. Config field
/// `comm.launcher`.
inline constexpr const char* kLaunchers[] = {"auto", "none", "torchrun", "slurm", "openmpi", "pmi", "env"};

/// Reads the place of this process from the launcher's variables, first match of: torchrun, Slurm step, Open MPI, PMI,
/// RANK and WORLD_SIZE (also Kubernetes operators), alone. Throws ConfigError, naming the variable, its value and the
/// remedy, when variables of a launcher are set by half, are no numbers, or contradict one another; never falls back to
/// one process for that.
[[nodiscard]] Launch detect_launch(const EnvironmentVariables& variables, std::string_view launcher = "auto");

/// The verdict in one line: "launcher=torchrun rank 3/16 local 3/8 node 0/2 restart 1".
[[nodiscard]] std::string describe(const Launch& launch);

/// Host names behind a Slurm list such as "n[1-3,07-09],gpu-a", at most `max_hosts` of them (more is an error, found
/// before anything of that size is allocated). Throws ConfigError naming the list, the offset and what is wrong.
[[nodiscard]] std::vector<std::string> expand_host_list(std::string_view list, size_t max_hosts = 65536);

/// Tasks of node `node` in Slurm's short form, such as "4(x2),3": 4, 4, 3. Throws ConfigError naming the text.
[[nodiscard]] int64_t tasks_of_node(std::string_view tasks_per_node, int64_t node);

}  // namespace gato

#include "gato/core/launch.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/file.h"  // crc32c

/// The rules, launcher by launcher, are the table of docs/distributed.md.
namespace gato {
namespace {

constexpr int64_t kMaxProcesses = int64_t{1} << 20;
constexpr int kUsualPort = 29500;  // what PyTorch's launchers take, too
constexpr const char* kLoopback = "127.0.0.1";

/// Reads the variables of one launcher; every problem names launcher, variable and remedy.
class Variables {
 public:
  Variables(const EnvironmentVariables& lookup, std::string launcher)
      : lookup_(lookup), launcher_(std::move(launcher)) {}

  [[nodiscard]] std::optional<std::string> text(std::string_view name) const {
    auto value = lookup_(name);
    if (value && value->empty()) return std::nullopt;
    return value;
  }
  [[nodiscard]] bool has(std::string_view name) const { return text(name).has_value(); }
  [[nodiscard]] std::string text_or(std::string_view name, std::string_view otherwise) const {
    return text(name).value_or(std::string(otherwise));
  }

  [[nodiscard]] std::optional<int64_t> number(std::string_view name, int64_t most = kMaxProcesses) const {
    const auto value = text(name);
    if (!value) return std::nullopt;
    int64_t result = 0;
    const char* const end = value->data() + value->size();
    const auto parsed = std::from_chars(value->data(), end, result);
    if (parsed.ec != std::errc() || parsed.ptr != end || result < 0 || result > most) {
      fail(cat(name, " is \"", excerpt(*value), "\", which is no number from 0 to ", most));
    }
    return result;
  }
  [[nodiscard]] int64_t needed(std::string_view name, int64_t most = kMaxProcesses) const {
    if (const auto value = number(name, most)) return *value;
    missing(name);
  }
  /// The first of `names` that is set; its name goes to `found`.
  [[nodiscard]] std::optional<int64_t> first_number(std::initializer_list<std::string_view> names,
                                                    std::string_view* found = nullptr) const {
    for (const std::string_view name : names) {
      const auto value = number(name);
      if (!value) continue;
      if (found != nullptr) *found = name;
      return value;
    }
    return std::nullopt;
  }

  [[noreturn]] void missing(std::string_view name) const {
    fail(cat(name, " is not set, though other variables of this launcher are"));
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw ConfigError(cat("started by ", launcher_, "? ", problem,
                          "; start the program through the launcher, set the variables that docs/distributed.md "
                          "lists, or say comm.launcher=none to run alone"));
  }

 private:
  const EnvironmentVariables& lookup_;
  std::string launcher_;
};

/// A port that runs on the same host hardly share, below those that systems hand out by themselves (from 32768).
int port_for(const std::string& key) {
  constexpr uint32_t kFirst = 12000, kPorts = 17000;
  return static_cast<int>(kFirst + crc32c(key) % kPorts);
}

void check_counts(const Variables& variables, const Launch& launch) {
  const auto check = [&](const char* what, int64_t number, int64_t count) {
    if (number >= count) variables.fail(cat(what, " ", number, " of ", count, " (the first is 0)"));
  };
  check("rank", launch.rank, launch.size);
  check("local rank", launch.local_rank, launch.local_size);
  check("node", launch.node, launch.nodes);
  if (launch.local_size > launch.size) {
    variables.fail(cat("it says ", launch.local_size, " processes on this host, but ", launch.size, " in all"));
  }
}

/// Nodes are not told by MPI: they follow where all hosts have as many processes, ranks being dealt out host by host or
/// in turn. Elsewhere the node is that of the host-by-host order; it is for messages alone.
void derive_node(Launch& launch) {
  launch.nodes = (launch.size + launch.local_size - 1) / launch.local_size;
  launch.node = std::min(launch.rank / launch.local_size, launch.nodes - 1);
  const bool in_turn = launch.size % launch.local_size == 0 && launch.rank % launch.local_size != launch.local_rank &&
                       launch.rank / launch.nodes == launch.local_rank;
  if (in_turn) launch.node = launch.rank % launch.nodes;
}

/// One process per host, unless both variables say otherwise. `local` holds them.
void read_local(const Variables& variables, std::optional<int64_t> local_rank, std::string_view rank_name,
                std::optional<int64_t> local_size, std::string_view size_name, Launch& launch) {
  if (!local_rank && !local_size) {
    if (launch.size > 1) {
      launch.notes.push_back(cat(rank_name, " is not set: one process per host is taken for granted"));
    }
    launch.node = launch.rank;
    launch.nodes = launch.size;
    return;
  }
  if (!local_rank) variables.missing(rank_name);
  if (!local_size) variables.missing(size_name);
  launch.local_rank = *local_rank;
  launch.local_size = std::max<int64_t>(1, *local_size);
  derive_node(launch);
}

void read_port(const Variables& variables, int otherwise, Launch& launch) {
  const int64_t port = variables.number("MASTER_PORT", 65535).value_or(otherwise);
  if (port == 0) variables.fail("MASTER_PORT is 0");
  launch.master_port = static_cast<int>(port);
}

/// Where MPI's launchers say nothing of an address: on one host it is known, elsewhere the user gives it.
void read_master(const Variables& variables, int otherwise, Launch& launch) {
  if (launch.size == 1) return;
  const auto address = variables.text("MASTER_ADDR");
  if (!address && launch.local_size < launch.size) {
    variables.fail("MASTER_ADDR is not set, and the processes are on several hosts: set it to the host of rank 0");
  }
  launch.master_address = address.value_or(kLoopback);
  read_port(variables, otherwise, launch);
}

Launch torchrun(const EnvironmentVariables& lookup) {
  const Variables variables(lookup, "torchrun");
  Launch launch;
  launch.rank = variables.needed("RANK");
  launch.size = variables.needed("WORLD_SIZE");
  launch.local_rank = variables.needed("LOCAL_RANK");
  launch.local_size = variables.needed("LOCAL_WORLD_SIZE");
  launch.node = variables.needed("GROUP_RANK");
  launch.nodes = variables.needed("GROUP_WORLD_SIZE");
  launch.restart = variables.number("TORCHELASTIC_RESTART_COUNT").value_or(0);
  launch.run_id = variables.text_or("TORCHELASTIC_RUN_ID", "");
  launch.agent_store = variables.text_or("TORCHELASTIC_USE_AGENT_STORE", "") == "True";  // exactly so
  if (!variables.has("MASTER_ADDR")) variables.missing("MASTER_ADDR");
  if (!variables.has("MASTER_PORT")) variables.missing("MASTER_PORT");
  launch.master_address = *variables.text("MASTER_ADDR");
  read_port(variables, 0, launch);
  check_counts(variables, launch);
  return launch;
}

/// Whether this is a task of a step that srun made; batch scripts and interactive shells are steps with special
/// numbers.
bool is_slurm_step(const Variables& variables) {
  constexpr int64_t kFirstSpecialStep = 0xfffffff0;
  const auto step = variables.number("SLURM_STEP_ID", INT64_MAX);
  return step && *step < kFirstSpecialStep;
}

std::optional<int64_t> slurm_tasks(const Variables& variables) {
  return variables.first_number({"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"});
}

int64_t slurm_local_size(const Variables& variables, const Launch& launch) {
  for (const std::string_view name : {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"}) {
    if (const auto text = variables.text(name)) return tasks_of_node(*text, launch.node);
  }
  if (const auto tasks = variables.number("SLURM_NTASKS_PER_NODE")) return *tasks;
  variables.missing("SLURM_TASKS_PER_NODE");
}

void read_slurm_master(const Variables& variables, Launch& launch) {
  launch.master_address = variables.text_or("MASTER_ADDR", "");
  for (const std::string_view name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"}) {
    if (!launch.master_address.empty()) break;
    if (const auto list = variables.text(name)) launch.master_address = expand_host_list(*list).front();
  }
  if (launch.master_address.empty()) variables.missing("SLURM_STEP_NODELIST");
  read_port(variables, port_for(cat(launch.run_id, ".", variables.text_or("SLURM_STEP_ID", ""))), launch);
}

Launch slurm(const EnvironmentVariables& lookup) {
  const Variables variables(lookup, "Slurm's srun");
  Launch launch;
  launch.rank = variables.needed("SLURM_PROCID");
  const auto tasks = slurm_tasks(variables);
  if (!tasks) variables.missing("SLURM_NTASKS");
  launch.size = *tasks;
  launch.local_rank = variables.needed("SLURM_LOCALID");
  launch.node = variables.needed("SLURM_NODEID");
  const auto nodes = variables.first_number({"SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES"});
  if (!nodes) variables.missing("SLURM_NNODES");
  launch.nodes = *nodes;
  launch.local_size = slurm_local_size(variables, launch);
  launch.restart = variables.number("SLURM_RESTART_COUNT").value_or(0);  // not set on the first run
  const auto job = variables.text("SLURM_JOB_ID");
  if (!job) variables.missing("SLURM_JOB_ID");
  launch.run_id = *job;
  if (launch.size > 1) read_slurm_master(variables, launch);
  check_counts(variables, launch);
  return launch;
}

Launch openmpi(const EnvironmentVariables& lookup) {
  const Variables variables(lookup, "Open MPI's mpirun");
  Launch launch;
  launch.rank = variables.needed("OMPI_COMM_WORLD_RANK");
  launch.size = variables.needed("OMPI_COMM_WORLD_SIZE");
  launch.local_rank = variables.needed("OMPI_COMM_WORLD_LOCAL_RANK");
  launch.local_size = std::max<int64_t>(1, variables.needed("OMPI_COMM_WORLD_LOCAL_SIZE"));
  derive_node(launch);
  const auto name = variables.text("PMIX_NAMESPACE");
  launch.run_id = name.value_or("");
  read_master(variables, name ? port_for(*name) : kUsualPort, launch);
  check_counts(variables, launch);
  return launch;
}

std::optional<int64_t> pmi_size(const Variables& variables) {
  return variables.first_number({"PMI_SIZE", "MV2_COMM_WORLD_SIZE"});
}

Launch pmi(const EnvironmentVariables& lookup) {
  const Variables variables(lookup, "a launcher with PMI (MPICH, Intel MPI, Cray)");
  Launch launch;
  const auto rank = variables.first_number({"PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK"});
  const auto size = pmi_size(variables);
  if (!rank) variables.missing("PMI_RANK");
  if (!size) variables.missing("PMI_SIZE");
  launch.rank = *rank;
  launch.size = *size;
  std::string_view rank_name = "MPI_LOCALRANKID", size_name = "MPI_LOCALNRANKS";
  const auto local_rank = variables.first_number(
      {"MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "MV2_COMM_WORLD_LOCAL_RANK"}, &rank_name);
  const auto local_size = variables.first_number(
      {"MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"}, &size_name);
  read_local(variables, local_rank, rank_name, local_size, size_name, launch);
  read_master(variables, kUsualPort, launch);
  check_counts(variables, launch);
  return launch;
}

/// RANK and WORLD_SIZE, as set by hand, by a Kubernetes Job's manifest or by Kubeflow's PyTorchJob; PET_* alone, as set
/// by Kubeflow's TrainJob. The operators count hosts ("pods"), so that only one process on each is within reach.
Launch plain(const EnvironmentVariables& lookup) {
  const Variables variables(lookup, "hand or by a Kubernetes operator (RANK and WORLD_SIZE)");
  Launch launch;
  const bool operator_only = variables.has("PET_NNODES") && !variables.has("RANK") && !variables.has("WORLD_SIZE");
  const std::string per_host = variables.text_or("PET_NPROC_PER_NODE", operator_only ? "auto" : "1");
  if (per_host != "1" && !(per_host == "auto" && !operator_only)) {
    variables.fail(cat("PET_NPROC_PER_NODE is \"", excerpt(per_host),
                       "\", and only torchrun starts several processes in a pod: make the pod's command `torchrun "
                       "--no-python gato-train ...`, or set nprocPerNode to 1"));
  }
  launch.rank = variables.needed(operator_only ? "PET_NODE_RANK" : "RANK");
  launch.size = variables.needed(operator_only ? "PET_NNODES" : "WORLD_SIZE");
  read_local(variables, variables.number("LOCAL_RANK"), "LOCAL_RANK", variables.number("LOCAL_WORLD_SIZE"),
             "LOCAL_WORLD_SIZE", launch);
  launch.restart = variables.number("TORCHELASTIC_RESTART_COUNT").value_or(0);
  if (launch.size > 1) {
    const auto address = variables.text(operator_only ? "PET_MASTER_ADDR" : "MASTER_ADDR");
    const auto port = variables.number(operator_only ? "PET_MASTER_PORT" : "MASTER_PORT", 65535);
    if (!address) variables.missing(operator_only ? "PET_MASTER_ADDR" : "MASTER_ADDR");
    if (!port) variables.missing(operator_only ? "PET_MASTER_PORT" : "MASTER_PORT");
    if (*port == 0) variables.fail("MASTER_PORT is 0");
    launch.master_address = *address;
    launch.master_port = static_cast<int>(*port);
  }
  check_counts(variables, launch);
  return launch;
}

/// One process. Says so when the surroundings look as if more were wanted.
Launch alone(const EnvironmentVariables& lookup, const std::string& name) {
  const Variables variables(lookup, name);
  Launch launch;
  const auto tasks = slurm_tasks(variables);
  if (name == "none" || !variables.has("SLURM_JOB_ID")) return launch;
  launch.run_id = *variables.text("SLURM_JOB_ID");
  launch.restart = variables.number("SLURM_RESTART_COUNT").value_or(0);
  if (tasks.value_or(1) > 1) {
    launch.notes.push_back(cat("this Slurm job has ", *tasks,
                               " tasks, but only srun starts them: this is one process, and the others are idle; write "
                               "`srun gato-train ...` in the batch script"));
  }
  return launch;
}

/// mpirun makes a Slurm step of its own helpers, one per host, whose variables its processes inherit.
bool is_of_mpirun(const Variables& variables) {
  if (variables.has("OMPI_COMM_WORLD_RANK")) return true;
  const auto size = pmi_size(variables);
  return size && size != slurm_tasks(variables);
}

/// The launcher that the variables speak of; "" for none.
std::string find_launcher(const EnvironmentVariables& lookup) {
  const Variables variables(lookup, "several launchers");
  const auto any = [&](std::initializer_list<std::string_view> names) {
    return std::any_of(names.begin(), names.end(), [&](std::string_view name) { return variables.has(name); });
  };
  if (variables.has("TORCHELASTIC_RUN_ID")) return "torchrun";
  const bool is_step = is_slurm_step(variables);
  if (is_step && slurm_tasks(variables) != 1 && !is_of_mpirun(variables)) return "slurm";
  if (any({"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"})) return "openmpi";
  if (any({"PMI_RANK", "PMI_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"})) return "pmi";
  if (any({"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PET_NNODES"})) return "env";
  if (is_step) return "slurm";
  return any({"PMIX_RANK"}) ? "pmi" : "";  // PMIx tells no size: nobody says how many processes there are
}

}  // namespace

std::string Launch::store_prefix() const {
  return cat("gato/", run_id.empty() ? launcher : run_id, "/", restart, "/", size, "/");
}

EnvironmentVariables process_environment() {
  return [](std::string_view name) -> std::optional<std::string> {
    const char* value = std::getenv(std::string(name).c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
}

Launch detect_launch(const EnvironmentVariables& variables, std::string_view launcher) {
  if (std::find(std::begin(kLaunchers), std::end(kLaunchers), launcher) == std::end(kLaunchers)) {
    throw ConfigError(cat("comm.launcher: unknown launcher \"", excerpt(launcher), "\"; write one of ",
                          join({std::begin(kLaunchers), std::end(kLaunchers)}, ", ")));
  }
  const std::string found = launcher == "auto" ? find_launcher(variables) : std::string(launcher);
  const auto read = [&] {
    if (found == "torchrun") return torchrun(variables);
    if (found == "slurm") return slurm(variables);
    if (found == "openmpi") return openmpi(variables);
    if (found == "pmi") return pmi(variables);
    if (found == "env") return plain(variables);
    return alone(variables, found);
  };
  Launch launch = read();
  launch.launcher = found.empty() ? "none" : found;
  launch.error_file = Variables(variables, found).text_or("TORCHELASTIC_ERROR_FILE", "");
  return launch;
}

std::string describe(const Launch& launch) {
  return cat("launcher=", launch.launcher, " rank ", launch.rank, "/", launch.size, " local ", launch.local_rank, "/",
             launch.local_size, " node ", launch.node, "/", launch.nodes, " restart ", launch.restart);
}

}  // namespace gato

#include "run/host.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <thread>

#include "gato/core/text.h"

namespace gato::run {
namespace {

/// The value of the first line "KEY<separator>VALUE" of a small text file of the system; "" when there is none.
std::string value_in(const char* path, std::string_view key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t cut = line.find(separator);
    if (cut == std::string::npos || trim(std::string_view(line).substr(0, cut)) != key) continue;
    std::string value(trim(std::string_view(line).substr(cut + 1)));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    return is_valid_utf8(value) ? value : "";
  }
  return "";
}

constexpr std::array<const char*, 24> kListedVariables = {"OMP_NUM_THREADS",
                                                          "MKL_NUM_THREADS",
                                                          "CUDA_VISIBLE_DEVICES",
                                                          "RANK",
                                                          "WORLD_SIZE",
                                                          "LOCAL_RANK",
                                                          "LOCAL_WORLD_SIZE",
                                                          "GROUP_RANK",
                                                          "TORCHELASTIC_RUN_ID",
                                                          "SLURM_JOB_ID",
                                                          "SLURM_JOB_NUM_NODES",
                                                          "SLURM_PROCID",
                                                          "SLURM_NTASKS",
                                                          "SLURM_LOCALID",
                                                          "SLURM_NODEID",
                                                          "SLURM_RESTART_COUNT",
                                                          "OMPI_COMM_WORLD_RANK",
                                                          "OMPI_COMM_WORLD_SIZE",
                                                          "PMI_RANK",
                                                          "PMI_SIZE",
                                                          "NCCL_DEBUG",
                                                          "NCCL_ALGO",
                                                          "NCCL_PROTO",
                                                          "TORCHELASTIC_RESTART_COUNT"};

}  // namespace

std::map<std::string, std::string> host_facts() {
  std::map<std::string, std::string> facts;
  utsname name{};
  if (::uname(&name) == 0) {
    facts["host"] = name.nodename;
    facts["kernel"] = cat(name.sysname, " ", name.release);
    facts["machine"] = name.machine;
  }
  facts["operating_system"] = value_in("/etc/os-release", "PRETTY_NAME", '=');
  facts["processor"] = value_in("/proc/cpuinfo", "model name", ':');
  facts["memory"] = value_in("/proc/meminfo", "MemTotal", ':');
  facts["logical_processors"] = std::to_string(std::thread::hardware_concurrency());
  facts["process"] = std::to_string(::getpid());
#if defined(__clang__)
  facts["compiler"] = cat("clang ", __clang_version__);
#elif defined(__GNUC__)
  facts["compiler"] = cat("gcc ", __VERSION__);
#endif
  std::erase_if(facts, [](const auto& fact) { return fact.second.empty() || !is_valid_utf8(fact.second); });
  return facts;
}

std::map<std::string, std::string> listed_environment() {
  std::map<std::string, std::string> variables;
  for (const char* name : kListedVariables) {
    const char* value = std::getenv(name);
    if (value != nullptr && is_valid_utf8(value)) variables[name] = value;
  }
  return variables;
}

}  // namespace gato::run

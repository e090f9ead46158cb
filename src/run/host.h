#pragma once
#include <map>
#include <string>

namespace gato::run {

/// What is known of this machine and process and may bear on results: host name, processor, cores, memory, operating
/// system, compiler, process id. Keys are stable; what cannot be found out is left out. Holds no user name, address or
/// path.
[[nodiscard]] std::map<std::string, std::string> host_facts();

/// The environment variables on a fixed list that are set: thread counts, visible devices, launchers' ranks and job
/// numbers. No other variable is ever read, since any may hold a secret.
[[nodiscard]] std::map<std::string, std::string> listed_environment();

}  // namespace gato::run

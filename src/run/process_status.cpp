#include "run/process_status.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <limits>
#include <sstream>

#include "gato/core/text.h"

namespace gato::run {

std::optional<ProcessStatus> process_status(int64_t id, const Path& proc) {
  std::ifstream file(proc / cat(id) / "stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  const size_t name_end = line.rfind(')');  // the name before it may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(line.substr(name_end + 1));
  ProcessStatus status;
  rest >> status.state;
  constexpr int kFieldsBetween = 18;  // from field 4 to field 21
  std::string skipped;
  for (int i = 0; i < kFieldsBetween; ++i) rest >> skipped;
  rest >> status.start;
  if (!rest) return std::nullopt;
  return status;
}

ProcessLife process_life(int64_t id, uint64_t start, const Path& proc) {
  if (id <= 0 || id > std::numeric_limits<pid_t>::max()) return ProcessLife::kUnknown;
  const auto status = process_status(id, proc);
  if (!status) {
    const bool is_none = ::kill(static_cast<pid_t>(id), 0) != 0 && errno == ESRCH;
    return is_none ? ProcessLife::kEnded : ProcessLife::kUnknown;
  }
  if (status->state == 'Z' || status->state == 'X') return ProcessLife::kEnded;
  if (start == 0) return ProcessLife::kUnknown;  // another may have the number by now
  return status->start == start ? ProcessLife::kLives : ProcessLife::kEnded;
}

std::string machine_name() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  std::getline(file, boot);
  std::array<char, 64> space{};
  const ssize_t length = ::readlink("/proc/self/ns/pid", space.data(), space.size() - 1);
  if (boot.empty() || length <= 0) return "";
  const std::string name = cat(boot, " ", std::string(space.data(), static_cast<size_t>(length)));
  return is_valid_utf8(name) ? name : "";
}

}  // namespace gato::run

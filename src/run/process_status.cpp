#include "run/process_status.h"

#include <unistd.h>

#include <array>
#include <fstream>
#include <sstream>

#include "gato/core/text.h"

namespace gato::run {

std::optional<ProcessStatus> process_status(int64_t id) {
  std::ifstream file(cat("/proc/", id, "/stat"));
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

std::string machine_name() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  std::getline(file, boot);
  std::array<char, 64> space{};
  const ssize_t length = ::readlink("/proc/self/ns/pid", space.data(), space.size() - 1);
  const std::string name = cat(boot, " ", std::string(space.data(), static_cast<size_t>(length < 0 ? 0 : length)));
  return is_valid_utf8(name) ? name : "";
}

}  // namespace gato::run

#include "checkpoint/folder_names.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <vector>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

struct ProcessState {
  char state = '?';         // 'Z' and 'X' are dead
  std::string start_ticks;  // since the machine started
};

/// What /proc says of a process; nothing when it does not run.
std::optional<ProcessState> process_state(int64_t process) {
  std::ifstream file(cat("/proc/", process, "/stat"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // "PID (COMMAND) STATE ...": the command may hold anything, so fields are counted from its last bracket. The start
  // time is field 22, the 20th behind it (proc(5)).
  const size_t bracket = text.rfind(") ");
  if (bracket == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields = split(std::string_view(text).substr(bracket + 2), ' ');
  if (fields.size() < 20 || fields[0].size() != 1) return std::nullopt;
  return ProcessState{fields[0][0], fields[19]};
}

bool is_there(const Path& path) { return std::filesystem::exists(std::filesystem::symlink_status(path)); }

[[noreturn]] void throw_io(const Path& path, std::string_view action, const std::error_code& error) {
  throw IoError(cat(path.string(), ": cannot ", action, ": ", error.message(),
                    "; check the permissions and the state of the disk"),
                error.value());
}

}  // namespace

std::string process_tag() {
  const std::optional<ProcessState> own = process_state(::getpid());
  return cat(::getpid(), "-", own ? own->start_ticks : "0");
}

bool is_running(std::string_view tag) {
  const size_t dash = tag.find('-');
  int32_t process = 0;
  const auto parsed = std::from_chars(tag.data(), tag.data() + std::min(dash, tag.size()), process);
  if (dash == std::string_view::npos || parsed.ptr != tag.data() + dash || process <= 0) return false;
  const std::string_view start_ticks = tag.substr(dash + 1);
  if (start_ticks == "0") return ::kill(process, 0) == 0 || errno == EPERM;  // written where there is no /proc
  const std::optional<ProcessState> found = process_state(process);
  return found && found->start_ticks == start_ticks && found->state != 'Z' && found->state != 'X';
}

Path free_name(const Path& folder, std::string_view stem, std::string_view mark) {
  const std::string name = cat(stem, mark, process_tag());
  Path path = folder / name;
  for (int number = 1; is_there(path); ++number) {
    path = folder / cat(name, ".", number);
  }
  return path;
}

void delete_tree(const Path& path) {
  const std::string name = path.filename().string();
  Path doomed = path;
  std::error_code error;
  if (name.find(kDeletedMark) == std::string::npos && name.find(kUnfinishedMark) == std::string::npos) {
    doomed = free_name(path.parent_path(), name.substr(0, name.find('.')), kDeletedMark);
    try {
      rename_durable(path, doomed);
    } catch (const IoError&) {
      std::filesystem::remove_all(doomed, error);  // renamed, but not known to be durable
      throw;
    }
  }
  std::filesystem::remove_all(doomed, error);
  if (error) throw_io(doomed, "delete the folder", error);
}

Path free_damaged_name(const Path& path) {
  Path name;
  int64_t number = 0;
  do {
    name = cat(path.string(), kDamagedMark, ++number);
  } while (is_there(name));
  return name;
}

bool settle_replaced(const Path& path) {
  const Path aside = path.string() + std::string(kReplacedMark);
  if (!is_there(aside)) return false;
  if (!is_there(path)) {
    rename_durable(aside, path);
    return false;
  }
  if (verify_checkpoint(aside).empty()) {
    delete_tree(aside);
    return true;
  }
  const Path kept = free_damaged_name(path);
  rename_durable(aside, kept);
  log::warning("checkpoint", path.string(), ": a damaged checkpoint of this step was there; it is kept as ",
               kept.filename().string());
  return false;
}

void replace_link(const Path& link, const std::string& target) {
  const Path temporary = free_name(link.parent_path(), link.filename().string(), kUnfinishedMark);
  std::error_code error;
  std::filesystem::create_symlink(target, temporary, error);
  if (error) throw_io(temporary, cat("make a link to ", target), error);
  try {
    rename_durable(temporary, link);
  } catch (const IoError&) {
    std::filesystem::remove(temporary, error);
    throw;
  }
}

}  // namespace gato::checkpoint

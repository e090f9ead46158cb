// Where in the source something happened, and how it is said.
#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <mutex>

#include "cuda_emulation/machine.h"
#include "gato/core/text.h"

namespace gato::cuda_emulation {
namespace {

std::string file_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

/// Parses addr2line's "path:line" (line may be "?" or carry a discriminator). Line 0 when unknown.
std::pair<std::string, unsigned> parse_place(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || text.starts_with("??")) return {};
  unsigned line = 0;
  for (size_t i = colon + 1; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    line = line * 10 + static_cast<unsigned>(text[i] - '0');
  }
  return {file_name(text.substr(0, colon)), line};
}

/// Whether a file holds how kernels are called (launch_kernel), which says nothing of where they are at fault.
bool is_call_machinery(std::string_view file) { return file == "launch.h" || file == "tuple" || file == "invoke.h"; }

/// Asks addr2line, innermost inlined function first.
SourceLine look_up(uint64_t program_counter) {
  Dl_info object{};
  if (dladdr(reinterpret_cast<const void*>(program_counter), &object) == 0) return {};
  const uint64_t offset = program_counter - reinterpret_cast<uint64_t>(object.dli_fbase);
  // A program linked at a fixed address wants the address itself.
  const bool fixed = reinterpret_cast<uint64_t>(object.dli_fbase) == 0x400000;
  char command[1200];
  std::snprintf(command, sizeof command, "addr2line -i -e '%s' %#llx 2>/dev/null", object.dli_fname,
                static_cast<unsigned long long>(fixed ? program_counter : offset));
  FILE* output = popen(command, "r");
  if (output == nullptr) return {};
  SourceLine found;
  char line[1024];
  while (std::fgets(line, sizeof line, output) != nullptr) {
    const auto [file, number] = parse_place(trim(line));
    if (number == 0 || is_call_machinery(file)) continue;
    if (found.line == 0) {
      found.file = file;
      found.line = number;
    } else {
      found.inlined_from += cat(" (in ", file, ":", number, ")");
    }
  }
  pclose(output);
  return found;
}

}  // namespace

SourceLine source_line(Site site) {
  if (site.word() == 0) return {};
  if (site.is_call()) return {file_name(site.file()), site.line(), ""};
  static std::mutex mutex;
  static std::map<uint64_t, SourceLine> known;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = known.try_emplace(site.program_counter());
  if (is_new) entry->second = look_up(site.program_counter());
  return entry->second;
}

const char* fault_name(FaultKind kind) {
  switch (kind) {
    case FaultKind::kOutOfBounds:
      return "out of bounds";
    case FaultKind::kReadOnly:
      return "write to read-only memory";
    case FaultKind::kUnwritten:
      return "read of unwritten memory";
    case FaultKind::kMisaligned:
      return "misaligned access";
    case FaultKind::kSharedRace:
      return "race on shared memory";
    case FaultKind::kGlobalRace:
      return "race on global memory";
    case FaultKind::kAsyncCopy:
      return "unfinished asynchronous copy";
    case FaultKind::kDivergence:
      return "divergence";
    case FaultKind::kBadInstruction:
      return "bad instruction";
    case FaultKind::kUndefined:
      return "undefined behaviour";
  }
  return "fault";
}

}  // namespace gato::cuda_emulation

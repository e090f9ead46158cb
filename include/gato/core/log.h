#pragma once
#include <atomic>
#include <string>
#include <string_view>

#include "gato/core/text.h"

/// Messages for people, on standard error. The library behind them appears in log.cpp only.
namespace gato::log {

enum class Level { kDebug, kInfo, kWarning, kError, kOff };

/// Level from "debug", "info", "warning", "error" or "off"; throws ConfigError otherwise.
[[nodiscard]] Level parse_level(std::string_view name);

/// Messages below `level` are dropped. Default kInfo. Thread-safe.
void set_level(Level level);

/// The rank of this process; messages of ranks other than 0 below kWarning go to the file alone (set_file) unless
/// `all_ranks`. Default 0.
void set_rank(int rank, bool all_ranks = false);

/// Additionally appends every message, with time and level, to the file at `path`; throws IoError when it cannot be
/// opened.
void set_file(const std::string& path);

/// Writes one message. `module` is a short tag such as "data". Thread-safe.
void write(Level level, std::string_view module, std::string_view message);

/// The same to the file of set_file() alone: for what the console shows by other means.
void write_to_file(Level level, std::string_view module, std::string_view message);

template <class... Args>
void debug(std::string_view module, const Args&... args) {
  write(Level::kDebug, module, cat(args...));
}
template <class... Args>
void info(std::string_view module, const Args&... args) {
  write(Level::kInfo, module, cat(args...));
}
template <class... Args>
void warning(std::string_view module, const Args&... args) {
  write(Level::kWarning, module, cat(args...));
}
template <class... Args>
void error(std::string_view module, const Args&... args) {
  write(Level::kError, module, cat(args...));
}

/// True the first time, and then every `period`-th time, that `counter` (a static of the caller) is asked.
[[nodiscard]] bool every(std::atomic<int64_t>& counter, int64_t period);

}  // namespace gato::log

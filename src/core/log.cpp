#include "gato/core/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <memory>
#include <mutex>

#include "console.h"
#include "gato/core/error.h"
#include "gato/core/excerpt.h"

namespace gato::log {
namespace {

/// Standard error by way of the console, so that messages and progress bars do not disturb each other.
class ConsoleSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    std::string line(text.data(), text.size());
    if (console::is_terminal() && message.level >= spdlog::level::warn) {
      line.insert(0, message.level == spdlog::level::warn ? "\x1b[33m" : "\x1b[31m");
      line.insert(line.size() - 1, "\x1b[0m");
    }
    console::write_lines(line);
  }
  void flush_() override {}
};

spdlog::level::level_enum library_level(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kOff:
      break;
  }
  return spdlog::level::off;
}

struct State {
  std::atomic<Level> level{Level::kInfo};
  std::atomic<int> rank{0};
  std::atomic<bool> all_ranks{false};
  std::mutex mutex;  // of the sinks
  std::vector<std::shared_ptr<spdlog::sinks::sink>> sinks;
};

State& state() {
  static State* const instance = [] {  // never destroyed: other static objects may still write
    auto* made = new State;
    made->sinks.push_back(std::make_shared<ConsoleSink>());
    made->sinks.back()->set_pattern("%H:%M:%S %l %v");
    return made;
  }();
  return *instance;
}

void write_to_sinks(Level level, std::string_view module, std::string_view message, bool file_only) {
  State& log = state();
  if (level < log.level.load(std::memory_order_relaxed) || level == Level::kOff) return;
  const int rank = log.rank.load(std::memory_order_relaxed);
  const std::string text = cat(module, ": ", rank == 0 ? "" : cat("[rank ", rank, "] "), message);
  const spdlog::details::log_msg entry("gato", library_level(level), text);
  const std::lock_guard lock(log.mutex);
  for (const auto& sink : log.sinks) {
    if (file_only && sink == log.sinks.front()) continue;
    try {
      sink->log(entry);
      sink->flush();
    } catch (const std::exception& error) {
      // A full disk must not end the work that wanted to say something.
      console::write_lines(cat("log: cannot write a message: ", error.what(), "\n"));
    }
  }
}

}  // namespace

Level parse_level(std::string_view name) {
  if (name == "debug") return Level::kDebug;
  if (name == "info") return Level::kInfo;
  if (name == "warning") return Level::kWarning;
  if (name == "error") return Level::kError;
  if (name == "off") return Level::kOff;
  throw ConfigError(cat("unknown log level \"", excerpt(name), "\"; write one of debug, info, warning, error, off"));
}

void set_level(Level level) { state().level.store(level); }

void set_rank(int rank, bool all_ranks) {
  state().rank.store(rank);
  state().all_ranks.store(all_ranks);
  console::set_progress_silent(rank != 0);
}

void set_file(const std::string& path) {
  std::shared_ptr<spdlog::sinks::sink> sink;
  try {
    sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
  } catch (const spdlog::spdlog_ex& error) {
    const int error_number = errno;
    throw IoError(cat(path, ": cannot open the log file: ", error.what(), "; check the path and its permissions"),
                  error_number);
  }
  sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  const std::lock_guard lock(state().mutex);
  state().sinks.resize(1);  // a later file takes the place of an earlier one
  state().sinks.push_back(std::move(sink));
}

void write(Level level, std::string_view module, std::string_view message) {
  const State& log = state();
  const int rank = log.rank.load(std::memory_order_relaxed);
  const bool file_only = rank != 0 && level < Level::kWarning && !log.all_ranks.load(std::memory_order_relaxed);
  write_to_sinks(level, module, message, file_only);
}

void write_to_file(Level level, std::string_view module, std::string_view message) {
  write_to_sinks(level, module, message, true);
}

bool every(std::atomic<int64_t>& counter, int64_t period) {
  GATO_CHECK(period > 0, "every ", period, " messages");
  return counter.fetch_add(1, std::memory_order_relaxed) % period == 0;
}

}  // namespace gato::log

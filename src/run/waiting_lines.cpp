#include "gato/run/waiting_lines.h"

#include <utility>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/text.h"

namespace gato::run {

WaitingLines::WaitingLines(Path path, std::string header, size_t most_bytes)
    : path_(std::move(path)), header_(std::move(header)), most_bytes_(most_bytes) {}

WaitingLines::~WaitingLines() {
  flush();
  if (lines_.empty()) return;
  log::warning("run", path_.string(), ": its last ", lines_.size(), " lines could not be written and are lost");
}

void WaitingLines::add(std::string line) {
  GATO_CHECK(line.find('\n') == std::string::npos, "one line at a time into ", path_.string());
  bytes_ += line.size() + 1;
  lines_.push_back(std::move(line));
  give_up_oldest();
}

void WaitingLines::give_up_oldest() {
  while (bytes_ > most_bytes_ && lines_.size() > 1) {
    bytes_ -= lines_.front().size() + 1;
    lines_.pop_front();
    ++given_up_;
  }
}

void WaitingLines::flush() {
  if (lines_.empty()) return;
  std::error_code ignored;
  std::string text;
  text.reserve(bytes_ + header_.size() + 1);
  const auto size = std::filesystem::file_size(path_, ignored);
  if (!header_.empty() && (ignored || size == 0)) text.append(header_).append("\n");
  for (const std::string& line : lines_) text.append(line).append("\n");
  text.pop_back();
  try {
    append_lines(path_, text);
  } catch (const IoError& error) {
    return tell(error.what());
  }
  if (refused_) {
    log::info("run", path_.string(), ": can be written again, ", lines_.size(), " lines that waited are there",
              given_up_ > 0 ? cat(", ", given_up_, " older ones are not") : "");
  }
  lines_.clear();
  bytes_ = 0;
  given_up_ = 0;
  refused_ = false;
}

void WaitingLines::tell(const std::string& cause) {
  constexpr auto kOften = std::chrono::minutes(1);
  const auto now = Clock::now();
  const bool first = !std::exchange(refused_, true);
  if (!first && now - told_ < kOften) return;
  told_ = now;
  log::warning("run", cause, "; training goes on, ", lines_.size(), lines_.size() == 1 ? " line waits" : " lines wait",
               " in memory to be written there",
               given_up_ > 0 ? cat(", ", given_up_, " older ones had to be given up") : "");
}

}  // namespace gato::run

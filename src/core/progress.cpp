#include "gato/core/progress.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "console.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato {
namespace {

constexpr std::chrono::milliseconds kRedrawPeriod{100};
constexpr std::chrono::seconds kLinePeriod{5};
constexpr int kBarColumns = 24;

bool is_switched_off() {
  const char* setting = std::getenv("GATO_PROGRESS");
  return setting != nullptr && std::string_view(setting) == "off";
}

std::string bar_of(double share) {
  const auto filled = static_cast<size_t>(share * kBarColumns);
  return cat(" [", std::string(filled, '='), std::string(kBarColumns - filled, ' '), "]");
}

/// At most `bytes` bytes of `text`, without half characters.
std::string cut_to(const std::string& text, size_t bytes) {
  std::string_view kept = std::string_view(text).substr(0, bytes);
  size_t valid = kept.size();
  static_cast<void>(is_valid_utf8(kept, &valid));
  return std::string(kept.substr(0, valid));
}

}  // namespace

Progress::Progress(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(console::is_terminal()),
      silent_(is_switched_off() || console::progress_silent()),
      start_(std::chrono::steady_clock::now()),
      last_draw_(start_) {
  GATO_CHECK(total >= 0, "progress \"", label_, "\" towards ", total);
}

Progress::~Progress() { finish(); }

void Progress::add(int64_t count) {
  const std::lock_guard lock(mutex_);
  done_ += count;
  draw(false);
}

void Progress::set(int64_t count) {
  const std::lock_guard lock(mutex_);
  done_ = count;
  draw(false);
}

void Progress::note(std::string text) {
  const std::lock_guard lock(mutex_);
  note_ = std::move(text);
  draw(false);
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  draw(true);
  finished_ = true;
}

void Progress::draw(bool last) {
  if (silent_ || finished_) return;
  const auto now = std::chrono::steady_clock::now();
  const auto period = terminal_ ? std::chrono::steady_clock::duration(kRedrawPeriod) : kLinePeriod;
  if (!last && now - last_draw_ < period) return;
  last_draw_ = now;

  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  std::string numbers = cat(" ", done_);
  std::string bar;
  if (total_ > 0) {
    const double share = std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
    bar = bar_of(share);
    numbers += cat("/", total_, " ", unit_, " (", static_cast<int>(share * 100), " %)");
  } else {
    numbers += " " + unit_;
  }
  numbers += cat(", ", rate < 10 ? format_fixed(rate, 1) : format_count(rate), "/s");
  if (last) {
    numbers += ", took " + format_seconds(seconds);
  } else if (total_ > done_ && rate > 0) {
    numbers += ", " + format_seconds(static_cast<double>(total_ - done_) / rate) + " left";
  }
  if (!note_.empty()) numbers += ", " + note_;

  if (!terminal_) return console::write_lines(label_ + numbers + "\n");
  const auto columns = static_cast<size_t>(console::width() - 1);
  std::string line = label_ + bar + numbers;
  if (line.size() > columns) line = cut_to(label_ + numbers, columns);  // the numbers say more than the bar
  last ? console::end_bar(line) : console::draw_bar(line);
}

}  // namespace gato

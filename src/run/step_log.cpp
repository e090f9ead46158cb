#include "gato/run/step_log.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::run {
namespace {

constexpr std::string_view kHeader = "attempt,step,first_row,loss,gradient_norm,refused";
constexpr size_t kMaxLine = 4096;

/// The shortest text that reads back as the same number.
std::string exact(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

template <class T>
bool read_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::optional<StepRecord> parse_line(std::string_view line) {
  const std::vector<std::string> cells = split(line, ',');
  StepRecord record;
  int refused = 0;
  if (cells.size() != 6 || !read_number(cells[0], record.attempt) || !read_number(cells[1], record.step) ||
      !read_number(cells[2], record.first_row) || !read_number(cells[3], record.loss) ||
      !read_number(cells[4], record.gradient_norm) || !read_number(cells[5], refused) || refused < 0 || refused > 1) {
    return std::nullopt;
  }
  record.refused = refused == 1;
  return record;
}

}  // namespace

StepLogWriter::StepLogWriter(Path path) : lines_(std::move(path), std::string(kHeader)) {}

void StepLogWriter::add(const StepRecord& record) {
  lines_.add(cat(record.attempt, ",", record.step, ",", record.first_row, ",", exact(record.loss), ",",
                 exact(record.gradient_norm), ",", record.refused ? 1 : 0));
}

std::vector<StepRecord> read_steps(const Path& path, int64_t first_step) {
  std::vector<StepRecord> steps;
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.size() > kMaxLine) continue;
    const auto record = parse_line(line);
    if (!record || record->step < first_step) continue;
    // A later attempt starts from a checkpoint: what stands behind its first step was computed in vain.
    while (!steps.empty() && steps.back().step >= record->step) steps.pop_back();
    steps.push_back(*record);
  }
  return steps;
}

}  // namespace gato::run

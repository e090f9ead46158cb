#include "run/queue_names.h"

#include <algorithm>
#include <charconv>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/text.h"

namespace gato::run {
namespace {

constexpr std::string_view kPrefix = "job-", kSuffix = ".json";
constexpr size_t kJobDigits = 5;

std::optional<size_t> number(std::string_view digits) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace

bool is_worker_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.size() <= 120 && name.front() != '.' &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string event_name(size_t job, size_t event) {
  const std::string digits = std::to_string(job);
  return cat(kPrefix, std::string(kJobDigits - std::min(kJobDigits, digits.size()), '0'), digits, ".", event, kSuffix);
}

std::optional<std::pair<size_t, size_t>> parse_event_name(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  const std::string_view middle = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  const size_t point = middle.find('.');
  if (point == std::string_view::npos) return std::nullopt;
  const auto job = number(middle.substr(0, point)), event = number(middle.substr(point + 1));
  if (!job || !event || event_name(*job, *event) != name) return std::nullopt;
  return std::pair(*job, *event);
}

std::string batch_name(int64_t step, const std::string& suite) { return cat(checkpoint::step_name(step), "@", suite); }

}  // namespace gato::run

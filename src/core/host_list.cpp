#include <charconv>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/launch.h"

namespace gato {
namespace {

constexpr size_t kMaxListBytes = size_t{1} << 20;
constexpr size_t kMaxHostBytes = 253;  // of a name in DNS
constexpr size_t kMaxDigits = 18;      // fits int64_t

/// Reads Slurm's host lists: items with commas between, each a text with any number of [ranges] in it.
class HostListParser {
 public:
  HostListParser(std::string_view list, size_t max_hosts) : list_(list), max_hosts_(max_hosts) {}

  std::vector<std::string> parse() {
    if (list_.empty()) fail("it is empty");
    if (list_.size() > kMaxListBytes) fail(cat("it has ", list_.size(), " bytes, more than ", kMaxListBytes));
    for (;;) {
      item();
      if (at_ == list_.size()) return std::move(hosts_);
      ++at_;  // the comma
    }
  }

 private:
  struct Range {
    int64_t first = 0, last = 0;
    size_t width = 0;  ///< Digits of the first number: the names are padded with zeros to it.
  };

  [[noreturn]] void fail(const std::string& problem) const {
    throw ConfigError(
        cat("host list \"", excerpt(list_), "\": at byte ", at_, " ", problem, "; expected such as n[1-3,7],gpu-a"));
  }

  [[nodiscard]] char peek() const { return at_ < list_.size() ? list_[at_] : '\0'; }
  [[nodiscard]] bool ends_item() const { return at_ == list_.size() || list_[at_] == ','; }

  void item() {
    std::vector<std::string> names = {""};
    if (ends_item()) fail("a host is missing");
    while (!ends_item()) {
      if (peek() == '[') {
        append_ranges(names);
      } else {
        const char letter = host_letter();
        for (std::string& name : names) name += letter;
      }
      if (names.front().size() > kMaxHostBytes) fail(cat("a host's name has more than ", kMaxHostBytes, " bytes"));
    }
    if (names.size() > max_hosts_ - hosts_.size()) fail(cat("it names more than ", max_hosts_, " hosts"));
    for (std::string& name : names) hosts_.push_back(std::move(name));
  }

  char host_letter() {
    const char letter = peek();
    const bool known = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                       (letter >= '0' && letter <= '9') || letter == '-' || letter == '.' || letter == '_';
    if (!known) fail("there is a character that no host's name has");
    ++at_;
    return letter;
  }

  /// Replaces every name by it followed by each number of the bracket. Counted before anything is made.
  void append_ranges(std::vector<std::string>& names) {
    ++at_;  // the bracket
    std::vector<Range> ranges;
    size_t numbers = 0;
    for (;;) {
      const size_t room = (max_hosts_ - hosts_.size()) / names.size();
      ranges.push_back(range());
      const auto count = static_cast<uint64_t>(ranges.back().last - ranges.back().first) + 1;
      if (count > room - numbers) fail(cat("it names more than ", max_hosts_, " hosts"));
      numbers += static_cast<size_t>(count);
      if (peek() == ']') break;
      if (peek() != ',') fail("a comma or ] is missing");
      ++at_;
    }
    ++at_;
    std::vector<std::string> longer;
    longer.reserve(names.size() * numbers);
    for (const std::string& name : names) {
      for (const Range& range : ranges) append_range(name, range, longer);
    }
    names = std::move(longer);
  }

  static void append_range(const std::string& name, const Range& range, std::vector<std::string>& out) {
    for (int64_t number = range.first; number <= range.last; ++number) {
      const std::string digits = std::to_string(number);
      out.push_back(name + std::string(range.width - std::min(range.width, digits.size()), '0') + digits);
    }
  }

  Range range() {
    Range result;
    const size_t begin = at_;
    result.first = result.last = number();
    result.width = at_ - begin;
    if (peek() != '-') return result;
    ++at_;
    result.last = number();
    if (result.last < result.first) fail("a range ends below its beginning");
    return result;
  }

  int64_t number() {
    const size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    if (at_ == begin) fail("a number is missing");
    if (at_ - begin > kMaxDigits) fail("a number has too many digits");
    int64_t value = 0;
    std::from_chars(list_.data() + begin, list_.data() + at_, value);
    return value;
  }

  std::string_view list_;
  size_t max_hosts_;
  size_t at_ = 0;
  std::vector<std::string> hosts_;
};

[[noreturn]] void fail_tasks(std::string_view text, const std::string& problem) {
  throw ConfigError(cat("tasks per node \"", excerpt(text), "\": ", problem, "; expected such as 4(x2),3"));
}

/// The digits at the front of `text`, which are taken off it.
int64_t take_number(std::string_view whole, std::string_view& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || text.front() == '-') fail_tasks(whole, "a number is missing or too large");
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool take(std::string_view& text, std::string_view what) {
  if (text.substr(0, what.size()) != what) return false;
  text.remove_prefix(what.size());
  return true;
}

}  // namespace

std::vector<std::string> expand_host_list(std::string_view list, size_t max_hosts) {
  return HostListParser(list, max_hosts).parse();
}

int64_t tasks_of_node(std::string_view tasks_per_node, int64_t node) {
  GATO_CHECK(node >= 0, "node ", node);
  std::string_view rest = tasks_per_node;
  int64_t first = 0;  // node of the present item
  for (;;) {
    const int64_t tasks = take_number(tasks_per_node, rest);
    int64_t repeats = 1;
    if (take(rest, "(x")) {
      repeats = take_number(tasks_per_node, rest);
      if (!take(rest, ")")) fail_tasks(tasks_per_node, "a closing parenthesis is missing");
    }
    if (repeats > node - first) return tasks;
    first += repeats;
    if (rest.empty()) fail_tasks(tasks_per_node, cat("it has ", first, " nodes, and this is node ", node));
    if (!take(rest, ",")) fail_tasks(tasks_per_node, "a comma is missing");
  }
}

}  // namespace gato

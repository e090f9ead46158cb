#include "gato/core/injected_faults.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/log.h"

namespace gato {
namespace {

constexpr std::array<std::pair<std::string_view, FaultKind>, 8> kKinds = {{{"kill", FaultKind::kKill},
                                                                           {"stop", FaultKind::kStop},
                                                                           {"term", FaultKind::kTerm},
                                                                           {"hang", FaultKind::kHang},
                                                                           {"error", FaultKind::kError},
                                                                           {"abort", FaultKind::kAbort},
                                                                           {"nan", FaultKind::kNan},
                                                                           {"flip", FaultKind::kFlip}}};
constexpr std::array<std::string_view, 5> kPlaces = {"start", "data", "step", "validation", "save"};

[[noreturn]] void fail(std::string_view part, const std::string& problem) {
  throw ConfigError(cat("GATO_FAULTS: \"", excerpt(part), "\": ", problem,
                        "; expected such as step=5,rank=1,kind=kill (docs/reliability.md)"));
}

int64_t parse_number(std::string_view part, std::string_view value) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 0) fail(part, "is no number");
  return number;
}

FaultKind parse_kind(std::string_view part, std::string_view value) {
  for (const auto& [name, kind] : kKinds) {
    if (value == name) return kind;
  }
  fail(part, "unknown kind");
}

InjectedFault parse_fault(std::string_view text) {
  InjectedFault fault;
  bool has_kind = false;
  for (const std::string& part : split(text, ',')) {
    const size_t cut = part.find('=');
    if (cut == std::string::npos) fail(part, "there is no =");
    const std::string key = part.substr(0, cut), value = part.substr(cut + 1);
    if (key == "kind") {
      fault.kind = parse_kind(part, value);
      has_kind = true;
    } else if (key == "where") {
      if (std::find(kPlaces.begin(), kPlaces.end(), value) == kPlaces.end()) fail(part, "unknown place");
      fault.where = value;
    } else if (key == "step") {
      fault.step = parse_number(part, value);
    } else if (key == "rank") {
      fault.rank = parse_number(part, value);
    } else if (key == "attempt") {
      fault.attempt = parse_number(part, value);
    } else {
      fail(part, "unknown key");
    }
  }
  if (!has_kind) fail(text, "kind is missing");
  return fault;
}

[[noreturn]] void hang() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace

std::vector<InjectedFault> parse_injected_faults(std::string_view text) {
  std::vector<InjectedFault> faults;
  for (const std::string& fault : split(text, ';')) faults.push_back(parse_fault(fault));
  return faults;
}

InjectedFaults::InjectedFaults(std::vector<InjectedFault> faults, int64_t rank, int64_t attempt)
    : faults_(std::move(faults)) {
  std::erase_if(faults_, [&](const InjectedFault& fault) {
    return fault.rank != rank || fault.attempt.value_or(attempt) != attempt;
  });
}

InjectedFaults::InjectedFaults(int64_t rank, int64_t attempt) {
  const char* const text = std::getenv("GATO_FAULTS");
  if (text == nullptr || *text == '\0') return;
  *this = InjectedFaults(parse_injected_faults(text), rank, attempt);
  if (!faults_.empty()) log::warning("faults", "this process will fail on purpose: GATO_FAULTS=", excerpt(text, 400));
}

std::optional<FaultKind> InjectedFaults::strike(std::string_view where, int64_t step) const {
  for (const InjectedFault& fault : faults_) {
    if (fault.where != where || (fault.step != step && where != "start")) continue;
    switch (fault.kind) {
      case FaultKind::kKill:
        std::raise(SIGKILL);
        break;
      case FaultKind::kStop:
        std::raise(SIGSTOP);
        break;
      case FaultKind::kTerm:
        std::raise(SIGTERM);
        break;
      case FaultKind::kHang:
        hang();
      case FaultKind::kError:
        throw Error(cat("a fault was asked for at step ", step, " (GATO_FAULTS)"));
      case FaultKind::kAbort:
        std::abort();
      case FaultKind::kNan:
      case FaultKind::kFlip:
        return fault.kind;
    }
  }
  return std::nullopt;
}

}  // namespace gato

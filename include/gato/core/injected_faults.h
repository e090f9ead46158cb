#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Faults that a test or a campaign asks for through the environment variable GATO_FAULTS (docs/reliability.md), such
/// as "step=5,rank=1,kind=kill". Without the variable nothing here costs anything.
namespace gato {

enum class FaultKind {
  kKill,   ///< SIGKILL.
  kStop,   ///< SIGSTOP.
  kTerm,   ///< SIGTERM to itself: the process goes on and hears of it.
  kHang,   ///< Sleeps for ever.
  kError,  ///< Throws Error.
  kAbort,  ///< SIGABRT.
  kNan,    ///< The gradient holds a NaN. Up to the caller.
  kFlip,   ///< One bit of one parameter flips. Up to the caller.
};

struct InjectedFault {
  FaultKind kind = FaultKind::kKill;
  std::string where = "step";           ///< start, data, step, validation or save.
  int64_t step = 0;                     ///< Of the run, from 1; for `start` ignored.
  int64_t rank = 0;                     ///< Of the process that fails.
  std::optional<int64_t> attempt = {};  ///< Only in this attempt of the run folder (from 1); nothing: in each.
};

/// Faults of a text "key=value,key=value;..." with keys kind (required), where, step, rank, attempt. Throws ConfigError
/// naming the part that is wrong.
[[nodiscard]] std::vector<InjectedFault> parse_injected_faults(std::string_view text);

/// The faults of one process.
class InjectedFaults {
 public:
  InjectedFaults() = default;
  /// Those of GATO_FAULTS that concern `rank` in `attempt`; warns that they are on.
  InjectedFaults(int64_t rank, int64_t attempt);
  InjectedFaults(std::vector<InjectedFault> faults, int64_t rank, int64_t attempt);

  /// Does what is asked for at this place; kNan and kFlip are returned for the caller to do.
  [[nodiscard]] std::optional<FaultKind> strike(std::string_view where, int64_t step) const;

 private:
  std::vector<InjectedFault> faults_;
};

}  // namespace gato

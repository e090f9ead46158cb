// Small files by which the processes of a run tell of themselves: reading them either works or throws DataError, and
// what was read is written back as the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gato/core/error.h"
#include "gato/run/heartbeat.h"
#include "gato/run/progress_guard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto state = gato::run::parse_rank_state(text, "fuzz");
    if (gato::run::parse_rank_state(gato::run::to_json(state), "fuzz").rank != state.rank) std::abort();
  } catch (const gato::DataError&) {
  }
  try {
    const auto record = gato::run::parse_failure_record(text, "fuzz");
    const auto again = gato::run::parse_failure_record(gato::run::to_json(record), "fuzz");
    if (again.failures.size() != record.failures.size()) std::abort();
  } catch (const gato::DataError&) {
  }
  return 0;
}

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gato/core/error.h"
#include "gato/run/evaluation_queue.h"
#include "gato/run/evaluation_worker.h"

namespace {

/// What parses is written the same way again, and read as the same.
template <class Parse>
void round_trip(std::string_view text, const Parse& parse) {
  try {
    const auto value = parse(text);
    const std::string again = gato::run::to_json(value);
    if (!(parse(again) == value)) __builtin_trap();
  } catch (const gato::DataError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  round_trip(text, [](std::string_view t) { return gato::run::parse_job_batch(t, "fuzz"); });
  round_trip(text, [](std::string_view t) { return gato::run::parse_evaluation_plan(t, "fuzz"); });
  round_trip(text, [](std::string_view t) { return gato::run::parse_job_event(t, "fuzz"); });
  round_trip(text, [](std::string_view t) { return gato::run::parse_worker_state(t, "fuzz"); });
  round_trip(text, [](std::string_view t) { return gato::run::parse_task_result(t, "fuzz"); });
  return 0;
}

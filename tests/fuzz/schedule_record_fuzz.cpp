// Any text as a run's schedule.json: refused with DataError, or accepted with a record that survives writing and
// reading.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gato/core/error.h"
#include "gato/data/schedule.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const gato::data::ScheduleRecord record = gato::data::parse_schedule_record(text, "input");
    if (!(gato::data::parse_schedule_record(to_json(record), "written") == record)) std::abort();
  } catch (const gato::DataError&) {
  }
  return 0;
}

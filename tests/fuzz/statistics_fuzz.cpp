// Any text as stored statistics: refused with DataError, or accepted with statistics that
// survive writing and reading.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gato/core/error.h"
#include "gato/data/statistics.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gato::data;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const ShardStatistics statistics = parse_shard_statistics(text, "input");
    if (!(parse_shard_statistics(shard_statistics_json(statistics), "written") == statistics)) std::abort();
    for (const TaskStatistics& task : statistics.tasks) static_cast<void>(describe_statistics(task));
  } catch (const gato::DataError&) {
  }
  try {
    const StatisticsByTask statistics = parse_statistics(text, "input");
    if (!(parse_statistics(statistics_json(statistics), "written") == statistics)) std::abort();
  } catch (const gato::DataError&) {
  }
  return 0;
}

// Any bytes as a TFRecord file, compressed or not: records until the end, or DataError. What was read from an
// uncompressed file stands in it at the offset that the reader says.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "episode/import/tfrecord.h"
#include "gato/core/error.h"

namespace {

using namespace gato::episode;

void require(bool holds) {
  if (!holds) std::abort();
}

void read_all(std::string_view file, Compression compression) {
  const TfRecordLimits limits{.max_record_bytes = 1 << 20,
                              .decompression = {.ratio = 200, .slack = 1 << 16, .most = 1 << 24}};
  try {
    TfRecordReader reader = tfrecord_in_memory(file, "input", compression, limits);
    std::string payload;
    while (reader.next(payload)) {
      require(payload.size() <= limits.max_record_bytes && reader.position() <= file.size());
      if (compression == Compression::kNone) {
        require(file.substr(static_cast<size_t>(reader.offset()) + 12, payload.size()) == payload);
      }
    }
  } catch (const gato::DataError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  // What the first bytes say, and another way by the size.
  constexpr Compression kOthers[] = {Compression::kNone, Compression::kGzip, Compression::kZlib};
  read_all(file, Compression::kByMagic);
  read_all(file, kOthers[size % 3]);
  return 0;
}

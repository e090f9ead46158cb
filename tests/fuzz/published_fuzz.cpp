// Any text as a table of published scores: refused with DataError, or accepted.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gato/core/error.h"
#include "gato/run/published.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    static_cast<void>(gato::run::parse_published({reinterpret_cast<const char*>(data), size}, "input"));
  } catch (const gato::DataError&) {
  }
  return 0;
}

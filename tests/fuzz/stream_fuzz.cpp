// Episode streams that nobody vouches for: reading all records either works or throws DataError. The input is the
// stream; checksums are optional in the format, so that changed bytes reach the code behind.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "gato/core/error.h"
#include "gato/episode/formats.h"

namespace {

/// A file in memory that holds the input.
int scratch_file(const uint8_t* data, size_t size) {
  static const int descriptor = ::memfd_create("gato_stream_fuzz", MFD_CLOEXEC);
  if (descriptor < 0 || ::ftruncate(descriptor, 0) != 0 || ::lseek(descriptor, 0, SEEK_SET) != 0) std::abort();
  if (::write(descriptor, data, size) != static_cast<ssize_t>(size)) std::abort();
  if (::lseek(descriptor, 0, SEEK_SET) != 0) std::abort();
  return descriptor;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto stream = gato::episode::stream_format(scratch_file(data, size), "input", nullptr);
    const auto records = stream.format->open(0);
    gato::episode::RawRecord record;
    while (records->next(record)) {
      try {
        static_cast<void>(stream.format->parse(record));
      } catch (const gato::DataError&) {
      }
    }
  } catch (const gato::DataError&) {
  }
  return 0;
}

// Any text as a checkpoint's manifest, as it is and with the checksum line that it needs (otherwise hardly any input
// would come past the checksum): refused with CheckpointError, or accepted with a manifest that survives writing and
// reading.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "gato/checkpoint/manifest.h"
#include "gato/core/error.h"
#include "gato/core/file.h"

namespace {

void check(const std::string& text) {
  try {
    const gato::checkpoint::Manifest manifest = gato::checkpoint::parse_manifest(text, "input");
    for (const gato::checkpoint::FileEntry& file : manifest.files) {
      if (!gato::checkpoint::is_valid_file_name(file.name) || manifest.find(file.name) != &file) std::abort();
    }
    if (!(gato::checkpoint::parse_manifest(to_text(manifest), "written") == manifest)) std::abort();
  } catch (const gato::CheckpointError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  check(text);
  const size_t tail = text.rfind(" \"manifest_crc32c\"");
  if (tail != std::string::npos) text.resize(tail);
  char line[64];
  std::snprintf(line, sizeof line, " \"manifest_crc32c\": \"%08x\"\n}\n", gato::crc32c(text));
  check(text + line);
  return 0;
}

// Any text as each of the lists around checkpoints: the files of one process's part, the index of an export, the pins.
// Each is refused with its error, or accepted with something that obeys the rules.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "gato/checkpoint/manifest.h"
#include "gato/checkpoint/retention.h"
#include "gato/checkpoint/tensor_set.h"
#include "gato/core/error.h"

using namespace gato::checkpoint;

namespace {

void check_entries(const std::string& text) {
  try {
    const auto entries = parse_entries(text, "input");
    for (const FileEntry& file : entries) {
      if (!is_valid_file_name(file.name)) std::abort();
    }
    if (!(parse_entries(entries_to_text(entries), "written") == entries)) std::abort();
  } catch (const gato::CheckpointError&) {
  }
}

void check_index(const std::string& text) {
  try {
    const auto files = parse_tensor_index(text, "input");
    if (files.empty()) std::abort();
    for (const auto& [tensor, file] : files) {
      if (!is_valid_file_name(file) || file.find('/') != std::string::npos) std::abort();
    }
  } catch (const gato::CheckpointError&) {
  }
}

void check_pins(const std::string& text) {
  try {
    for (const int64_t step : parse_pins(text, "input")) {
      if (step < 0 || text.find(step_name(step)) == std::string::npos) std::abort();
    }
  } catch (const gato::DataError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  check_entries(text);
  check_index(text);
  check_pins(text);
  return 0;
}

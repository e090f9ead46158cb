// Text files that nobody vouches for, plain and JSONL, compressed or not: reading all documents either works or throws
// DataError.
//
//   byte 0      0: JSONL, 1: files, 2: paragraphs, 3: lines (modulo 4)
//   the rest    the file
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gato/core/error.h"
#include "gato/episode/formats.h"
#include "scratch_file.h"

namespace {

using namespace gato::episode;

template <class Body>
void tolerate_damage(const Body& body) {
  try {
    body();
  } catch (const gato::DataError&) {
  }
}

void read_documents(const std::string& path, int choice) {
  TextImport options;
  options.task = "text/fuzz";
  options.kind = choice == 0 ? TextKind::kJsonl : TextKind::kPlain;
  options.split = choice == 1 ? TextSplit::kFile : choice == 2 ? TextSplit::kParagraphs : TextSplit::kLines;
  const auto format = text_format({path}, options);
  const auto stream = format->open(0);
  for (RawRecord record; stream->next(record);) {
    tolerate_damage([&] {
      for (const ParsedRecord::Part& part : format->parse(record).episodes) {
        check_episode(format->tasks()[0], part.episode);
      }
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string& path = gato::fuzz::scratch_file("fuzz.txt", content);
  tolerate_damage([&] { read_documents(path, data[0] % 4); });
  return 0;
}

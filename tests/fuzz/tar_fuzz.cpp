// WebDataset archives that nobody vouches for: reading and parsing all samples either works or throws DataError. A
// changed byte fails a header's checksum before it reaches the code behind, so the input says whether these are to be
// made right again:
//
//   byte 0      bit 0: make the checksums of headers right; bit 1: questions and answers, else captions
//   the rest    the archive, plain or compressed
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gato/core/error.h"
#include "gato/episode/formats.h"
#include "scratch_file.h"

namespace {

using namespace gato::episode;

/// Every block that looks like a header gets its checksum.
void fix_checksums(std::string& archive) {
  for (size_t block = 0; block + 512 <= archive.size(); block += 512) {
    if (archive.compare(block + 257, 5, "ustar") != 0) continue;
    archive.replace(block + 148, 8, 8, ' ');
    unsigned sum = 0;
    for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(archive[block + i]);
    for (size_t i = 6; i-- > 0; sum >>= 3) archive[block + 148 + i] = static_cast<char>('0' + (sum & 7));
    archive[block + 154] = '\0';
  }
}

template <class Body>
void tolerate_damage(const Body& body) {
  try {
    body();
  } catch (const gato::DataError&) {
  }
}

void read_samples(const std::string& path, bool questions) {
  WebDatasetImport options;
  options.task = "pictures/fuzz";
  options.height = options.width = 8;
  if (questions) {
    options.question = "json:qa[].question";
    options.answer = "json:qa[].answer";
  }
  const auto format = webdataset_format({path}, options);
  const auto stream = format->open(0);
  for (RawRecord record; stream->next(record);) {
    tolerate_damage([&] {
      for (ParsedRecord::Part& part : format->parse(record).episodes) check_episode(format->tasks()[0], part.episode);
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string archive(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 1) != 0) fix_checksums(archive);
  const std::string& path = gato::fuzz::scratch_file("fuzz.tar", archive);
  tolerate_damage([&] { read_samples(path, (data[0] & 2) != 0); });
  return 0;
}

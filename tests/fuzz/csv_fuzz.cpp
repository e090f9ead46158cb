// Tables of steps that nobody vouches for: reading all episodes either works or throws DataError. The input is the
// table behind a fixed mapping; an input whose first row has other columns ends at once, so seeds begin with the right
// one.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "gato/core/error.h"
#include "gato/episode/formats.h"

namespace {

constexpr const char* kMapping = R"(task: t/c
columns: {episode: id, reward: r, terminated: done, truncated: cut, success: won, agent: who, seed: seed}
observation:
  o: {modality: continuous, columns: [x, y]}
  t: {modality: text, columns: [text]}
  p: {modality: image, columns: [file], shape: [0, 0, 3]}
action:
  a: {modality: discrete, columns: [a], num_values: 300}
  b: {modality: discrete, columns: [b], values: [left, right], label: [c]}
)";

/// The mapping and the table, in memory where the system has such a folder.
struct Scratch {
  std::string stem, mapping, table;
  Scratch() {
    const bool shared_memory = ::access("/dev/shm", W_OK) == 0;
    stem = (shared_memory ? "/dev/shm/" : "/tmp/") + std::string("gato_csv_fuzz_") + std::to_string(::getpid());
    mapping = stem + ".yaml";
    table = stem + ".csv";
    std::ofstream(mapping) << kMapping;
  }
  ~Scratch() {
    std::remove(mapping.c_str());
    std::remove(table.c_str());
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Scratch scratch;
  {
    std::ofstream table(scratch.table, std::ios::binary | std::ios::trunc);
    table.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    if (!table.flush()) std::abort();
  }
  try {
    const auto format = gato::episode::csv_format({scratch.table}, scratch.mapping);
    const auto records = format->open(0);
    gato::episode::RawRecord record;
    while (records->next(record)) {
      try {
        static_cast<void>(format->parse(record));
      } catch (const gato::DataError&) {
      }
    }
  } catch (const gato::DataError&) {
  } catch (const gato::ConfigError&) {  // The table has not the mapping's columns.
  }
  return 0;
}

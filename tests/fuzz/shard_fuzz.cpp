// Shards and token columns that nobody vouches for: opening, verifying and reading all of them either works or throws
// DataError. A changed byte fails a checksum before it reaches the code behind, so the input says first whether
// checksums and trailer are to be made right again:
//
//   byte 0      bit 0: token columns, else a shard; bit 1: rebuild the file from the rest
//   the rest    as it is, or, rebuilt: uint32 size of the footer, footer, then the columns behind the header
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/episode/inspect.h"
#include "gato/episode/shard.h"

namespace {

using namespace gato::episode;
using gato::Path;

template <class T>
void append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_varint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(static_cast<unsigned char>(value | 0x80));
  to += static_cast<char>(static_cast<unsigned char>(value));
}

/// A file with right checksums: later fields of a message win, so appending payload_bytes, block_bytes and block_crcs
/// sets them.
std::string rebuilt(std::string_view rest, uint32_t kind) {
  uint32_t footer_size = 0;
  if (rest.size() >= sizeof(footer_size)) {
    std::memcpy(&footer_size, rest.data(), sizeof(footer_size));
    rest.remove_prefix(sizeof(footer_size));
  }
  std::string footer(rest.substr(0, footer_size));
  std::string file("\x89GATOC\r\n", 8);
  append<uint32_t>(file, 1);
  append<uint32_t>(file, kind);
  file.resize(64, '\0');
  file += rest.substr(footer.size());
  std::string crcs;
  for (size_t begin = 0; begin < file.size(); begin += 65536) {
    append<uint32_t>(crcs, gato::crc32c(std::string_view(file).substr(begin, 65536)));
  }
  footer += '\x08';
  append_varint(footer, file.size());
  footer += '\x10';
  append_varint(footer, 65536);
  footer += '\x1a';
  append_varint(footer, crcs.size());
  footer += crcs;
  file += footer;
  std::string trailer;
  append<uint64_t>(trailer, footer.size());
  append<uint64_t>(trailer, file.size() + 32);
  append<uint32_t>(trailer, gato::crc32c(footer));
  append<uint32_t>(trailer, gato::crc32c(trailer));
  return file + trailer + "GATOEND\n";
}

/// One file per process, in memory where the system has such a folder.
const std::string& scratch_path() {
  static const std::string path = [] {
    const bool shared_memory = ::access("/dev/shm", W_OK) == 0;
    const std::string name =
        (shared_memory ? "/dev/shm/" : "/tmp/") + std::string("gato_shard_fuzz_") + std::to_string(::getpid());
    std::atexit([] { std::remove(scratch_path().c_str()); });
    return name;
  }();
  return path;
}

void write_scratch(std::string_view content) {
  std::FILE* file = std::fopen(scratch_path().c_str(), "wb");
  if (file == nullptr) std::abort();
  const size_t written = std::fwrite(content.data(), 1, content.size(), file);
  if (std::fclose(file) != 0 || written != content.size()) std::abort();
}

template <class Body>
void tolerate_damage(const Body& body) {
  try {
    body();
  } catch (const gato::DataError&) {
  }
}

void use_shard(const Path& path) {
  const ShardReader shard(path);
  (void)shard.verify();
  tolerate_damage([&] { (void)describe_shard(shard); });
  for (int64_t i = 0; i < static_cast<int64_t>(shard.index().size()); ++i) {
    tolerate_damage([&] { check_episode(shard.tasks()[shard.index()[static_cast<size_t>(i)].task], shard.read(i)); });
  }
}

void use_tokens(const Path& path) {
  const TokenColumnsReader tokens(path);
  (void)tokens.verify();
  for (const auto& field : tokens.fields()) {
    for (uint64_t step = 0; step < field.num_steps; ++step) {
      tolerate_damage([&] {
        uint64_t sum = 0;
        for (const uint32_t token : tokens.tokens(field.task, field.group, field.field, step)) sum += token;
        static_cast<void>(sum);
      });
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool tokens = (data[0] & 1) != 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 2) != 0) {
    write_scratch(rebuilt(rest, tokens ? 2 : 1));
  } else {
    write_scratch(rest);
  }
  const Path path = scratch_path();
  tolerate_damage([&] { tokens ? use_tokens(path) : use_shard(path); });
  return 0;
}

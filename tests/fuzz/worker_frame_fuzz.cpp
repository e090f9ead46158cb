// What a worker that plays environments sends, when nobody vouches for it: reading it works or throws DataError. The
// input is taken as a stream of frames, and as the body of one whose checksum is right, so that changed bytes reach the
// code behind.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/env/remote.h"

namespace {

void read(std::string_view bytes) {
  try {
    static_cast<void>(gato::env::read_worker_bytes(bytes));
  } catch (const gato::DataError&) {
  }
}

template <class Number>
void append(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

/// `body` as a reply: docs/environments.md, section "Protocol".
std::string framed(std::string_view body) {
  std::string head;
  append(head, uint32_t{0x764E4547});
  append(head, uint16_t{1});
  append(head, uint16_t{2});
  append(head, static_cast<uint32_t>(body.size()));
  std::string frame = head;
  append(frame, gato::crc32c(body, gato::crc32c(head)));
  return frame.append(body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  read(bytes);
  read(framed(bytes));
  return 0;
}

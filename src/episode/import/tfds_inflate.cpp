#include "episode/import/tfds_inflate.h"

#include <zlib.h>

#include <limits>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

/// Ends a z_stream with its owner.
struct Inflater {
  Inflater() {
    if (inflateInit(&stream) != Z_OK) throw Error("zlib cannot be started: out of memory");
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream); }
  z_stream stream{};
};

}  // namespace

void inflate_exactly(std::string_view bytes, std::span<std::byte> out, const std::string& origin) {
  constexpr size_t kMost = std::numeric_limits<uInt>::max();
  if (bytes.size() > kMost || out.size() > kMost) throw DataError(cat(origin, ": zlib data of more than 4 GiB"));
  Inflater inflater;
  z_stream& stream = inflater.stream;
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  Bytef nothing = 0;  // zlib wants a place to write even where nothing is to come.
  stream.next_out = out.empty() ? &nothing : reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int code = inflate(&stream, Z_FINISH);
  if (code != Z_STREAM_END || stream.avail_out != 0 || stream.avail_in != 0) {
    throw DataError(cat(origin, ": the zlib data is damaged or does not hold exactly ", out.size(), " bytes"));
  }
}

}  // namespace gato::episode

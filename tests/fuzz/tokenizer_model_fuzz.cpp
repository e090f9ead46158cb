// Text tokenizer files that nobody vouches for: from_bytes either throws DataError or gives a tokenizer that keeps
// every text and decodes any ids to valid UTF-8.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/tokenizer/text_tokenizer.h"

namespace {

using gato::tokenizer::TextTokenizer;

constexpr char kText[] = "In  the beginning </s> \xe2\x96\x81\n<0x41> \xf0\x9f\x98\x80\t\0 end ";

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const TextTokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  for (const int32_t id : ids) require(id >= 0 && id < tokenizer.size() && id != tokenizer.end_id());
  require(tokenizer.decode(ids) == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const TextTokenizer tokenizer = TextTokenizer::from_bytes(bytes, "fuzz");
    require(tokenizer.end_id() >= 0 && tokenizer.end_id() < tokenizer.size());
    check(tokenizer, std::string(kText, sizeof(kText) - 1));
    // Texts made of the model's own pieces reach its tables; the signs for spaces in them are characters here.
    std::string pieces;
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < tokenizer.size() && pieces.size() < 4096; id += 1 + id / 64) {
      pieces += tokenizer.piece(id) + ' ';
      ids.push_back(id);
    }
    check(tokenizer, pieces);
    require(gato::is_valid_utf8(tokenizer.decode(ids)));
  } catch (const gato::DataError&) {
  }
  return 0;
}

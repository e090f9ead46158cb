#include "gato/core/excerpt.h"

#include "gato/core/text.h"

namespace gato {

std::string excerpt(std::string_view text, size_t max_bytes) {
  const bool cut = text.size() > max_bytes;
  if (cut) text = text.substr(0, max_bytes);
  std::string out;
  while (!text.empty()) {
    size_t valid = text.size();
    static_cast<void>(is_valid_utf8(text, &valid));
    for (const char c : text.substr(0, valid)) {
      const auto byte = static_cast<unsigned char>(c);
      out += byte < 0x20 || byte == 0x7F ? '?' : c;
    }
    text.remove_prefix(valid);
    if (text.empty()) break;
    // What a cut through a character left behind is covered by the dots.
    if (cut && text.size() < 4) break;
    out += '?';
    text.remove_prefix(1);
  }
  return cut ? out + "..." : out;
}

}  // namespace gato

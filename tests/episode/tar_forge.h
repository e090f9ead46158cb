#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/text.h"

/// Tar archives made by hand, so that they can be wrong on purpose.
namespace gato::episode::forge {

struct TarMember {
  std::string name, content;
  char type = '0';
};

inline std::string octal(uint64_t value, size_t digits) {
  std::string text(digits, '0');
  for (size_t i = digits; i-- > 0; value >>= 3) text[i] = static_cast<char>('0' + (value & 7));
  return text;
}

inline void fix_checksum(std::string& archive, size_t header) {
  archive.replace(header + 148, 8, 8, ' ');
  uint64_t sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(archive[header + i]);
  archive.replace(header + 148, 8, octal(sum, 6) + std::string("\0 ", 2));
}

/// Overwrites bytes of the header at `header` and makes its checksum right again.
inline void set_field(std::string& archive, size_t header, size_t offset, std::string_view bytes) {
  archive.replace(header + offset, bytes.size(), bytes);
  fix_checksum(archive, header);
}

/// ustar headers, contents, and two blocks of zeros.
inline std::string tar(const std::vector<TarMember>& members) {
  std::string archive;
  for (const TarMember& member : members) {
    const size_t header = archive.size();
    archive.resize(header + 512, '\0');
    archive.replace(header, member.name.size(), member.name);
    archive.replace(header + 100, 8, std::string("0000644\0", 8));
    archive.replace(header + 124, 12, octal(member.content.size(), 11) + '\0');
    archive[header + 156] = member.type;
    archive.replace(header + 257, 8, std::string("ustar\00000", 8));
    fix_checksum(archive, header);
    archive += member.content;
    archive.resize((archive.size() + 511) / 512 * 512, '\0');
  }
  return archive + std::string(1024, '\0');
}

/// "LENGTH KEY=VALUE\n", the length with its own digits.
inline std::string pax_record(std::string_view key, std::string_view value) {
  const std::string rest = cat(" ", key, "=", value, "\n");
  size_t length = rest.size() + 1;
  while (cat(length).size() + rest.size() != length) ++length;
  return cat(length, rest);
}

}  // namespace gato::episode::forge

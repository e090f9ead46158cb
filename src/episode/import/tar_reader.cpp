#include "episode/import/tar_reader.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kPieceBytes = size_t{1} << 20;

/// One field of a header.
struct Field {
  size_t offset, size;
};
constexpr Field kName = {0, 100}, kSize = {124, 12}, kChecksum = {148, 8}, kMagic = {257, 6}, kPrefix = {345, 155};
constexpr size_t kTypeOffset = 156;

std::string_view field_of(const std::string& block, Field field) {
  return std::string_view(block).substr(field.offset, field.size);
}

/// Up to the first NUL.
std::string_view text_of(const std::string& block, Field field) {
  const std::string_view text = field_of(block, field);
  return text.substr(0, text.find('\0'));
}

bool is_zero(std::string_view block) { return block.find_first_not_of('\0') == std::string_view::npos; }

/// Octal digits between blanks and NULs.
std::optional<uint64_t> octal_of(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
  if (text.empty()) return 0;
  uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (result.ec != std::errc{} || result.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Octal, or where the first bit is set a big-endian binary number (GNU).
std::optional<uint64_t> number_of(std::string_view text) {
  if ((static_cast<unsigned char>(text.front()) & 0x80u) == 0) return octal_of(text);
  uint64_t value = static_cast<unsigned char>(text.front()) & 0x7fu;
  for (const char c : text.substr(1)) {
    if (value >> 55 != 0) return std::nullopt;  // more than 63 bits, or negative
    value = value << 8 | static_cast<unsigned char>(c);
  }
  return value;
}

bool checksum_fits(const std::string& block) {
  const std::optional<uint64_t> wanted = octal_of(field_of(block, kChecksum));
  uint64_t sum = 0;
  int64_t signed_sum = 0;  // as some old programs reckoned
  for (size_t i = 0; i < kBlock; ++i) {
    const bool blank = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    const char c = blank ? ' ' : block[i];
    sum += static_cast<unsigned char>(c);
    signed_sum += static_cast<signed char>(c);
  }
  return wanted && (*wanted == sum || static_cast<int64_t>(*wanted) == signed_sum);
}

std::string path_in(const std::string& block) {
  const std::string name(text_of(block, kName));
  // GNU archives ("ustar  ") have times where POSIX ones ("ustar\0") have the front of a long path.
  if (field_of(block, kMagic) != std::string_view("ustar\0", 6)) return name;
  const std::string_view prefix = text_of(block, kPrefix);
  return prefix.empty() ? name : cat(prefix, "/", name);
}

}  // namespace

/// What headers before a member say about it.
struct TarReader::Extensions {
  std::optional<std::string> path;
  std::optional<uint64_t> size;
};

TarReader::TarReader(std::unique_ptr<ByteSource> source, std::string origin, TarLimits limits)
    : source_(std::move(source)), origin_(std::move(origin)), limits_(limits) {}

void TarReader::fail(std::string_view problem) const {
  throw DataError(cat(origin_, ", byte ", header_offset_, ": this tar file cannot be read: ", problem));
}

void TarReader::read_exactly(char* to, size_t count) {
  const size_t filled = source_->read({to, count});
  offset_ += filled;
  if (filled != count) fail("it ends in the middle of a member: it was cut short");
}

/// Grows with what is really there, so a size that lies takes no memory.
std::string TarReader::read_bytes(uint64_t count) {
  if (count > source_->remaining()) fail(cat("a member of ", count, " bytes is longer than the rest of the file"));
  std::string bytes;
  while (bytes.size() < count) {
    const size_t before = bytes.size();
    const size_t piece = static_cast<size_t>(std::min<uint64_t>(kPieceBytes, count - before));
    bytes.resize(before + piece);
    read_exactly(bytes.data() + before, piece);
  }
  return bytes;
}

void TarReader::skip(uint64_t count) {
  if (count > source_->remaining()) fail(cat("a member of ", count, " bytes is longer than the rest of the file"));
  std::vector<char> piece(static_cast<size_t>(std::min<uint64_t>(kPieceBytes, count)));
  while (count > 0) {
    const size_t part = static_cast<size_t>(std::min<uint64_t>(piece.size(), count));
    read_exactly(piece.data(), part);
    count -= part;
  }
}

/// Behind the end mark there are zeros up to the size of a tape record, and nothing else.
void TarReader::check_rest() {
  std::vector<char> piece(kPieceBytes);
  for (size_t count = source_->read(piece); count > 0; count = source_->read(piece)) {
    header_offset_ = offset_;
    offset_ += count;
    if (!is_zero({piece.data(), count})) {
      fail(
          "there is data behind the end of the archive; tar files that were put together with cat must be taken apart");
    }
  }
}

/// False at the end mark, two blocks of zeros.
bool TarReader::read_header(std::string& block) {
  header_offset_ = offset_;
  block.resize(kBlock);
  const size_t filled = source_->read(block);
  offset_ += filled;
  if (filled != kBlock) fail("it ends without the end mark of an archive: it was cut short");
  if (is_zero(block)) {
    check_rest();
    return false;
  }
  if (!checksum_fits(block)) fail("a header's checksum is wrong: it is damaged, or no tar file");
  return true;
}

void TarReader::apply_pax(const std::string& records, bool global, Extensions& extensions) {
  std::string_view rest = records;
  while (!rest.empty()) {
    size_t length = 0;
    const auto number = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<size_t>(number.ptr - rest.data());
    if (number.ec != std::errc{} || length > rest.size() || length < digits + 3 || rest[digits] != ' ' ||
        rest[length - 1] != '\n') {
      fail("an extended header (pax) is damaged");
    }
    const std::string_view record = rest.substr(digits + 1, length - digits - 2);
    rest.remove_prefix(length);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) fail("an extended header (pax) is damaged");
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key.starts_with("GNU.sparse.")) fail("it has a sparse member; unpack it and pack it again without --sparse");
    if (key != "path" && key != "size") continue;
    if (global) fail(cat("it gives all members one ", key));
    if (key == "path") {
      extensions.path = std::string(value);
    } else {
      uint64_t size = 0;
      const auto result = std::from_chars(value.data(), value.data() + value.size(), size);
      if (result.ec != std::errc{} || result.ptr != value.data() + value.size() || size >> 62 != 0) {
        fail("a size in an extended header (pax) is no number");
      }
      extensions.size = size;
    }
  }
}

void TarReader::apply_extension(char type, uint64_t size, Extensions& extensions) {
  if (size > limits_.max_extension_bytes) {
    fail(cat("an extended header of ", size, " bytes is over the limit of ", limits_.max_extension_bytes));
  }
  const std::string content = read_bytes(size);
  skip((kBlock - size % kBlock) % kBlock);
  if (type == 'x' || type == 'g') return apply_pax(content, type == 'g', extensions);
  if (type == 'L') extensions.path = content.substr(0, content.find('\0'));
}

TarEntry TarReader::make_entry(const std::string& block, char type, const Extensions& extensions) const {
  TarEntry entry;
  entry.offset = header_offset_;
  entry.name = extensions.path ? *extensions.path : path_in(block);
  if (entry.name.empty()) fail("a member has no name");
  if (entry.name.size() > limits_.max_name_bytes) {
    fail(cat("a name of ", entry.name.size(), " bytes is over the limit of ", limits_.max_name_bytes));
  }
  if (entry.name.find('\0') != std::string::npos) fail("a name holds a NUL");
  switch (type) {
    case '0':
    case '\0':
    case '7':
      entry.regular = !entry.name.ends_with('/');  // v7 marks folders so
      break;
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case 'V':
      break;
    case 'S':
      fail("it has a sparse member; unpack it and pack it again without --sparse");
    default:
      fail(cat("it has a member of the kind '", type, "', which gato does not know"));
  }
  return entry;
}

bool TarReader::next(TarEntry& entry) {
  if (ended_) return false;
  skip(content_ + padding_);
  content_ = padding_ = 0;
  Extensions extensions;
  uint64_t first_header = offset_;
  std::string block;
  while (true) {
    if (!read_header(block)) {
      if (extensions.path || extensions.size) fail("it ends behind an extended header: it was cut short");
      ended_ = true;
      return false;
    }
    const std::optional<uint64_t> size = number_of(field_of(block, kSize));
    if (!size || *size >> 62 != 0) fail("the size of a member is no number");
    const char type = block[kTypeOffset];
    if (type == 'L' || type == 'K' || type == 'x' || type == 'g') {
      apply_extension(type, *size, extensions);
      continue;
    }
    entry = make_entry(block, type, extensions);
    entry.offset = first_header;
    entry.size = extensions.size.value_or(*size);
    // Links and devices may state a size, but nothing follows them.
    content_ = type >= '1' && type <= '6' ? 0 : entry.size;
    padding_ = (kBlock - content_ % kBlock) % kBlock;
    return true;
  }
}

std::string TarReader::read_content() {
  if (content_ > limits_.max_member_bytes) {
    fail(cat("a member of ", content_, " bytes is over the limit of ", limits_.max_member_bytes));
  }
  std::string content = read_bytes(content_);
  content_ = 0;
  return content;
}

}  // namespace gato::episode

#include "episode/column_file.h"

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr std::string_view kMagic("\x89GATOC\r\n",
                                  8);  // A byte that is no text, then line ends that mangling would change.
constexpr std::string_view kEndMagic("GATOEND\n", 8);

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t kind;
  char zeros[48];
};
static_assert(sizeof(Header) == kHeaderBytes);

struct Trailer {
  uint64_t footer_bytes;
  uint64_t file_bytes;
  uint32_t footer_crc;
  uint32_t trailer_crc;  // Of the 20 bytes before.
  char magic[8];
};
static_assert(sizeof(Trailer) == kTrailerBytes);
constexpr size_t kTrailerCheckedBytes = 20;

constexpr std::string_view kRemedy = "; restore it from a copy or make it again";

std::string_view kind_name(FileKind kind) { return kind == FileKind::kShard ? "shard" : "token column file"; }

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

/// The value at the start of `bytes`, which may be unaligned.
template <class T>
T load(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

std::string hex(uint32_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) text += kDigits[(value >> shift) & 15];
  return text;
}

uint64_t element_bytes(format::ElementType type) {
  switch (type) {
    case format::BYTE:
      return 1;
    case format::UINT16:
      return 2;
    case format::UINT32:
    case format::FLOAT32:
      return 4;
    case format::INDEX_ENTRY:
      return 48;
    default:
      return 0;
  }
}

/// a * b * c, or nothing when it does not fit.
std::optional<uint64_t> product(uint64_t a, uint64_t b, uint64_t c) {
  uint64_t ab = 0, abc = 0;
  if (__builtin_mul_overflow(a, b, &ab) || __builtin_mul_overflow(ab, c, &abc)) return std::nullopt;
  return abc;
}

/// Whether [offset, offset + size) is an aligned part of the payload behind the header.
bool inside_payload(uint64_t offset, uint64_t size, uint64_t payload_bytes) {
  return offset >= kHeaderBytes && offset % kColumnAlignment == 0 && offset <= payload_bytes &&
         size <= payload_bytes - offset;
}

}  // namespace

// ---- Writer --------------------------------------------------------------------------------------------------------

ColumnFileWriter::ColumnFileWriter(const Path& path, FileKind kind) : file_(path), kind_(kind) {
  Header header{};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  header.version = kFormatVersion;
  header.kind = static_cast<uint32_t>(kind);
  write(bytes_of(header));
}

void ColumnFileWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min<size_t>(bytes.size(), kBlockBytes - block_fill_));
    block_crc_ = crc32c(piece, block_crc_);
    block_fill_ += piece.size();
    file_.write(piece);
    if (block_fill_ == kBlockBytes) close_block();
    bytes = bytes.subspan(piece.size());
  }
}

void ColumnFileWriter::close_block() {
  if (block_fill_ == 0) return;
  footer_.mutable_block_crcs()->append(reinterpret_cast<const char*>(&block_crc_), sizeof(block_crc_));
  block_crc_ = 0;
  block_fill_ = 0;
}

uint64_t ColumnFileWriter::append(std::span<const std::byte> bytes) {
  constexpr std::byte kZeros[kColumnAlignment] = {};
  const uint64_t gap = (kColumnAlignment - file_.position() % kColumnAlignment) % kColumnAlignment;
  write(std::span<const std::byte>(kZeros).first(gap));
  const uint64_t offset = file_.position();
  write(bytes);
  return offset;
}

void ColumnFileWriter::finish() {
  footer_.set_payload_bytes(file_.position());
  footer_.set_block_bytes(kBlockBytes);
  close_block();
  const std::string footer = footer_.SerializeAsString();
  if (footer.size() > kMaxFooterBytes) {
    throw ConfigError(cat("the footer of a ", kind_name(kind_), " would have ", footer.size(), " bytes, at most ",
                          kMaxFooterBytes, " are allowed: use smaller shards"));
  }
  file_.write(footer);
  Trailer trailer{};
  trailer.footer_bytes = footer.size();
  trailer.file_bytes = file_.position() + kTrailerBytes;
  trailer.footer_crc = crc32c(footer);
  trailer.trailer_crc = crc32c(bytes_of(trailer).first(kTrailerCheckedBytes));
  std::memcpy(trailer.magic, kEndMagic.data(), kEndMagic.size());
  file_.write(bytes_of(trailer));
  file_.commit();
}

// ---- Reader --------------------------------------------------------------------------------------------------------

ColumnFile::ColumnFile(const Path& path, FileKind kind) : path_(path), map_(path) {
  check_header(kind);
  const uint64_t footer_offset = read_trailer(kind);
  read_block_crcs(footer_offset);
}

void ColumnFile::check_header(FileKind kind) const {
  const auto bytes = map_.bytes();
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kMagic.size()));
  if (start != kMagic.substr(0, start.size())) {
    fail(0, "this is not a ", kind_name(kind), " of gato: it does not begin with the mark of one");
  }
  if (bytes.size() < kHeaderBytes + kTrailerBytes) {
    fail(bytes.size(), "the ", kind_name(kind), " ends here, before its footer: it is truncated or was never finished",
         kRemedy);
  }
  const auto header = load<Header>(bytes);
  if (header.version != kFormatVersion) {
    fail(offsetof(Header, version), "format version ", header.version, "; this program reads version ", kFormatVersion,
         " (use the program's version that wrote it, or the file is damaged)");
  }
  if (header.kind != static_cast<uint32_t>(kind)) {
    fail(offsetof(Header, kind), "this file is of kind ", header.kind, ", a ", kind_name(kind), " has kind ",
         static_cast<uint32_t>(kind));
  }
}

/// Returns where the footer begins.
uint64_t ColumnFile::read_trailer(FileKind kind) {
  const auto bytes = map_.bytes();
  const uint64_t offset = bytes.size() - kTrailerBytes;
  const auto trailer = load<Trailer>(bytes.subspan(offset));
  if (std::memcmp(trailer.magic, kEndMagic.data(), kEndMagic.size()) != 0) {
    fail(offset, "the ", kind_name(kind), " has no end mark in its last ", kTrailerBytes,
         " bytes: it is truncated or was never finished", kRemedy);
  }
  if (trailer.trailer_crc != crc32c(bytes_of(trailer).first(kTrailerCheckedBytes))) {
    fail(offset, "the trailer is damaged (its CRC-32C is wrong)", kRemedy);
  }
  if (trailer.file_bytes != bytes.size()) {
    fail(offset, "the file has ", bytes.size(), " bytes but was written with ", trailer.file_bytes, kRemedy);
  }
  if (trailer.footer_bytes > std::min(offset - kHeaderBytes, kMaxFooterBytes)) {
    fail(offset, "the trailer gives the footer ", trailer.footer_bytes, " bytes, at most ",
         std::min(offset - kHeaderBytes, kMaxFooterBytes), " are possible");
  }
  const uint64_t footer_offset = offset - trailer.footer_bytes;
  read_footer(footer_offset, trailer.footer_bytes, trailer.footer_crc);
  return footer_offset;
}

void ColumnFile::read_footer(uint64_t offset, uint64_t size, uint32_t crc) {
  const auto bytes = map_.bytes().subspan(offset, size);
  if (crc32c(bytes) != crc) fail(offset, "the footer is damaged (its CRC-32C is wrong)", kRemedy);
  const google::protobuf::LogSilencer silencer;  // The library would print its own lines on standard error.
  if (!footer_.ParseFromArray(bytes.data(), static_cast<int>(size))) {
    fail(offset, "the footer is not the protocol buffer that it must be");
  }
  fingerprint_ = digest128(bytes);
}

void ColumnFile::read_block_crcs(uint64_t footer_offset) {
  if (footer_.block_bytes() != kBlockBytes) {
    fail(footer_offset, "blocks of ", footer_.block_bytes(), " bytes, must be ", kBlockBytes);
  }
  if (footer_.payload_bytes() != footer_offset) {
    fail(footer_offset, "the footer says that columns end at ", footer_.payload_bytes(), ", but it begins elsewhere");
  }
  payload_bytes_ = footer_offset;
  num_blocks_ = (footer_offset + kBlockBytes - 1) / kBlockBytes;
  if (footer_.block_crcs().size() != num_blocks_ * sizeof(uint32_t)) {
    fail(footer_offset, "checksums of ", footer_.block_crcs().size() / sizeof(uint32_t), " blocks, the file has ",
         num_blocks_);
  }
  block_crcs_.resize(num_blocks_);
  std::memcpy(block_crcs_.data(), footer_.block_crcs().data(), footer_.block_crcs().size());
  verified_ = std::vector<std::atomic<uint64_t>>(num_blocks_ / 64 + 1);
  footer_.clear_block_crcs();
  resident_.open(path_, map_.bytes().first(payload_bytes_), kBlockBytes);
}

void ColumnFile::pin(uint64_t offset, uint64_t size) const {
  if (size == 0) return;
  for (uint64_t block = offset / kBlockBytes; block <= (offset + size - 1) / kBlockBytes; ++block) resident_.pin(block);
}

std::optional<DamagedBlock> ColumnFile::check_block(uint64_t block) const {
  const uint64_t begin = block * kBlockBytes;
  const uint64_t end = std::min(begin + kBlockBytes, payload_bytes_);
  const uint32_t actual = crc32c(map_.bytes().subspan(begin, end - begin));
  if (actual == block_crcs_[block]) return std::nullopt;
  const std::string problem = cat("the block of ", end - begin, " bytes that begins here is damaged (CRC-32C ",
                                  hex(actual), ", written as ", hex(block_crcs_[block]), ")", kRemedy);
  return DamagedBlock{begin, problem, DamageError(path_, begin, problem).what()};
}

void ColumnFile::verify_block(uint64_t block) const {
  if (const auto damage = check_block(block)) throw DamageError(path_, damage->offset, damage->problem);
  verified_[block / 64].fetch_or(uint64_t{1} << (block % 64), std::memory_order_relaxed);
}

std::vector<DamagedBlock> ColumnFile::damaged_blocks() const {
  std::vector<DamagedBlock> damages;
  for (uint64_t block = 0; block < num_blocks_; ++block) {
    if (auto damage = check_block(block)) damages.push_back(std::move(*damage));
    resident_.drop_if_untouched(block);
  }
  return damages;
}

void check_column(const ColumnFile& file, const format::Column& column, format::ElementType type, bool variable,
                  const std::string& name) {
  const uint64_t payload = file.payload_bytes();
  if (column.type() != type || variable != (column.table_offset() != 0)) {
    file.fail(payload, "the footer gives ", name, " another type than its field has");
  }
  if (!inside_payload(column.data_offset(), column.data_bytes(), payload)) {
    file.fail(payload, "the footer puts ", name, " at ", column.data_offset(), " with ", column.data_bytes(),
              " bytes, outside the file's columns or unaligned");
  }
  const uint64_t element = element_bytes(type);
  if (!variable) {
    const auto size = product(column.rows(), column.row_elements(), element);
    if (column.row_elements() == 0 || !size || *size != column.data_bytes()) {
      file.fail(payload, "the footer gives ", name, " ", column.rows(), " rows of ", column.row_elements(),
                " elements, which is not its size of ", column.data_bytes(), " bytes");
    }
    return;
  }
  if (column.data_bytes() % element != 0 || column.row_elements() != 0) {
    file.fail(payload, "the footer gives ", name, " ", column.data_bytes(), " bytes, no whole number of elements");
  }
  if (column.rows() > payload / sizeof(uint64_t) ||
      !inside_payload(column.table_offset(), (column.rows() + 1) * sizeof(uint64_t), payload)) {
    file.fail(payload, "the footer puts the offset table of ", name, " with ", column.rows(), " rows at ",
              column.table_offset(), ", outside the file's columns or unaligned");
  }
}

void check_disjoint(const ColumnFile& file) {
  std::vector<std::pair<uint64_t, uint64_t>> sections;  // Begin and end.
  const auto add = [&](uint64_t offset, uint64_t size) {
    if (size > 0) sections.emplace_back(offset, offset + size);
  };
  for (const format::Column& column : file.footer().columns()) {
    if (!format::Role_IsValid(column.role())) continue;
    add(column.data_offset(), column.data_bytes());
    if (column.table_offset() != 0) add(column.table_offset(), (column.rows() + 1) * sizeof(uint64_t));
  }
  std::sort(sections.begin(), sections.end());
  for (size_t i = 1; i < sections.size(); ++i) {
    if (sections[i].first < sections[i - 1].second) {
      file.fail(sections[i].first, "two columns overlap here; the program that wrote the file was wrong");
    }
  }
}

}  // namespace gato::episode

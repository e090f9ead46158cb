#pragma once
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "episode/format.pb.h"
#include "episode/resident_blocks.h"
#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/episode/shard.h"

/// The container that shards and token columns share: docs/formats/shard.md. Header, columns, footer, trailer; a
/// CRC-32C for every 64 KiB of header and columns in the footer.
namespace gato::episode {

static_assert(std::endian::native == std::endian::little, "column files are mapped as they are: little-endian only");

constexpr uint32_t kFormatVersion = 1;
constexpr uint64_t kHeaderBytes = 64;
constexpr uint64_t kTrailerBytes = 32;
constexpr uint64_t kBlockBytes = 65536;
constexpr uint64_t kColumnAlignment = 64;
constexpr uint64_t kMaxFooterBytes = 8 << 20;  // Checksums of 128 GiB; parsed, less than 1 GiB whatever it holds.

enum class FileKind : uint32_t { kShard = 1, kTokenColumns = 2 };

/// One damaged block.
struct DamagedBlock {
  uint64_t offset;
  std::string problem;
  std::string message;  ///< File, offset and problem.
};

/// Writes a column file front to back; nothing appears under the final name before finish().
class ColumnFileWriter {
 public:
  ColumnFileWriter(const Path& path, FileKind kind);

  /// Appends a column of equal rows; the caller fills in role, task and field of the result.
  template <class T>
  format::Column& add_fixed(format::ElementType type, std::span<const T> elements, uint64_t row_elements);

  /// Appends a column of rows of any length: row i is elements [table[i], table[i + 1]), table[0] is 0.
  template <class T>
  format::Column& add_variable(format::ElementType type, std::span<const uint64_t> table, std::span<const T> elements);

  [[nodiscard]] format::Footer& footer() { return footer_; }
  void finish();  ///< Writes footer and trailer and commits. Call once.

 private:
  uint64_t append(std::span<const std::byte> bytes);  // aligned; returns the offset
  void write(std::span<const std::byte> bytes);
  void close_block();

  OutputFile file_;
  FileKind kind_;
  format::Footer footer_;
  uint32_t block_crc_ = 0;
  uint64_t block_fill_ = 0;
};

/// A mapped column file. Open reads header, footer and trailer only; a block is verified when it is first touched.
/// Const and thread-safe. Every error is a DamageError,
/// or an IoError when the system cannot read.
class ColumnFile {
 public:
  ColumnFile(const Path& path, FileKind kind);

  [[nodiscard]] const Path& path() const { return path_; }
  [[nodiscard]] const format::Footer& footer() const { return footer_; }
  [[nodiscard]] std::string fingerprint() const { return fingerprint_; }
  [[nodiscard]] uint64_t file_bytes() const { return map_.bytes().size(); }
  [[nodiscard]] uint64_t num_blocks() const { return num_blocks_; }
  [[nodiscard]] uint64_t payload_bytes() const { return payload_bytes_; }

  /// Payload bytes, verified. The range must lie inside the payload (columns are checked when they are bound).
  [[nodiscard]] std::span<const std::byte> bytes(uint64_t offset, uint64_t size) const {
    if (size != 0) {
      for (uint64_t block = offset / kBlockBytes; block <= (offset + size - 1) / kBlockBytes; ++block) touch(block);
    }
    return map_.bytes().subspan(offset, size);
  }

  /// Keeps the blocks of a range in memory, whatever the process's cap (gato/episode/resident.h).
  void pin(uint64_t offset, uint64_t size) const;

  /// Where verified bytes of this file stand in it.
  [[nodiscard]] uint64_t offset_of(const void* bytes) const {
    return static_cast<uint64_t>(static_cast<const std::byte*>(bytes) - map_.bytes().data());
  }

  /// Reads every block again, whatever was verified before.
  [[nodiscard]] std::vector<DamagedBlock> damaged_blocks() const;

  /// A DamageError about `offset`.
  template <class... Args>
  [[noreturn]] void fail(uint64_t offset, const Args&... problem) const {
    throw DamageError(path_, offset, cat(problem...));
  }

 private:
  void check_header(FileKind kind) const;
  uint64_t read_trailer(FileKind kind);
  void read_footer(uint64_t offset, uint64_t size, uint32_t crc);
  void read_block_crcs(uint64_t footer_offset);
  [[nodiscard]] std::optional<DamagedBlock> check_block(uint64_t block) const;

  void touch(uint64_t block) const {
    resident_.touch(block);
    const uint64_t bit = uint64_t{1} << (block % 64);
    if ((verified_[block / 64].load(std::memory_order_relaxed) & bit) == 0) verify_block(block);
  }
  void verify_block(uint64_t block) const;

  Path path_;
  MappedFile map_;
  format::Footer footer_;
  std::string fingerprint_;
  uint64_t payload_bytes_ = 0;
  uint64_t num_blocks_ = 0;
  std::vector<uint32_t> block_crcs_;
  mutable std::vector<std::atomic<uint64_t>> verified_;
  mutable ResidentBlocks resident_;
};

/// Checks that a column's sections lie inside the payload, are aligned and have the size that its rows say, and that
/// its type is `type`. `name` is for messages.
void check_column(const ColumnFile& file, const format::Column& column, format::ElementType type, bool variable,
                  const std::string& name);

/// Throws when two sections of the columns, each of which check_column has passed, overlap: reading all of a file then
/// costs no more than its size. Columns of unknown roles are left out.
void check_disjoint(const ColumnFile& file);

/// Rows of equal length.
template <class T>
class FixedColumn {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  FixedColumn() = default;
  FixedColumn(const ColumnFile& file, const format::Column& column, format::ElementType type, const std::string& name)
      : file_(&file), offset_(column.data_offset()), rows_(column.rows()), row_elements_(column.row_elements()) {
    check_column(file, column, type, false, name);
  }
  [[nodiscard]] uint64_t num_rows() const { return rows_; }
  [[nodiscard]] uint64_t row_elements() const { return row_elements_; }
  [[nodiscard]] uint64_t offset_of(uint64_t row) const { return offset_ + row * row_elements_ * sizeof(T); }

  [[nodiscard]] std::span<const T> rows(uint64_t first, uint64_t count) const {
    GATO_CHECK(first <= rows_ && count <= rows_ - first, "rows ", first, " + ", count, " of ", rows_);
    const auto bytes = file_->bytes(offset_of(first), count * row_elements_ * sizeof(T));
    return {reinterpret_cast<const T*>(bytes.data()), static_cast<size_t>(count * row_elements_)};
  }

 private:
  const ColumnFile* file_ = nullptr;
  uint64_t offset_ = 0, rows_ = 0, row_elements_ = 0;
};

/// Rows of any length.
template <class T>
class VariableColumn {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  VariableColumn() = default;
  VariableColumn(const ColumnFile& file, const format::Column& column, format::ElementType type,
                 const std::string& name)
      : file_(&file),
        table_(column.table_offset()),
        data_(column.data_offset()),
        rows_(column.rows()),
        elements_(column.data_bytes() / sizeof(T)) {
    check_column(file, column, type, true, name);
  }
  [[nodiscard]] uint64_t num_rows() const { return rows_; }
  [[nodiscard]] uint64_t num_elements() const { return elements_; }
  [[nodiscard]] uint64_t table_offset() const { return table_; }

  /// Where rows [first, first + count) begin, and where the last one ends: count + 1 numbers, monotone and in range.
  [[nodiscard]] std::span<const uint64_t> table(uint64_t first, uint64_t count) const {
    GATO_CHECK(first <= rows_ && count <= rows_ - first, "rows ", first, " + ", count, " of ", rows_);
    const auto bytes = file_->bytes(table_ + first * sizeof(uint64_t), (count + 1) * sizeof(uint64_t));
    const std::span<const uint64_t> ends(reinterpret_cast<const uint64_t*>(bytes.data()),
                                         static_cast<size_t>(count + 1));
    for (size_t i = 0; i < count; ++i) {
      if (ends[i] > ends[i + 1]) fail_table(first + i);
    }
    if (ends[static_cast<size_t>(count)] > elements_) fail_table(first + count);
    return ends;
  }

  /// The elements of rows [first, first + count), back to back, whose table is `ends`.
  [[nodiscard]] std::span<const T> elements(std::span<const uint64_t> ends) const {
    const auto bytes = file_->bytes(data_ + ends.front() * sizeof(T), (ends.back() - ends.front()) * sizeof(T));
    return {reinterpret_cast<const T*>(bytes.data()), static_cast<size_t>(ends.back() - ends.front())};
  }

  [[nodiscard]] std::span<const T> row(uint64_t index) const {
    const auto ends = table(index, 1);
    const auto bytes = file_->bytes(data_ + ends[0] * sizeof(T), (ends[1] - ends[0]) * sizeof(T));
    return {reinterpret_cast<const T*>(bytes.data()), static_cast<size_t>(ends[1] - ends[0])};
  }

 private:
  [[noreturn]] void fail_table(uint64_t row) const {
    file_->fail(table_ + row * sizeof(uint64_t), "the offset table is not rising or points outside its column at row ",
                row, " of ", rows_, "; the program that wrote the file was wrong");
  }

  const ColumnFile* file_ = nullptr;
  uint64_t table_ = 0, data_ = 0, rows_ = 0, elements_ = 0;
};

template <class T>
format::Column& ColumnFileWriter::add_fixed(format::ElementType type, std::span<const T> elements,
                                            uint64_t row_elements) {
  GATO_CHECK(row_elements > 0 && elements.size() % row_elements == 0, elements.size(), " elements in rows of ",
             row_elements);
  format::Column& column = *footer_.add_columns();
  column.set_type(type);
  column.set_rows(elements.size() / row_elements);
  column.set_row_elements(row_elements);
  column.set_data_offset(append(std::as_bytes(elements)));
  column.set_data_bytes(elements.size_bytes());
  return column;
}

template <class T>
format::Column& ColumnFileWriter::add_variable(format::ElementType type, std::span<const uint64_t> table,
                                               std::span<const T> elements) {
  GATO_CHECK(!table.empty() && table.front() == 0 && table.back() == elements.size(), "offset table of ", table.size(),
             " entries does not cover ", elements.size(), " elements");
  format::Column& column = *footer_.add_columns();
  column.set_type(type);
  column.set_rows(table.size() - 1);
  column.set_table_offset(append(std::as_bytes(table)));
  column.set_data_offset(append(std::as_bytes(elements)));
  column.set_data_bytes(elements.size_bytes());
  return column;
}

}  // namespace gato::episode

#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Files that survive a kill at any instant. Every function throws IoError with the path, the system's words and a
/// remedy.
namespace gato {

using Path = std::filesystem::path;

/// CRC-32C (Castagnoli, RFC 3720), continuing from `crc` (0 to start). Uses SSE4.2 when the processor has it.
[[nodiscard]] uint32_t crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);
[[nodiscard]] uint32_t crc32c(std::string_view bytes, uint32_t crc = 0);

/// XXH3-128 of `bytes` as 32 lower-case hex digits.
[[nodiscard]] std::string digest128(std::span<const std::byte> bytes);
[[nodiscard]] std::string digest128(std::string_view bytes);

/// XXH3-128 of the file's content, read in 1 MiB pieces.
[[nodiscard]] std::string digest128_of_file(const Path& path);

/// The whole file. More than `max_bytes` is a DataError that names the file and both sizes; nothing is allocated
/// before.
[[nodiscard]] std::string read_file(const Path& path, uint64_t max_bytes = uint64_t{1} << 30);

/// Writes `content` to a temporary file beside `path`, fsyncs it, renames it over `path` and fsyncs the folder: after a
/// kill there is the old file or the new one. Parent folders are made.
void write_file_atomic(const Path& path, std::string_view content);

/// Appends `line` and a line end with one write(), so that concurrent writers and kills never interleave or split lines
/// already written. Creates the file and its parent folders. `durable` adds fsync.
void append_line(const Path& path, std::string_view line, bool durable = false);
void append_lines(const Path& path, std::string_view lines, bool durable = false);  ///< Several, without the last end.

void make_folders(const Path& path);                    ///< mkdir -p.
void fsync_file(const Path& path);                      ///< For files that were written by other means.
void fsync_folder(const Path& path);                    ///< Makes renames in it durable.
void rename_durable(const Path& from, const Path& to);  ///< rename(2), then fsync of the parent folder.
/// The same, but IoError (EEXIST) when there is something named `to`, which stays as it is.
void rename_new_durable(const Path& from, const Path& to);
/// Asks the system to forget what it holds of a file in memory, so that the next read comes from the disk. The file
/// must have been fsynced. Best effort, no error.
void drop_from_cache(const Path& path);

/// Removes the temporary files of atomic writes that killed processes left in `folder` (not in folders below it); those
/// that are being written, on this machine or another, stay. Returns how many it removed. A missing folder has none.
size_t remove_abandoned_temporaries(const Path& folder);

/// A file open for reading at any offset (pread); const and thread-safe.
class InputFile {
 public:
  explicit InputFile(const Path& path);
  InputFile(InputFile&&) noexcept;
  InputFile& operator=(InputFile&&) noexcept;
  ~InputFile();
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] const Path& path() const { return path_; }
  /// Fills `out` from `offset`; DataError naming file, offset and size when the file ends before.
  void read_at(uint64_t offset, std::span<std::byte> out) const;

 private:
  Path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

/// A new file written front to back and committed as a whole. Until commit() the name `path` is not touched; without
/// commit() the destructor removes the temporary file. Parent folders are made. After an exception only destruction is
/// left.
class OutputFile {
 public:
  explicit OutputFile(const Path& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();
  void write(std::span<const std::byte> bytes);
  void write(std::string_view bytes);
  [[nodiscard]] uint64_t position() const { return position_; }
  /// Flushes, fsyncs, closes, renames to the final name and fsyncs the folder. Call once.
  void commit();

 private:
  void flush();
  Path path_;
  Path temporary_;
  int descriptor_ = -1;
  uint64_t position_ = 0;
  std::vector<std::byte> buffer_;
};

/// A read-only memory mapping of a whole file; for local files that nobody truncates (we replace files, never
/// overwrite).
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const Path& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();
  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// An exclusive lock on a file, held by this process until destruction (flock). The file's content names the holder.
class FileLock {
 public:
  /// Throws ConfigError saying `path`, the holder's host and process id, and `remedy`, when another process holds it.
  FileLock(const Path& path, std::string_view remedy);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int descriptor_ = -1;
};

}  // namespace gato

#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

/// The list of a checkpoint's files with their checksums, `MANIFEST.json` (docs/formats/checkpoint.md).
namespace gato::checkpoint {

inline constexpr const char* kManifestName = "MANIFEST.json";
inline constexpr uint64_t kChunkBytes = uint64_t{1} << 20;         ///< Bytes per CRC.
inline constexpr uint64_t kMaxManifestBytes = uint64_t{64} << 20;  ///< Longer manifests are refused.

/// One file of a checkpoint.
struct FileEntry {
  std::string name;              ///< Relative to the checkpoint, parts separated by '/'.
  uint64_t size = 0;             ///< Bytes.
  std::string xxh3_128;          ///< Digest of the whole file, 32 lower-case hex digits.
  std::vector<uint32_t> crc32c;  ///< One per chunk of kChunkBytes, the last one shorter; none for an empty file.
  bool operator==(const FileEntry&) const = default;
};

struct Manifest {
  int64_t step = 0;
  double time = 0;                           ///< Seconds since 1970 when it was written.
  std::map<std::string, std::string> facts;  ///< Versions, attempt, digest of the configuration.
  std::vector<FileEntry> files;              ///< Sorted by name.
  [[nodiscard]] const FileEntry* find(std::string_view name) const;  ///< Null when there is none.
  bool operator==(const Manifest&) const = default;
};

/// The file's text. Its last line carries the CRC-32C of everything before, so that every flipped byte is found.
[[nodiscard]] std::string to_text(const Manifest& manifest);

/// Parses and checks everything that can be checked without the files: checksum, keys, names, digests, number of
/// checksums per file. Throws CheckpointError naming `origin`, and offset or key.
[[nodiscard]] Manifest parse_manifest(std::string_view text, const std::string& origin);

/// Entries as one line of JSON, for sending them to the process that writes the manifest, and back. CheckpointError
/// naming `origin` and the key for everything that could not stand in a manifest.
[[nodiscard]] std::string entries_to_text(const std::vector<FileEntry>& entries);
[[nodiscard]] std::vector<FileEntry> parse_entries(std::string_view text, const std::string& origin);

/// Whether `name` may stand in a manifest: relative, at most 512 bytes, valid UTF-8 without control characters, no
/// empty part, no "." or "..", not the manifest's own name.
[[nodiscard]] bool is_valid_file_name(std::string_view name);

}  // namespace gato::checkpoint

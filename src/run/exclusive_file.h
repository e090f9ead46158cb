#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "gato/core/file.h"  // Path

namespace gato::run {

/// Puts a file with `content` at `path` unless something has that name; returns whether it did. Of any number of
/// processes, on this machine or others that share the disk, one gets true: link(2) decides, which network file systems
/// carry out on the server. A kill leaves the file whole or not at all (and a hidden one beside it). Throws IoError.
[[nodiscard]] bool create_file(const Path& path, std::string_view content);

/// Writes a file as it comes, over what has that name; `durable` adds fsync. For names that nobody reads yet. IoError.
void write_whole(const Path& path, std::string_view content, bool durable);

/// What tells a file from another that took its name.
struct FileIdentity {
  dev_t device = 0;
  ino_t number = 0;
  int64_t size = 0, changed_seconds = 0, changed_nanoseconds = 0;
  bool operator==(const FileIdentity&) const = default;
};
/// Of the file with this name; nothing when it cannot be opened. By opening it, which makes a network share ask its
/// server where the attributes of a name may be minutes old.
[[nodiscard]] std::optional<FileIdentity> file_identity(const Path& path);

/// Removes the hidden files that killed create_file() calls left in a folder. One that is at work makes its file anew.
void remove_left_by_create_file(const Path& folder);

}  // namespace gato::run

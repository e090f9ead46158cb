#pragma once
#include <string_view>

#include "gato/core/file.h"  // Path

namespace gato::run {

/// Puts a file with `content` at `path` unless something has that name; returns whether it did. Of any number of
/// processes, on this machine or others that share the disk, one gets true: link(2) decides, which network file systems
/// carry out on the server. A kill leaves the file whole or not at all (and a hidden one beside it). Throws IoError.
[[nodiscard]] bool create_file(const Path& path, std::string_view content);

/// Writes a file as it comes, over what has that name; `durable` adds fsync. For names that nobody reads yet. IoError.
void write_whole(const Path& path, std::string_view content, bool durable);

/// Removes the hidden files that killed create_file() calls left in a folder. One that is at work makes its file anew.
void remove_left_by_create_file(const Path& folder);

}  // namespace gato::run

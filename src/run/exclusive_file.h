#pragma once
#include <string_view>

#include "gato/core/file.h"  // Path

namespace gato::run {

/// Puts a file with `content` at `path` unless something has that name; returns whether it did. Of any number of
/// processes, on this machine or others that share the disk, one gets true: link(2) decides, which network file systems
/// carry out on the server. A kill leaves the file whole or not at all (and a hidden one beside it). Throws IoError.
[[nodiscard]] bool create_file(const Path& path, std::string_view content);

/// Whether `name` is that of a hidden file a killed create_file() may leave.
[[nodiscard]] bool is_left_by_create_file(std::string_view name);

}  // namespace gato::run

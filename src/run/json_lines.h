#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "gato/core/file.h"
#include "gato/core/json.h"

namespace gato::run {

inline constexpr uint64_t kMaxLinesFileBytes = uint64_t{4} << 30;
inline constexpr size_t kMaxLineBytes = size_t{16} << 20;

/// Calls `use` with every line of a file of JSON objects and a place for messages ("FILE: line 7"). A line that does
/// not parse, or for which `use` throws DataError, is skipped: a kill or a full disk may have torn it. Skipped lines
/// are counted in the result and the first is logged as a warning, but not a torn last one without a line end. A
/// missing file has no lines.
int64_t for_each_json_line(const Path& path,
                           const std::function<void(const Json& line, const std::string& where)>& use);

}  // namespace gato::run

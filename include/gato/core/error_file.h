#pragma once
#include <string>
#include <string_view>

namespace gato {

/// Writes the cause of this process's failure to `path`, where torchrun looks for it (TORCHELASTIC_ERROR_FILE) and
/// prints it: JSON with message.message and message.extraInfo.{py_callstack, timestamp}. Does nothing for "", and for a
/// file that is there (the first cause counts). Never throws: a warning is all that comes of a failure to write.
void write_error_file(const std::string& path, std::string_view message, std::string_view stacks) noexcept;

}  // namespace gato

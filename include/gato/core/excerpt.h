#pragma once
#include <string>
#include <string_view>

namespace gato {

/// `text` fit for a message: at most `max_bytes` bytes, without control characters and invalid UTF-8 (each becomes
/// '?'), on one line, with "..." where it was cut.
[[nodiscard]] std::string excerpt(std::string_view text, size_t max_bytes = 80);

}  // namespace gato

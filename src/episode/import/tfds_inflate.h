#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace gato::episode {

/// Uncompresses one zlib stream that must give exactly `out.size()` bytes; DataError starting with `origin` otherwise.
void inflate_exactly(std::string_view bytes, std::span<std::byte> out, const std::string& origin);

}  // namespace gato::episode

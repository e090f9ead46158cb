#pragma once
#include <string>

namespace gato {

[[nodiscard]] std::string version();           ///< "0.1.0".
[[nodiscard]] std::string compiler_version();  ///< "g++ 12.2.0".

}  // namespace gato

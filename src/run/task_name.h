#pragma once
#include <string_view>

namespace gato::run {

/// Whether `task` is of the form "domain/name" and safe as part of a file name: valid UTF-8, at most 200 bytes, no
/// blanks or control characters, no part that is empty or begins with a point.
[[nodiscard]] bool is_task_name(std::string_view task);

}  // namespace gato::run

#include "run/task_name.h"

#include <vector>

#include "gato/core/text.h"

namespace gato::run {

bool is_task_name(std::string_view task) {
  if (task.size() > 200 || !is_valid_utf8(task)) return false;
  const std::vector<std::string> parts = split(task, '/');
  for (const std::string& part : parts) {
    if (part.empty() || part.front() == '.') return false;
    for (const char c : part) {
      if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return false;
    }
  }
  return parts.size() >= 2;
}

}  // namespace gato::run

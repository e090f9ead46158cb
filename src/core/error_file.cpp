#include "gato/core/error_file.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "gato/core/file.h"
#include "gato/core/json.h"
#include "gato/core/log.h"

namespace gato {

void write_error_file(const std::string& path, std::string_view message, std::string_view stacks) noexcept {
  try {
    if (path.empty() || std::filesystem::exists(path)) return;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    Json json;
    json["message"]["message"] = message;
    json["message"]["extraInfo"]["py_callstack"] = stacks;  // the reader knows no other name
    json["message"]["extraInfo"]["timestamp"] =
        std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count());
    write_file_atomic(path, json.dump(-1, ' ', false, Json::error_handler_t::replace));
  } catch (const std::exception& error) {
    log::warning("core", "the cause of the failure could not be written to ", path, ": ", error.what());
  }
}

}  // namespace gato

#include "import_formats.h"

#include <charconv>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::cli {

ImageSize parse_image_size(const std::string& text) {
  if (text == "none") return {};
  ImageSize size;
  const char* end = text.data() + text.size();
  const auto height = std::from_chars(text.data(), end, size.height);
  const bool divided = height.ec == std::errc{} && height.ptr != end && *height.ptr == 'x';
  const auto width = divided ? std::from_chars(height.ptr + 1, end, size.width) : height;
  if (!divided || width.ec != std::errc{} || width.ptr != end || size.height < 1 || size.width < 1 ||
      size.height > 16384 || size.width > 16384) {
    throw ConfigError(cat("--resize ", text, ": must be HEIGHTxWIDTH such as 64x64, or none"));
  }
  return size;
}

std::string default_task(const std::string& domain, const episode::DatasetInfo& info) {
  if (info.name.empty()) throw ConfigError("--name is required: the data set's name, such as text/wiki");
  return info.name.find('/') == std::string::npos ? domain + "/" + info.name : info.name;
}

}  // namespace gato::cli
